"""Released checkpoints: their keys, shapes and counts, and the outputs of the published code with them."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import ConfigError, create_model, load_published, load_weights, save_published
from models.cost.meter import count_parameters
from models.parts.backbone import SpikingModel

HERE = Path(__file__).parents[1]
GOLDEN = sorted(path.stem for path in (HERE / "golden").glob("*.npz"))
LISTINGS = sorted(path.stem for path in (HERE / "state_dicts").glob("*.txt"))
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], Tensor, Tensor]:
    """Returns a golden file's train-file keys, state dict, input and logits."""
    with np.load(HERE / "golden" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config"}
        keys = json.loads(str(file["config"]))
    state = {key.removeprefix("p/"): value for key, value in arrays.items() if key.startswith("p/")}
    return keys, state, arrays["x"], arrays["logits"]


def listing(name: str) -> tuple[dict[str, Any], int, dict[str, tuple[int, ...]]]:
    """Returns a listing's train-file keys, live parameter count, and the shape of every published key."""
    first, second, *rows = (HERE / "state_dicts" / f"{name}.txt").read_text().splitlines()
    shapes: dict[str, tuple[int, ...]] = {}
    for row in rows:
        key, *kind, shape = row.split()
        if kind:
            shapes |= {f"{key}.{part}": (int(shape),) for part in BATCH_NORM}
            shapes[f"{key}.num_batches_tracked"] = ()
        else:
            shapes[key] = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
    return json.loads(first[1:]), int(second.split()[-1]), shapes


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_equal_those_of_the_published_code(name: str) -> None:
    keys, state, x, logits = golden(name)
    model = create_model(keys).double().eval()
    load_published(model, state)
    with torch.no_grad():
        assert torch.allclose(model(x.double()), logits, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_loaded_state_is_saved_unchanged(name: str) -> None:
    keys, state, _, _ = golden(name)
    model = create_model(keys)
    load_published(model, state)
    saved = save_published(model)
    assert saved.keys() <= state.keys()
    for key, value in saved.items():
        assert value.shape == state[key].shape, key
        assert torch.equal(value, state[key].to(value.dtype)), key


@lru_cache
def without_memory(name: str) -> SpikingModel:
    """Returns the model of a listing, shapes only."""
    with torch.device("meta"):
        return create_model(listing(name)[0])


@pytest.mark.parametrize("name", LISTINGS)
def test_parameters_equal_the_published_count_less_the_dead_ones(name: str) -> None:
    assert count_parameters(without_memory(name)) == listing(name)[1]


@pytest.mark.parametrize("name", LISTINGS)
def test_a_published_state_dict_loads_and_is_saved_with_the_same_shapes(name: str) -> None:
    _, _, shapes = listing(name)
    model = without_memory(name)
    with torch.device("meta"):
        load_published(model, {key: torch.empty(shape) for key, shape in shapes.items()})
        saved = {key: tuple(value.shape) for key, value in save_published(model).items()}
    unread = re.compile(r".*\.(init_state|act\.\w+)|sml\d\..*")  # QSD's idle quantisers, STMixer's training heads
    dead = [key for key in shapes if key not in saved and not unread.fullmatch(key)]
    assert saved == {key: shape for key, shape in shapes.items() if key in saved}
    assert not any("conv" in key or "linear" in key or "head" in key.split(".")[0] for key in dead), dead


@pytest.mark.parametrize("name", GOLDEN[:1])
def test_a_missing_a_misshapen_and_an_unknown_key_are_all_named_and_change_nothing(name: str) -> None:
    keys, state, _, _ = golden(name)
    model = create_model(keys)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = [key for key in save_published(model) if key.endswith("weight")]
    missing, misshapen = weights[0], weights[-1]
    wrong = {**state, misshapen: torch.zeros(3), "nonsense": torch.zeros(1)}
    del wrong[missing]
    with pytest.raises(ConfigError) as error:
        load_published(model, wrong)
    assert f"{missing}: missing" in str(error.value)
    assert f"{misshapen}: shape must be" in str(error.value)
    assert "nonsense: not a key of" in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ---------------------------------------------------------------------------------------------- either kind of names

SMALL = {"model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "depths": 1}


@pytest.mark.parametrize("name", ["spikformer_cifar", "sdtv2"])
def test_weights_are_loaded_under_published_names_and_under_ours(name: str) -> None:
    keys, state, _, _ = golden(name)
    published, again = create_model(keys), create_model(keys)
    assert load_weights(published, state) == []
    assert load_weights(again, published.state_dict()) == []
    for key, value in again.state_dict().items():
        assert torch.equal(value, published.state_dict()[key]), key


def test_a_classifier_of_other_classes_stays_fresh_if_it_is_to_be_refitted() -> None:
    source, model = create_model({**SMALL, "num_classes": 100}), create_model(SMALL)
    for state in (source.state_dict(), save_published(source)):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(ConfigError, match=r"head\.weight is \[100, 16\] there and \[10, 16\] in the model"):
            load_weights(model, state)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert load_weights(model, state, refit=True) == ["head.weight", "head.bias"]
        assert torch.equal(model.state_dict()["head.weight"], before["head.weight"])
        name = "blocks.0.attn.q.conv.weight"
        assert torch.equal(model.state_dict()[name], source.state_dict()[name])


def test_other_mismatches_name_some_keys_with_their_shapes() -> None:
    source = create_model({**SMALL, "embed_dim": 32, "depths": 2, "num_classes": 100})
    with pytest.raises(ConfigError) as caught:
        load_weights(create_model(SMALL), source.state_dict(), refit=True)
    text = str(caught.value)
    assert "stem.chain.convs.0.weight is [4, 3, 3, 3] there and [2, 3, 3, 3] in the model" in text
    assert " more; spikformer_cifar of this config has no blocks.1.attn." in text
    assert len(text) < 700


def test_counters_of_batch_norm_may_be_missing() -> None:
    state = {key: value for key, value in create_model(SMALL).state_dict().items() if "num_batches" not in key}
    assert load_weights(create_model(SMALL), state) == []
