"""Compiled passes: results equal to the eager ones, few graphs for any shapes, and a fallback without a compiler."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor

from models.neurons import compiled
from models.neurons.compiled import compile_neurons, compiled_fire
from models.neurons.fire import fire

SIGMOID, ATAN = surrogate.Sigmoid(alpha=3.0), surrogate.ATan(alpha=2.0)


def gradient(run: Any, x: Tensor, spike: Any, **keys: Any) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    spikes, _ = run(x, None, keys.pop("threshold", 1.0), spike, **keys)
    (spikes * torch.linspace(-1.0, 1.0, x.numel()).view_as(x)).sum().backward()
    assert x.grad is not None
    return spikes, x.grad


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("spike", [SIGMOID, ATAN])
@pytest.mark.parametrize("tau", [None, 1.7])
def test_compiled_passes_give_the_eager_ones_results(tau: float | None, spike: Any) -> None:
    x = 2.0 * torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0))
    spikes, grad = gradient(compiled_fire, x, spike, tau=tau)
    wanted, wanted_grad = gradient(fire, x, spike, tau=tau)
    assert torch.equal(spikes, wanted)
    assert torch.allclose(grad, wanted_grad, rtol=0.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("tau", [None, 1.7])
def test_gradients_flow_through_the_membranes_of_a_compiled_pass(tau: float | None) -> None:
    grads = []
    for run in (compiled_fire, fire):
        x = (2.0 * torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0))).requires_grad_()
        first, v = run(x[:1], None, 1.0, SIGMOID, tau=tau)
        second, last = run(x[1:], v, 1.0, SIGMOID, tau=tau)
        (torch.cat([first, second]).square().sum() + last.sum()).backward()
        grads.append(x.grad)
    assert grads[0] is not None
    assert grads[1] is not None
    assert torch.allclose(grads[0], grads[1], rtol=0.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_graphs_stay_few_over_many_shapes_and_constants() -> None:
    assert compiled.passes() is not None
    gradient(compiled_fire, torch.randn(4, 3, 20), SIGMOID, tau=1.5)
    stats = torch._dynamo.utils.counters["stats"]
    before = stats["unique_graphs"]
    for n in range(12):
        x = torch.randn(4, 2 + n, 5 * n + 7)
        gradient(compiled_fire, x, surrogate.Sigmoid(alpha=1.0 + n), tau=1.1 + n, threshold=0.5 + 0.1 * n)
    assert stats["unique_graphs"] - before <= 2  # one more per pass, for sizes that differ from the first


def test_without_a_compiler_there_is_one_warning_and_eager_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **keys: Any) -> Any:
        def call(*inputs: Any) -> Any:
            raise RuntimeError("no C++ compiler found")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    compiled.passes.cache_clear()
    try:
        layer = torch.nn.Identity()
        with pytest.warns(UserWarning, match=r"needs a C\+\+ compiler \(no C\+\+ compiler found\)"):
            assert not compile_neurons(layer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not compile_neurons(layer)
    finally:
        compiled.passes.cache_clear()
