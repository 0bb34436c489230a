"""Token matrices: their equation, their size and their cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models import ConfigError, ModelConfig
from models.attention.token_mix import TokenMix
from models.cost.meter import Meter
from models.neurons.nodes import neuron_factory
from models.parts.backbone import SpikingModel
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


def built(small_config: Config) -> TokenMix:
    config = small_config("spikformer_cifar", attn_layer="TokenMix", num_heads=4)
    torch.manual_seed(0)
    return TokenMix(config, neuron_factory(config), stages(config)[0], Wiring()).double().eval()


def test_each_group_of_channels_is_mixed_over_tokens_by_its_own_matrix(small_config: Config) -> None:
    mixer = built(small_config)
    nn.init.constant_(mixer.fc.bn.bias, 1.5)
    seen: dict[str, Tensor] = {}
    mixer.fc.register_forward_hook(lambda module, inputs, out: seen.update(spikes=out))
    mixer.attn_neuron.register_forward_hook(lambda module, inputs, out: seen.update(mixed=inputs[0]))
    with torch.no_grad():
        mixer((torch.rand(3, 2, 16, 4, 4, dtype=torch.float64) < 0.5).double())
    weights = torch.stack([matrix.weight[:, :, 0, 0] for matrix in mixer.matrices])
    expected = torch.einsum("gnm,tbgcm->tbgcn", weights, seen["spikes"].reshape(3, 2, 4, 4, 16))
    assert 0.0 < float(seen["spikes"].mean()) < 1.0
    assert torch.allclose(seen["mixed"], expected.reshape(3, 2, 16, 4, 4), rtol=0.0, atol=1e-12)


def test_another_number_of_tokens_is_refused(small_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"each of the 16 tokens that img_size gave \(got 9\)"):
        built(small_config)(torch.zeros(3, 1, 16, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", ["stmixer_cifar", "spikformer_cifar", "qkformer_cifar"])
def test_a_spike_costs_one_operation_for_each_token(
    name: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, attn_layer="TokenMix")
    x = pixels(model.config)
    firing(model, x)
    path, mixer = next((key, part) for key, part in model.named_modules() if isinstance(part, TokenMix))
    spikes: list[Tensor] = []
    mixer.fc.register_forward_hook(lambda module, inputs, out: spikes.append(out))
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    rows = [row["synops"] for row in meter.by_layer(3) if row["name"].startswith(f"{path}.matrices.")]
    assert len(rows) == 2
    assert sum(rows) == pytest.approx(float(spikes[0].sum()) / 2 * mixer.tokens)
