"""What the classifier reads: the mean over tokens, or a convolution over all tokens and steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import ConfigError, InfeasibleError, ModelConfig, check_feasible
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.readouts import SpatioTemporal

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]
FOREIGN = ["spikformer_cifar", "sdt_cifar", "qkformer_cifar", "espikeformer_t"]


def test_the_spatio_temporal_head_weighs_each_token_of_each_step() -> None:
    torch.manual_seed(0)
    layer = SpatioTemporal(3, 4, 5, fed="spikes").double().eval()
    x = torch.rand(5, 2, 3, 2, 2, dtype=torch.float64)
    expected = torch.einsum("tbcn,cnt->bc", x.flatten(3), layer.conv.weight[:, 0]) + layer.conv.bias
    assert torch.allclose(layer(x)[0], expected / (1.0 + layer.bn.eps) ** 0.5, rtol=0.0, atol=1e-12)


def test_a_kernel_smaller_than_the_map_slides_and_its_outputs_are_averaged() -> None:
    torch.manual_seed(0)
    layer = SpatioTemporal(3, 4, 5, fed="spikes").double().eval()
    x = torch.rand(5, 2, 3, 3, 2, dtype=torch.float64)
    windows = [layer(x.flatten(3)[..., i : i + 4].unflatten(3, (2, 2))) for i in range(3)]
    assert torch.allclose(layer(x), torch.stack(windows).mean(0), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_with_one_output_for_all_steps_says_so(name: str, small_model: Build, pixels: Pixels) -> None:
    model = small_model(name, head_layer="spatio_temporal").eval()
    x = pixels(model.config)
    with torch.no_grad():
        steps = model.forward_steps(x)
        assert not model.is_causal
        assert steps.shape == (3, 2, 3)
        assert all(torch.equal(step, steps[0]) for step in steps)
        assert torch.allclose(model(x), steps[0])


def test_an_early_read_out_of_such_a_head_is_refused(small_config: Callable[..., ModelConfig]) -> None:
    config = small_config("spikformer_cifar", head_layer="spatio_temporal", read_step=2)
    with pytest.raises(InfeasibleError, match=r"read_step must equal step, the head reads all steps at once"):
        check_feasible(config)


def test_maps_and_steps_of_another_size_are_refused() -> None:
    layer = SpatioTemporal(3, 4, 5, fed="spikes")
    with pytest.raises(ConfigError, match=r"each of 4 tokens and 5 steps.*\(got 1 tokens, 5 steps\)"):
        layer(torch.zeros(5, 1, 3, 1, 1))
    with pytest.raises(ConfigError, match=r"\(got 4 tokens, 3 steps\)"):
        layer(torch.zeros(3, 1, 3, 2, 2))


@pytest.mark.parametrize(("name", "reads_spikes"), [("spikformer_cifar", True), ("spikingformer_cifar", False)])
def test_the_head_counts_operations_per_spike_or_multiplications(
    name: str, reads_spikes: bool, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, head_layer="spatio_temporal")
    x = pixels(model.config)
    firing(model, x)
    tokens: list[Tensor] = []
    layer = model.get_submodule("readout")
    layer.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0]))
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    (row,) = (row for row in meter.by_layer(3) if row["name"] == "readout.conv")
    if reads_spikes:
        assert row["synops"] == pytest.approx(float(tokens[0].sum()) / 2)  # depthwise: one output per channel
        assert row["macs"] == 0
    else:
        assert (row["synops"], row["macs"]) == (0, 16 * 16 * 3)  # channels x tokens x steps
