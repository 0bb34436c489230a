"""Batches by matrix products give the executor's integers, for a small model of each family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from models.chip import dense
from models.chip.executor import execute
from models.chip.graph import Graph
from models.chip.lowering import frames
from models.chip.quantize import Precision, quantize
from tests.support.chip_graphs import attention, convolutions, images

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SSA": ("spikformer_cifar", {}),
    "SSA of counts": ("spikformer_cifar", {"node_type": "ILIFNode"}),
    "SSA of shares, a scale for each head": ("spikformer_cifar", {"node_type": "NILIFNode", "attn_scale": "head_dim"}),
    "SDSA": ("sdt_cifar", {}),
    "QKTA in a pyramid": ("qkformer_cifar", {"node_type": "PLIFNode", "tau": 1.7}),
    "DSSA": ("spikingresformer_ti", {}),
    "residual network": ("sew_resnet18", {"step": 2, "read_step": 1}),
    "events": ("sdt_dvs", {"events": True}),
    "phase code": ("spikingformer_cifar", {"encoding": "phase"}),
    "wavelets and ternary spikes": ("swformer_cifar", {}),
    "experts": ("semm_cifar", {}),
    "weights of 4 bits": ("spikformer_cifar", {"quant_bits": 4}),
    "learned positions": ("spikformer_cifar", {"pos_layer": "learned", "attn_scale": "learnable"}),
    "integer stages": ("espikeformer_t", {}),
    "merged convolutions": ("metaspikformer", {}),
}
RANGE = (-4.0, 4.0)
"""Of the random images."""


def check(graph: Graph, inputs: Any) -> None:
    found = dense.run(graph, inputs)
    for i, image in enumerate(inputs):
        run = execute(graph, image, keep=True)
        np.testing.assert_allclose(run.readout, found.logits[i], rtol=1e-12, atol=1e-12)
        for name, output in run.outputs.items():
            np.testing.assert_array_equal(output, found.spikes[name][:, i])


@pytest.mark.parametrize("kind", ["lif", "plif", "if", "ilif", "ielif"])
@pytest.mark.parametrize("make", [convolutions, attention])
def test_all_kinds_of_neurons_agree(make: Callable[..., Graph], kind: str) -> None:
    for bits in (4, 8):
        check(quantize(make(kind=kind), Precision(bits), (0.0, 1.0)), images(3))


def test_narrow_sums_saturate_alike_and_are_counted() -> None:
    graph = quantize(convolutions(kind="if"), Precision(accumulator_bits=10), (0.0, 1.0))
    check(graph, images(3))
    counts = execute(graph, images(1)[0]).layers
    assert counts["conv1"].saturated > 0
    assert counts["conv1"].peak <= 2**9


@pytest.mark.parametrize("case", CASES)
def test_a_family_in_integers_agrees(case: str, lowered: Callable[..., Any]) -> None:
    name, keys = CASES[case]
    model, graph, batch = lowered(name, **keys)
    integer = quantize(graph, Precision(4 if "4 bits" in case else 8), RANGE)
    check(integer, np.stack([frames(model, image) for image in batch]))


@pytest.mark.slow
def test_every_model_that_can_be_expressed_has_an_integer_form(any_model: str, lowered: Callable[..., Any]) -> None:
    try:
        model, graph, batch = lowered(any_model, events=any_model.endswith(("_dvs", "_dvsg")))
    except ConfigError:
        pytest.skip("cannot be expressed")
    inputs = np.stack([frames(model, image) for image in batch])
    for bits in (4, 8):
        check(quantize(graph, Precision(bits), RANGE), inputs)


@pytest.mark.parametrize("case", CASES)
def test_the_first_layers_of_a_family_in_many_bits_keep_nearly_all_spikes(
    case: str, lowered: Callable[..., Any]
) -> None:
    name, keys = CASES[case]
    model, graph, batch = lowered(name, **keys)
    inputs = np.stack([frames(model, image) for image in batch])
    precision = Precision(16, membrane_bits=36, accumulator_bits=48, input_bits=16)
    exact, found = (dense.run(one, inputs).spikes for one in (graph, quantize(graph, precision, RANGE)))
    for layer in [*exact][:3]:  # further on, the first differences grow in these untrained networks
        assert (found[layer] != exact[layer]).mean() < 0.01
