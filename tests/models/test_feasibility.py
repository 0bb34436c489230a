"""Feasibility rules: sentences with the rule and the values."""

from __future__ import annotations

from typing import Any

import pytest

from models import InfeasibleError, ModelConfig, check_feasible, create_model


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"embed_dim": 24, "num_heads": 5}, r"num_heads must divide embed_dim \(got embed_dim=24, num_heads=5\)"),
        ({"embed_dim": 20, "num_heads": 2}, r"must be a multiple of 8 \(got 20, embed_dim=20\)"),
        ({"img_size": 8, "patch_size": 16}, r"patch_size <= img_size must hold \(got patch_size=16, img_size=8\)"),
        ({"depths": 0}, r"at least one block \(got depths=0\)"),
        ({"depths": [1, 2]}, r"depths must be one value.*\(got \[1, 2\]\)"),
        ({"act_function": "qpseudospike", "alpha": 1.0}, r"alpha > 1 must hold for qpseudospike.*\(got alpha=1\)"),
        ({"attn_layer": "TIM", "step": 1}, r"step >= 2 must hold \(got step=1\)"),
        ({"attn_layer": "TIM", "node_type": "PSN"}, r"TIM feeds its neurons step by step.*PSN"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused_with_the_rule_and_the_values(
    keys: dict[str, Any], rule: str
) -> None:
    with pytest.raises(InfeasibleError, match=rule):
        create_model({"model": "spikformer_cifar", **keys})


@pytest.mark.parametrize(
    ("model", "keys", "rule"),
    [
        ("qkformer_cifar", {"embed_dim": [32, 64]}, "embed_dim must be a list of 3"),
        ("qkformer_cifar", {"attn_layer": ["SSA", "QKTA"]}, "attn_layer must be a list of 3"),
        ("qkformer_cifar", {"depths": 1}, "depths is too small"),
        ("qkformer_cifar", {"patch_size": 2}, "patch_size >= 4 must hold"),
        ("qkformer_cifar", {"pooling_stat": "0011"}, "pooling_stat is for families of one stage"),
        ("qkformer_cifar", {"num_heads": 7}, r"num_heads must divide embed_dim \(got embed_dim=96, num_heads=7\)"),
        ("qkformer_dvs", {"embed_dim": 36, "num_heads": 1}, "must be a multiple of 8"),
        ("qkformer_imagenet", {"embed_dim": 12, "num_heads": 1}, "must be a multiple of 2"),
        ("metaspikformer", {"img_size": 8}, "patch_size <= img_size"),
    ],
)
def test_sizes_of_stages_are_refused_with_the_rule_and_the_values(model: str, keys: dict[str, Any], rule: str) -> None:
    with pytest.raises(InfeasibleError, match=rule):
        check_feasible(ModelConfig.model_validate({"model": model, **keys}))


def test_a_stage_without_a_block_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"every stage of sew_resnet18 must have a block"):
        create_model({"model": "sew_resnet18", "img_size": 32, "depths": [0, 1, 1, 1]})
