"""Neurons: output ranges, states, and the neuron keys of a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from models import ModelConfig, registry
from models.cost.counters import levels
from models.neurons.nodes import neuron_factory
from models.neurons.ternary import Ternary
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
NEURONS = sorted(registry.NEURONS)
SURROGATES = sorted(registry.SURROGATES)
BASE = {"model": "spikformer_cifar", "step": 5}


def layer_of(node_type: str, **keys: Any) -> nn.Module:
    """Returns one layer of neurons as the models make them."""
    config = ModelConfig.model_validate({**BASE, "node_type": node_type, **keys})
    return neuron_factory(config)()


def current(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("node_type", NEURONS)
def test_outputs_are_counts_up_to_the_levels(node_type: str) -> None:
    layer = layer_of(node_type).double()
    counts = layer(current(5, 2, 3, 4, 4)).detach() / getattr(layer, "unit", 1.0 / levels(layer))
    assert torch.equal(counts, counts.round())
    assert float(counts.min()) >= 0.0
    assert 1.0 <= float(counts.max()) <= levels(layer)


@pytest.mark.parametrize("node_type", NEURONS)
@pytest.mark.parametrize("shape", [(5, 2, 6), (5, 2, 6, 3, 3), (5, 2, 2, 9, 3)])
def test_neurons_take_maps_tokens_and_heads(node_type: str, shape: tuple[int, ...]) -> None:
    assert layer_of(node_type).double()(current(*shape)).shape == shape


@pytest.mark.parametrize("act_function", SURROGATES)
def test_every_surrogate_passes_a_finite_gradient(act_function: str) -> None:
    layer = layer_of("LIFNode", act_function=act_function, alpha=2.0)
    x = current(5, 2, 50).float().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().sum()) > 0.0


@pytest.mark.parametrize("node_type", sorted(set(NEURONS) - registry.ACAUSAL_NEURONS - {"PSN"}))
def test_a_run_in_pieces_equals_a_run_at_once(node_type: str) -> None:
    x = current(5, 2, 3, 4, 4)
    torch.manual_seed(0)
    layer = layer_of(node_type).double()
    whole = layer(x)
    functional.reset_net(layer)
    assert torch.equal(torch.cat([layer(x[:2]), layer(x[2:3]), layer(x[3:])]), whole)


KEYS = {"tau": 1.6, "threshold": 0.7, "alpha": 2.5}


@pytest.mark.parametrize("node_type", NEURONS)
def test_neuron_keys_reach_every_neuron(any_wiring: str, node_type: str, small_model: Build) -> None:
    has = registry.NEURON_KEYS[node_type]
    special = {"attn_threshold": 0.7, "tim_threshold": 0.7}
    model = small_model(any_wiring, node_type=node_type, **KEYS, **special)
    layers = [module for module in model.modules() if levels(module)]
    assert layers
    for layer in layers:
        if "tau" in has and not isinstance(layer, Ternary):
            assert decay(layer) == pytest.approx(1.0 / 1.6)
        if "threshold" in has:
            assert threshold(layer) == pytest.approx(0.7)
        if "alpha" in has:
            assert layer.surrogate_function.alpha == 2.5


def test_the_attention_threshold_reaches_the_neurons_after_attention_only(any_model: str, small_model: Build) -> None:
    model = small_model(any_model, attn_threshold=0.3, tim_threshold=0.9, threshold=0.9)
    names = {key for key, layer in model.named_modules() if levels(layer) and threshold(layer) == pytest.approx(0.3)}
    assert all("attn" in key for key in names)
    attentions = model.config.attn_layer
    for attention in (attentions,) if isinstance(attentions, str) else attentions:
        assert names or "attn_threshold" not in registry.ATTENTION_KEYS[attention]


def decay(layer: Any) -> float:
    """Returns 1/tau of a layer, whether fixed or learned."""
    return float(layer.w.detach().sigmoid()) if hasattr(layer, "w") else 1.0 / float(layer.tau)


def threshold(layer: Any) -> float:
    """Returns the firing threshold of a layer, whether fixed or learned."""
    return float(layer.v_threshold) if hasattr(layer, "v_threshold") else float(-layer.bias.detach().mean())


@pytest.mark.parametrize(
    ("currents", "spikes", "membranes"),
    [
        ((0.6, 1.1, 0.9, 0.4), [0, 1, 0, 0], [0.524664, -0.1, 0.603285, 0.912355]),
        ((1.5, 0.2, 3.0, 1.0), [0, 1, 1, 0], [0.974664, -0.1, -0.1, 0.653285]),
    ],
)
def test_eif_has_the_membranes_of_the_benchmark(
    currents: tuple[float, ...], spikes: list[int], membranes: list[float]
) -> None:
    layer = layer_of("EIFNode")
    found = [(float(layer(torch.tensor([[x]], dtype=torch.float64))), float(layer.v)) for x in currents]
    assert [spike for spike, _ in found] == spikes
    assert [v for _, v in found] == pytest.approx(membranes, abs=1e-6)


def test_glif_is_initialised_from_torchs_generator_only() -> None:
    torch.manual_seed(5)
    first = layer_of("GLIFNode").state_dict()
    torch.manual_seed(5)
    assert all(torch.equal(value, first[key]) for key, value in layer_of("GLIFNode").state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("node_type", NEURONS)
def test_half_precision_keeps_an_fp32_membrane_and_the_inputs_dtype(node_type: str, dtype: torch.dtype) -> None:
    layers, x = [], current(5, 2, 50).to(dtype)
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(layer_of(node_type))
    with torch.autocast("cpu", torch.bfloat16):
        spikes = layers[0](x)
    layers[1].load_state_dict(layers[0].state_dict())  # weights that are created at the first call
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), layers[1](x.float()))
    for name in {"PSN": (), "HDLIFNode": (), "IELIFNode": (), "CLIFNode": ("v", "m")}.get(node_type, ("v",)):
        state = getattr(layers[0], name)
        assert (state()[0] if callable(state) else state).dtype == torch.float32  # not yet written in a training


@pytest.mark.parametrize("act_function", SURROGATES)
def test_spikes_of_every_surrogate_keep_half_precision(act_function: str) -> None:
    x = current(3, 50).bfloat16().requires_grad_()
    spikes = layer_of("LIFNode", act_function=act_function, alpha=2.0)(x)
    spikes.sum().backward()
    assert spikes.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
