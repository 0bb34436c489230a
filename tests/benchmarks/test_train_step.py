"""The benchmark of the training step: what it replaces, and how it sums up."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron

from benchmarks.train_step import in_turn, ratios, summary
from benchmarks.variants import VARIANTS, make_step, variant
from models import create_model

KEYS = {"model": "spikformer_cifar", "num_classes": 3, "in_channels": 3, "img_size": 8, "patch_size": 4, "step": 2}


def test_variants_differ_in_their_neurons_only() -> None:
    torch.manual_seed(0)
    model = create_model({**KEYS, "embed_dim": 16, "num_heads": 2, "depths": 1})
    layers = {name: variant(model, name, compiled=False) for name in VARIANTS}
    count = sum(hasattr(module, "levels") for module in model.modules())
    assert sum(type(module) is neuron.LIFNode for module in layers["spikingjelly"].modules()) == count
    assert sum(isinstance(module, torch.nn.ReLU) for module in layers["relu"].modules()) == count
    x, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    ours, theirs = (make_step(layers[name], x, labels) for name in ("ours", "spikingjelly"))
    for _ in range(3):
        assert float(ours()) == pytest.approx(float(theirs()), rel=1e-4)


def test_ratios_are_medians_of_the_rounds() -> None:
    found = ratios({"ours": [1.0, 2.0, 1.0], "spikingjelly": [2.0, 4.0, 1.0], "relu": [0.5, 1.8, 0.8]})
    assert found == {"step_vs_spikingjelly": 2.0, "fraction_of_relu_limit": 0.8}
    assert summary({"a": {"eager": found}}, "eager", "_x")["step_vs_spikingjelly_x"] == 2.0
    assert summary({"a": {"eager": found}}, "compiled", "_x")["step_vs_spikingjelly_x"] is None


def test_variants_run_alternately() -> None:
    calls: list[str] = []
    clock = iter(range(100))
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, lambda: float(next(clock)))
    assert calls == ["a", "b"] * 5
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}
