"""Graphs of models: batch norms disappear, names are the model's, and what cannot be expressed is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from config.errors import ConfigError
from models.chip.agreement import compare
from models.chip.lowering import frames, lower
from models.parts.layers import BatchNorm

Lower = Callable[..., Any]
Build = Callable[..., Any]

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "learned steps": ("tim_dvs", {}, r"blocks\.0\.attn\.query: it mixes time steps"),
    "head over steps": ("spikformer_cifar", {"head_layer": "spatio_temporal"}, "readout: it mixes time steps"),
    "parallel neurons": ("spikformer_cifar", {"node_type": "PSN"}, r"stem\.chain\.neurons\.0: it mixes time steps"),
    "mixed neurons": ("sdt_cifar", {"node_type": "HDLIFNode"}, r"stem\.chain\.neurons\.0: it mixes time steps"),
    "rectified neurons": ("sdt_cifar", {"node_type": "KLIFNode"}, r"stem\.chain\.neurons\.0: KLIF rectifies"),
    "exponential neurons": ("sdt_cifar", {"node_type": "EIFNode"}, r"stem\.chain\.neurons\.0: EIF charges"),
    "two states": ("sdt_cifar", {"node_type": "CLIFNode"}, r"stem\.chain\.neurons\.0: CLIF has a second state"),
    "gates": ("sdt_cifar", {"node_type": "GLIFNode"}, r"stem\.chain\.neurons\.0: GLIF mixes gains"),
    "selected tokens": ("spikformer_cifar", {"token_keep": 0.5}, r"blocks\.0\.selection: which tokens it updates"),
    "leak over the batch": (
        "qkformer_cifar",
        {"legacy_batch_leak": True},
        r"stages\.2\.0\.attn\.outer_neuron: it mixes the images",
    ),
    "products of shares": ("sdt_cifar", {"node_type": "NILIFNode"}, r"blocks\.0\.attn\.kv: a product of two shares"),
    "uneven windows": ("spikformer_cifar", {"embed_layer": "sequential_embed"}, r"stem\.pool: its windows differ"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_graph_cannot_express_is_refused_by_the_name_of_the_layer(case: str, small_model: Build) -> None:
    name, keys, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        lower(small_model(name, **keys))


class Squared(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum((2, 3, 4)).flatten()[0].item() > 0 else 2 * x


class Running(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:1].expand_as(x) + x


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(x.shape[2:])


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apply: Any = Function.apply
        doubled: torch.Tensor = apply(x)
        return doubled


class AsArray(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(x) + 1.0)


def test_values_that_are_not_the_same_for_all_images_are_noticed(small_model: Build) -> None:
    model = small_model("spikformer_cifar")
    model.blocks[0].mlp = Noisy()
    with pytest.raises(ConfigError, match=r"^blocks\.0\.mlp.*other values for another image"):
        lower(model)


def test_functions_of_its_own_are_recorded_by_what_they_call(lowered: Lower) -> None:
    model, _, images = lowered("spikformer_cifar")
    model.blocks[0].mlp = Doubling()
    found = compare(model, lower(model), images)
    assert found.spikes_differ == found.synops_differ == 0
    assert found.logits_differ < 1e-12


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Softmax(2), "no operation for torch's softmax"),
        (nn.GELU(), "no operation for torch's gelu"),
        (Squared(), "multiplies two values of the image"),
        (Branching(), "mixes time steps|no operation for torch's item"),
        (Running(), "mixes time steps"),
        (AsArray(), "no operation for torch's array"),
    ],
)
def test_functions_between_layers_are_expressed_or_refused(module: nn.Module, message: str, small_model: Build) -> None:
    model = small_model("spikformer_cifar")
    model.blocks[0].mlp = module
    with pytest.raises(ConfigError, match=rf"^blocks\.0\.mlp: .*({message})"):
        lower(model)


def test_batch_norms_are_folded_into_the_layers_before_them(lowered: Lower) -> None:
    model, graph, _ = lowered("qkformer_cifar")
    norms = sum(isinstance(module, BatchNorm) for module in model.modules())
    assert norms > 20
    assert [node.name for node in graph if node.op == "scale" and "offset" in node.arrays] == []
    conv, bn = model.stages[0][0].mlp.fc1.conv, model.stages[0][0].mlp.fc1.bn
    gain = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach().double()
    node = graph["stages.0.0.mlp.fc1.conv"]
    expected = conv.weight.detach().double() * gain[:, None, None, None]
    assert torch.allclose(torch.from_numpy(node.arrays["weight"]), expected, rtol=1e-6)


def test_a_norm_behind_other_operations_stays_a_scale(lowered: Lower) -> None:
    _, graph, _ = lowered("swformer_cifar")
    scales = [node for node in graph if node.op == "scale" and "offset" in node.arrays]
    assert {node.name.split(".scale")[0] for node in scales} == {
        "blocks.0.attn.haar_forward_bn",
        "blocks.0.attn.haar_inverse_bn",
    }


def test_shares_of_integer_neurons_are_part_of_the_weights_behind_them(lowered: Lower) -> None:
    model, graph, _ = lowered("spikformer_cifar", node_type="NILIFNode")
    weight = model.blocks[0].mlp.fc2.conv.weight.detach().double()
    bn = model.blocks[0].mlp.fc2.bn
    gain = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach().double()
    found = torch.from_numpy(graph["blocks.0.mlp.fc2.conv"].arrays["weight"])
    assert torch.allclose(found, weight * gain[:, None, None, None] / 4, rtol=1e-6)
    assert graph["blocks.0.mlp.fc1.neuron"].attrs["levels"] == 4


def test_layers_keep_their_names_and_a_model_its_state(lowered: Lower) -> None:
    model, graph, images = lowered("sdt_cifar", images=1)
    names = {name for name, _ in model.named_modules()}
    assert {node.layer for node in graph if node.layer} <= names
    assert next(model.parameters()).dtype == torch.float32
    image = next(images)
    with torch.no_grad():
        before = model(image[None])
        lower(model)
        assert torch.equal(model(image[None]), before)


def test_a_graph_reads_pixels_once_and_encoded_images_step_by_step(lowered: Lower) -> None:
    model, graph, images = lowered("spikformer_cifar", images=1)
    assert frames(model, next(images)).shape == graph.input.shape
    model, graph, images = lowered("spikformer_cifar", images=1, encoding="phase")
    assert frames(model, next(images)).shape == (3, *graph.input.shape)
    assert graph.input.attrs["kind"] == "encoded"
