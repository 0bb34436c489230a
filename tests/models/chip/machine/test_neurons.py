"""Neurons in numpy: the model's steps in float64, and steps of integers by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.chip.graph import Node
from models.chip.lowering import KINDS
from models.chip.machine.neurons import rounded_shift, saturate, step
from models.config import ModelConfig
from models.neurons.nodes import neuron_factory

Config = Callable[..., ModelConfig]


def run(node: Node, currents: Any) -> list[Any]:
    v, out = np.zeros_like(currents[0]), []
    for x in currents:
        spikes, v, _, _ = step(node, x, v)
        out.append(spikes)
    return out


def node_of(kind: str, threshold: Any, **attrs: Any) -> Node:
    return Node("n", "neuron", (1,), ("x",), {"threshold": np.asarray(threshold)}, {"kind": kind, "levels": 1, **attrs})


@pytest.mark.parametrize(
    ("node_type", "kind", "attrs"),
    [
        ("LIFNode", "lif", {"tau": 1.3}),
        ("IFNode", "if", {}),
        ("PLIFNode", "plif", {}),
        ("ILIFNode", "ilif", {"levels": 4, "keep": 1.0 - 1.0 / 1.3}),
        ("IELIFNode", "ielif", {"levels": 4}),
    ],
)
def test_the_steps_are_the_models_to_the_bit(
    node_type: str, kind: str, attrs: dict[str, Any], small_config: Config
) -> None:
    module: Any = neuron_factory(small_config("spikformer_cifar", node_type=node_type, tau=1.3))(0.7).double()
    assert KINDS[type(module)] == kind
    if kind == "plif":
        attrs = {"decay": float(module.w.detach().sigmoid())}
    generator = torch.Generator().manual_seed(0)
    currents = torch.randint(-40, 60, (9, 5000), generator=generator).double() / 16  # whose sums meet the threshold
    with torch.no_grad():
        expected = module(currents) / getattr(module, "unit", 1.0)
    assert 0 < expected.mean() < 4
    assert np.array_equal(run(node_of(kind, 0.7, **attrs), currents.numpy()), expected.numpy())


def test_integers_leak_by_a_fixed_point_factor_with_halves_rounded_up() -> None:
    node = node_of("lif", 10, keep_numerator=3, keep_shift=2)
    v = np.array([6, -6, 8])
    result = step(node, np.array([1, 1, 4]), v)
    assert result.charged.tolist() == [6, -3, 10]  # 4.5, -4.5, 6 before the currents
    assert result.output.tolist() == [0, 0, 1]
    assert result.membrane.tolist() == [6, -3, 0]


@pytest.mark.parametrize(("kind", "expected"), [("ilif", [0, 0, 2, 2, 4, 0]), ("ielif", [0, 1, 2, 3, 4, 0])])
def test_integers_count_spikes_by_exact_ratios(kind: str, expected: list[int]) -> None:
    node = node_of(kind, 2, levels=4)
    h = np.array([0, 1, 3, 5, 100, -7])  # 0, 1/2, 3/2, 5/2, beyond D, below 0
    result = step(node, h, np.zeros_like(h))
    assert result.output.tolist() == expected
    after = (h - 2 * np.array(expected)).tolist() if kind == "ilif" else [0] * 6
    assert result.membrane.tolist() == after


def test_ternary_neurons_fire_both_signs() -> None:
    node = node_of("ternary", 1.0, low_threshold=0.5)
    assert run(node, np.array([[0.9, -0.4, -0.5], [0.1, -0.2, 0.4]]))[1].tolist() == [1.0, -1.0, 0.0]


def test_values_beyond_their_bits_saturate_and_are_counted() -> None:
    limited, count = saturate(np.array([-200, -128, 0, 127, 128]), 8)
    assert limited.tolist() == [-128, -128, 0, 127, 127]
    assert count == 2
    result = step(node_of("if", 1000, bits=8), np.array([100, 90]), np.array([100, -10]))
    assert (result.charged.tolist(), result.saturated) == ([127, 80], 1)


def test_a_shift_rounds_halves_up() -> None:
    x = np.arange(-9, 10)
    assert rounded_shift(x, 2).tolist() == np.floor(x / 4 + 0.5).astype(int).tolist()
    assert rounded_shift(x, 0) is x
