"""The wavelet mixer: its matrix, its equation, its counts, and the sizes that it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from models import ConfigError, InfeasibleError, ModelConfig, check_feasible, registry
from models.attention.wavelet import FATM, haar_matrix
from models.cost.meter import Meter
from models.neurons.nodes import neuron_factory
from models.neurons.ternary import Ternary
from models.parts.backbone import SpikingModel
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_the_haar_matrix_is_orthonormal_in_float32(size: int) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        matrix = haar_matrix(size)
    finally:
        torch.set_default_dtype(torch.float32)
    assert matrix.dtype == torch.float32
    assert torch.allclose(matrix @ matrix.T, torch.eye(size), atol=1e-6)


@pytest.mark.parametrize("name", ["swformer_cifar", "step_swformer_cifar"])
def test_the_haar_matrix_equals_the_published_one_to_the_bit(name: str) -> None:
    with np.load(GOLDEN / f"{name}.npz") as file:
        assert torch.equal(haar_matrix(8), torch.from_numpy(file["haar"]))


def built(small_config: Config, wiring: Wiring, **keys: Any) -> tuple[FATM, Tensor]:
    """Returns a mixer in float64 whose layers fire, and spikes to feed it."""
    config = small_config("swformer_cifar", embed_dim=16, **keys)
    (stage,) = stages(config)
    torch.manual_seed(0)
    mixer = registry.load(registry.ATTENTIONS[stage.attn_layer])(config, neuron_factory(config), stage, wiring)
    for module in mixer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 3.0)
            nn.init.uniform_(module.bias, -2.0, 4.0)
    spikes = (torch.rand(3, 2, 16, 4, 4, dtype=torch.float64) < 0.4).double()
    return mixer.double().eval(), spikes


@pytest.mark.parametrize("in_series", [False, True])
@pytest.mark.parametrize("attn_layer", ["FATM", "FATM_binary"])
def test_the_layers_see_what_the_equation_says(small_config: Config, attn_layer: str, in_series: bool) -> None:
    mixer, spikes = built(small_config, Wiring(wavelet_in_series=in_series), attn_layer=attn_layer)
    seen: dict[str, Tensor] = {}
    for name, module in mixer.named_modules():
        module.register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: out, f"{name}.in": inputs[0]})
        )
    with torch.no_grad():
        out = mixer.mix(spikes)
    around = nn.MaxPool3d((1, 3, 3), 1, (0, 1, 1)) if in_series else nn.Identity()
    s, h = around(spikes), haar_matrix(4).double()
    assert torch.allclose(seen["haar_forward.neuron.in"], torch.einsum("tbchw,vw->tbchv", s, h))
    assert torch.allclose(seen["haar_forward"], torch.einsum("uh,tbchv->tbcuv", h, seen["haar_forward.neuron"]))
    groups = seen["haar_neuron"].unflatten(2, (4, 4))
    product = torch.einsum("tbgdhw,gdk->tbgkhw", groups, mixer.haar_product.weight).flatten(2, 3)
    assert torch.allclose(seen["haar_product"], product)
    assert torch.allclose(
        seen["haar_inverse.neuron.in"], torch.einsum("tbcuv,vw->tbcuw", seen["haar_inverse.in_neuron"], h)
    )
    assert torch.allclose(seen["haar_inverse"], torch.einsum("uh,tbcuw->tbchw", h, seen["haar_inverse.neuron"]))
    wavelet = around(seen["haar_inverse_bn"])
    assert torch.equal(seen["conv1.in"], wavelet if in_series else s)
    local = seen["conv1_bn"] + seen["conv2_bn"]
    assert torch.equal(out, local if in_series else wavelet + local)
    values = {float(value) for value in seen["haar_inverse.in_neuron"].unique()}
    assert values == ({-1.0, 0.0, 1.0} if attn_layer == "FATM" else {0.0, 1.0})


def test_the_groups_of_a_shared_convolution_have_the_same_weights(small_config: Config) -> None:
    mixer, spikes = built(small_config, Wiring())
    with torch.no_grad():
        out = mixer.conv2(spikes)
        for start in range(0, 16, 4):
            group = spikes[:, :, start : start + 4]
            alone = nn.functional.conv2d(group.flatten(0, 1), mixer.conv2.weight, mixer.conv2.bias, padding=1)
            assert torch.allclose(out[:, :, start : start + 4].flatten(0, 1), alone)


@pytest.mark.parametrize("name", ["swformer_cifar", "swformer_dvs", "spikformer_cifar", "qkformer_cifar", "sdt_cifar"])
@pytest.mark.parametrize("node_type", ["LIFNode", "NILIFNode"])
def test_negative_spikes_count_by_their_absolute_value(
    name: str, node_type: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, attn_layer="FATM", node_type=node_type, embed_dim=32).double()
    x = pixels(model.config).double()
    firing(model, x)
    found: dict[str, Tensor] = {}
    neurons = {name: module for name, module in model.named_modules() if isinstance(module, Ternary)}
    for key, module in neurons.items():
        module.register_forward_hook(lambda module, inputs, out, key=key: found.update({key: out}))
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    assert any(bool((spikes < 0).any()) for spikes in found.values())
    for read_step in (1, 3):
        rows = {row["name"]: row for row in meter.by_layer(read_step)}
        for key, spikes in found.items():
            fired = float((spikes[:read_step] != 0).sum()) / len(x)
            assert rows[key]["spikes"] == pytest.approx(fired)
            transform, _, which = key.rpartition(".")
            product = "rows" if which == "in_neuron" else "columns"
            side = spikes.shape[-1]
            assert rows[f"{transform}.{product}"]["synops"] == pytest.approx(fired * side)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"img_size": 24}, "in the last stage, is a power of two"),
        ({"wavelet_groups": 3}, "wavelet_groups must divide embed_dim"),
    ],
)
def test_sizes_that_the_transform_cannot_take_are_refused(
    keys: dict[str, Any], text: str, small_config: Config
) -> None:
    with pytest.raises(InfeasibleError, match=text):
        check_feasible(small_config("swformer_cifar", **keys))


def test_a_map_of_another_size_is_refused(small_config: Config) -> None:
    mixer, spikes = built(small_config, Wiring())
    with pytest.raises(ConfigError, match=r"made for, 4 x 4 tokens \(got 2 x 4\)"):
        mixer(spikes[..., :2, :])


def lif(x: Tensor) -> Tensor:
    """The neurons of SpikingJelly, step by step."""
    node = neuron.LIFNode(2.0, True, 1.0, 0.0, surrogate.Sigmoid(alpha=4.0), detach_reset=True, step_mode="s")
    return torch.stack([node(now) for now in x])


def ternary(x: Tensor) -> Tensor:
    spike, v, out = surrogate.Sigmoid(alpha=4.0), torch.zeros_like(x[0]), []
    for now in x:
        v = v + now
        up, down = spike(v - 1.0), spike(-v - 0.501)
        out.append(up - down)
        v = v * (1.0 - up - down)
    return torch.stack(out)


def plain(mixer: FATM, x: Tensor, in_series: bool) -> Tensor:
    """Returns the mixer's output by einsum, the parts of each group of channels one by one, and plain neurons."""
    pool, h = nn.MaxPool2d(3, 1, 1), haar_matrix(4).double()

    def around(x: Tensor) -> Tensor:
        return pool(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if in_series else x

    def shared(x: Tensor, conv: nn.Conv2d) -> Tensor:
        parts = (
            nn.functional.conv2d(part.flatten(0, 1), conv.weight, conv.bias, padding=conv.padding)
            for part in x.split(4, 2)
        )
        return torch.cat(list(parts), 1).unflatten(0, x.shape[:2])

    s = around(lif(x))
    y = ternary(torch.einsum("tbchw,vw->tbchv", s, h))
    y = lif(mixer.haar_forward_bn(torch.einsum("uh,tbchv->tbcuv", h, y)))
    parts = zip(y.split(4, 2), mixer.haar_product.weight, strict=True)
    product = [torch.einsum("tbdhw,dk->tbkhw", part, weight) for part, weight in parts]
    y = ternary(mixer.haar_multiply_bn(torch.cat(product, 2)))
    y = torch.einsum("uh,tbcuw->tbchw", h, ternary(torch.einsum("tbcuv,vw->tbcuw", y, h)))
    wavelet = around(mixer.haar_inverse_bn(y))
    source = wavelet if in_series else s
    local = mixer.conv1_bn(shared(source, mixer.conv1)) + mixer.conv2_bn(shared(source, mixer.conv2))
    return local if in_series else wavelet + local


@pytest.mark.parametrize("in_series", [False, True])
def test_outputs_and_gradients_equal_those_of_plain_spikingjelly_neurons(small_config: Config, in_series: bool) -> None:
    mixer, _ = built(small_config, Wiring(wavelet_in_series=in_series))
    found = []
    for forward in (mixer, lambda x: plain(mixer, x, in_series)):
        x = torch.randn(3, 2, 16, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 1.0
        out = forward(x.requires_grad_())
        mixer.zero_grad()
        out.square().sum().backward()
        functional.reset_net(mixer)
        gradients = {name: p.grad.clone() for name, p in mixer.named_parameters() if p.grad is not None}
        found.append((out.detach(), {**gradients, "x": x.grad}))
    (out, gradients), (expected, expected_gradients) = found
    assert torch.allclose(out, expected, rtol=0.0, atol=1e-9)
    assert gradients.keys() == expected_gradients.keys() == {*dict(mixer.named_parameters()), "x"}
    for name, gradient in gradients.items():
        assert float(gradient.abs().max()) > 0.0, name
        assert torch.allclose(gradient, expected_gradients[name], rtol=1e-9, atol=1e-9), name
