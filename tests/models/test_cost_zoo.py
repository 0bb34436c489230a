"""The meter over the zoo, against the definition: what a layer gives when every weight is 1 and every bias 0."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models import ModelConfig, create_model, registry
from models.cost.counters import levels, spikes_per_value
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head, SpikeMatmul

Build = Callable[..., SpikingModel]
Config = Callable[..., ModelConfig]
Draw = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]
FIRST = {name.split("_")[0]: name for name in sorted(registry.MODELS, reverse=True)}.values()
MODELS = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in sorted(registry.MODELS)]
"""Every model, those beyond one a family only in the slow tests: small, they differ little."""


def ones(layer: nn.Module) -> nn.Module:
    """Returns the layer with weights of 1, without bias and gain."""
    plain = copy.deepcopy(layer)
    plain._forward_hooks.clear()
    for name, value in plain.named_parameters():
        nn.init.constant_(value, float(name == "weight"))
    if isinstance(plain, Head):
        plain.gain = 1.0
    return plain


def expected_of(model: SpikingModel, x: Tensor, steps: int) -> dict[str, float]:
    """Returns the operations of each layer fed spikes, summed over images and the first steps, by their definition.

    A layer that is called step by step, with fewer than the model's steps, works in the last ones.
    """
    calls: dict[str, list[tuple[int, Callable[[int], float]]]] = {}
    per_value = max(spikes_per_value(module) for module in model.modules() if levels(module))

    def weights(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
            given = ones(module)(inputs[0])
            calls.setdefault(name, []).append((len(out), lambda t: float(given[:t].sum()) * per_value))

        return hook

    def product(name: str, kinds: tuple[str, ...]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, Tensor], out: Tensor) -> None:
            a, b = inputs
            met = (a @ torch.ones_like(b), torch.ones_like(a) @ b)
            spiking = [x for x, kind in zip(met, kinds, strict=True) if kind == "spikes"]
            calls.setdefault(name, []).append(
                (len(out), lambda t: per_value * min(float(x[:t].sum()) for x in spiking))
            )

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Conv | Head) and module.fed == "spikes":
            handles.append(module.register_forward_hook(weights(name)))
        elif isinstance(module, SpikeMatmul):
            handles.append(module.register_forward_hook(product(name, module.kinds)))
    with torch.no_grad():
        model.forward_steps(x)
    for handle in handles:
        handle.remove()
    counts = {}
    for name, made in calls.items():
        begin, counts[name] = model.config.step - sum(its_steps for its_steps, _ in made), 0.0
        for its_steps, count in made:
            counts[name] += count(max(0, steps - begin))
            begin += its_steps
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_fed_spikes_counts_what_its_definition_says(
    name: str, small_model: Build, pixels: Draw, firing: Firing
) -> None:
    model = small_model(name, attn_scale=1.0)
    x = pixels(model.config)
    firing(model, x)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    for steps in (1, 2, 3):
        expected = expected_of(model, x, steps)
        counted = {row["name"]: row["synops"] * len(x) for row in meter.by_layer(steps) if "synops" in row}
        assert sum(expected.values()) > 0.0
        for layer, operations in expected.items():
            assert counted[layer] == pytest.approx(operations, rel=1e-6), (layer, steps)


@pytest.mark.parametrize("name", MODELS)
def test_a_neuron_counts_whole_spikes_and_the_rate_is_a_share(
    name: str, small_model: Build, pixels: Draw, firing: Firing
) -> None:
    for node_type in ("LIFNode", "ILIFNode", "NILIFNode"):
        model = small_model(name, node_type=node_type)
        x = pixels(model.config)
        firing(model, x)
        with Meter(model) as meter, torch.no_grad():
            meter.forward_steps(x)
        spikes = [count for layer in meter.layers.values() if layer.neurons for count in layer.sums["spikes"]]
        assert all(count == round(count) for count in spikes)
        assert 0.0 < meter.totals(read_step=3)["spike_rate"] < 1.0


@pytest.mark.parametrize("name", MODELS)
def test_costs_of_shapes_are_known_without_computing(name: str, small_config: Config) -> None:
    config = small_config(name)
    with torch.device("meta"), torch.no_grad():
        model = create_model(config).eval()
        with Meter(model) as meter:
            meter.forward_steps(torch.empty(1, config.in_channels, config.img_size, config.img_size))
    assert sum(layer.neurons for layer in meter.layers.values()) > 0
