"""The fused pass against SpikingJelly's neurons: equal spikes, gradients within rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor

from models import ModelConfig, registry
from models.neurons import fire
from models.neurons.nodes import neuron_factory

NODES = ["LIFNode", "IFNode", "PLIFNode"]
SURROGATES = sorted(registry.SURROGATES)


def pair(node_type: str, threshold: float = 0.8, **keys: Any) -> tuple[Any, Any]:
    """Returns a layer of ours and SpikingJelly's with the same values."""
    keys = {"model": "spikformer_cifar", "node_type": node_type, "tau": 1.7, "threshold": threshold, **keys}
    ours: Any = neuron_factory(ModelConfig.model_validate(keys))()
    shared = (threshold, 0.0, ours.surrogate_function, True, "m")
    if node_type == "IFNode":
        return ours, neuron.IFNode(*shared)
    theirs = neuron.LIFNode if node_type == "LIFNode" else neuron.ParametricLIFNode
    return ours, theirs(keys["tau"], True, *shared)


def sample(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return 2.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same(ours: Any, theirs: Any, x: Tensor, *, tolerance: float = 1e-6) -> None:
    """Holds a layer against SpikingJelly's on one input: spikes to the bit, gradients to `tolerance` of the largest."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = sample(*x.shape, seed=1).to(x.dtype)
    spikes, wanted = ours(a), theirs(b)
    assert torch.equal(spikes, wanted)
    assert torch.equal(membranes(ours), membranes(theirs))
    (spikes * weight).sum().backward()
    (wanted * weight).sum().backward()
    close(a.grad, b.grad, tolerance)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine.grad, other.grad, 10 * tolerance)  # a sum over all neurons and steps


def membranes(layer: Any) -> Tensor:
    """Returns the membranes after the last step, which ours writes when they are read."""
    v: Tensor = layer.v()[0] if callable(layer.v) else layer.v
    return v


def close(found: Tensor | None, wanted: Tensor | None, tolerance: float) -> None:
    assert found is not None
    assert wanted is not None
    assert float((found - wanted).abs().max()) <= tolerance * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("act_function", SURROGATES)
@pytest.mark.parametrize("node_type", NODES)
def test_every_surrogate_gives_spikingjellys_spikes_and_gradients(node_type: str, act_function: str) -> None:
    ours, theirs = pair(node_type, act_function=act_function, alpha=3.0)
    x = sample(5, 2, 7, 3)
    assert 0.1 < float(ours(x).detach().mean()) < 0.9
    ours.reset()
    same(ours, theirs, x)


@pytest.mark.parametrize("shape", [(1, 3), (4, 2, 6), (6, 2, 3, 5, 5), (16, 1, 1)])
@pytest.mark.parametrize("tau", [1.1, 2.0, 3.7])
@pytest.mark.parametrize("node_type", NODES)
def test_spikes_are_equal_for_all_steps_shapes_and_leaks(node_type: str, tau: float, shape: tuple[int, ...]) -> None:
    same(*pair(node_type, tau=tau), sample(*shape))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0, 1.3])
@pytest.mark.parametrize("alpha", [1.0, 2.7, 8.0])
@pytest.mark.parametrize("act_function", ["sigmoid", "atan"])
def test_spikes_are_equal_for_all_thresholds_and_slopes(act_function: str, alpha: float, threshold: float) -> None:
    same(*pair("LIFNode", threshold, act_function=act_function, alpha=alpha), sample(4, 3, 50))


@pytest.mark.parametrize("node_type", NODES)
def test_in_float64_the_gradients_agree_to_its_rounding(node_type: str) -> None:
    ours, theirs = (layer.double() for layer in pair(node_type))
    same(ours, theirs, sample(5, 2, 7, dtype=torch.float64), tolerance=1e-14)


@pytest.mark.parametrize("node_type", NODES)
def test_the_block_size_changes_nothing(node_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fire, "BLOCK", 32)
    same(*pair(node_type), sample(4, 3, 19))


@pytest.mark.parametrize("node_type", NODES)
def test_input_need_not_be_contiguous(node_type: str) -> None:
    same(*pair(node_type), sample(1, 3, 8).expand(4, 3, 8))
    same(*pair(node_type), sample(8, 3, 4).transpose(0, 2))


@pytest.mark.parametrize("node_type", NODES)
def test_without_a_gradient_the_spikes_are_the_same(node_type: str) -> None:
    ours, theirs = pair(node_type)
    x = sample(4, 3, 200)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
        assert torch.equal(ours(x), theirs(x))  # from the membranes of the first call


@pytest.mark.parametrize("node_type", NODES)
def test_gradients_from_a_given_membrane(node_type: str) -> None:
    ours, theirs = pair(node_type)
    with torch.no_grad():
        ours(sample(2, 3, 50)), theirs(sample(2, 3, 50))
    same(ours, theirs, sample(3, 3, 50, seed=2))


@pytest.mark.parametrize("act_function", ["sigmoid", "atan", "rect"])
@pytest.mark.parametrize("node_type", NODES)
def test_gradients_flow_through_the_membranes_of_calls_in_a_row(node_type: str, act_function: str) -> None:
    whole, pieces = pair(node_type, act_function=act_function)[1], pair(node_type, act_function=act_function)[0]
    a, b = (sample(6, 3, 50).requires_grad_() for _ in range(2))
    weight = sample(6, 3, 50, seed=1)
    wanted = whole(a)
    spikes = torch.cat([pieces(part) for part in b.split([2, 1, 3])])
    for out, layer in ((wanted, whole), (spikes, pieces)):
        ((out * weight).sum() + membranes(layer).square().sum()).backward()  # the last membranes are an output too
    assert torch.equal(spikes, wanted)
    close(b.grad, a.grad, 1e-6)
    for mine, other in zip(pieces.parameters(), whole.parameters(), strict=True):
        close(mine.grad, other.grad, 1e-5)


def test_membranes_alone_have_a_gradient() -> None:
    ours, theirs = pair("LIFNode")
    a, b = (sample(3, 50).requires_grad_() for _ in range(2))
    ours(a), theirs(b)
    membranes(ours).sum().backward(), membranes(theirs).sum().backward()
    close(a.grad, b.grad, 1e-6)


def test_a_second_backward_pass_is_refused() -> None:
    ours, _ = pair("LIFNode")
    out = ours(sample(2, 3).requires_grad_()).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize("node_type", NODES)
def test_membranes_are_not_computed_unless_a_next_call_reads_them(node_type: str) -> None:
    ours, theirs = pair(node_type)
    x, weight = sample(3, 2, 5), sample(3, 2, 5, seed=1)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(a)
    assert not isinstance(ours.v, Tensor)
    theirs(b)
    second, wanted = ours(0.5 * a), theirs(0.5 * b)
    assert torch.equal(second, wanted)
    assert isinstance(ours.v, Tensor)  # from the second call on they are kept at once
    (second * weight).sum().backward()
    (wanted * weight).sum().backward()
    close(a.grad, b.grad, 1e-5)  # through the membranes, too


def test_membranes_of_an_evaluation_are_kept() -> None:
    ours, theirs = pair("LIFNode")
    with torch.no_grad():
        ours(sample(3, 7)), theirs(sample(3, 7))
    assert torch.equal(ours.v, theirs.v)
