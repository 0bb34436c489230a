"""Keys that stems and MLPs read, as their construction shows."""

from __future__ import annotations

import pytest

from models import ModelConfig, registry
from models.catalogue.reads import mlp_keys, stem_keys


@pytest.mark.parametrize("name", sorted(registry.STEMS))
def test_every_stem_reads_its_width_and_channels(name: str) -> None:
    assert {"embed_dim", "in_channels"} <= set(stem_keys(name)) <= ModelConfig.model_fields.keys()


def test_only_the_stems_of_four_stages_read_their_poolings() -> None:
    assert "pooling_stat" in stem_keys("SPS")
    assert "pooling_stat" not in stem_keys("Prologue")


@pytest.mark.parametrize("name", sorted(registry.MLPS))
def test_every_mlp_reads_its_ratio_but_no_key_of_an_attention(name: str) -> None:
    assert "mlp_ratio" in mlp_keys(name)
    assert "attn_scale" not in mlp_keys(name)
