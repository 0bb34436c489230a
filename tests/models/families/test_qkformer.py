"""The leak of the released QKFormer and MSViT between the images of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.cost.meter import Meter
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

KEYS = {"img_size": 16, "patch_size": 4, "attn_scale": 0.5}


@pytest.mark.parametrize("name", ["qkformer_cifar", "msvit_cifar"])
def test_the_leak_is_off_by_default_and_makes_images_of_a_batch_depend_on_each_other(
    name: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    clean = small_model(name, **KEYS).double()
    leaky = small_model(name, **KEYS, legacy_batch_leak=True).double()
    x = pixels(clean.config, batch=4).double()
    firing(clean, x)
    state = {key.replace("outer_neuron.", "outer_neuron.neuron."): value for key, value in clean.state_dict().items()}
    leaky.load_state_dict(state)
    leaky.eval()
    with torch.no_grad():
        assert torch.equal(clean(x)[:1], clean(x[:1]))
        assert torch.equal(leaky(x[:1]), clean(x[:1]))
        assert not torch.equal(leaky(x)[1:2], leaky(x[1:2]))


def test_leaky_neurons_are_counted_once_by_their_steps(small_model: Build, pixels: Pixels) -> None:
    neurons = []
    for leak in (False, True):
        model = small_model("qkformer_cifar", **KEYS, legacy_batch_leak=leak)
        with Meter(model) as meter, torch.no_grad():
            meter.forward_steps(pixels(model.config))
        rows = [row for row in meter.by_layer(read_step=3) if "neurons" in row]
        assert all(0.0 <= row["spike_rate"] <= 1.0 for row in rows)
        neurons.append(sum(row["neurons"] for row in rows))
    assert neurons[0] == neurons[1]


def test_leaky_integer_neurons_count_the_spikes_of_those_without_a_leak(small_model: Build, pixels: Pixels) -> None:
    totals = []
    for leak in (False, True):
        torch.manual_seed(0)
        model = small_model("qkformer_cifar", **KEYS, node_type="ILIFNode", legacy_batch_leak=leak)
        with Meter(model) as meter, torch.no_grad():
            meter.forward_steps(pixels(model.config, batch=1))
        totals.append(meter.totals(read_step=model.config.step))
    assert totals[0]["synops"] > 0
    for key in ("synops", "energy_mj", "spike_rate"):
        assert totals[1][key] == totals[0][key]
