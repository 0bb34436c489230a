"""Ternary neurons: spikes, ties and gradients, against a plain loop over SpikingJelly's surrogate."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor

from models.neurons.ternary import Ternary


def plain(x: Tensor, threshold: float, alpha: float) -> Tensor:
    """Returns the spikes step by step, with a hard reset that passes gradients."""
    spike, v, out = surrogate.Sigmoid(alpha=alpha), torch.zeros_like(x[0]), []
    for now in x:
        h = v + now
        positive, negative = spike(h - threshold), spike(-h - 0.501)
        out.append(positive - negative)
        v = (1.0 - (positive + negative)) * h
    return torch.stack(out)


@pytest.mark.parametrize(("threshold", "alpha"), [(1.0, 4.0), (0.5, 2.5)])
def test_spikes_and_gradients_equal_those_of_a_plain_loop(threshold: float, alpha: float) -> None:
    x = torch.randn(5, 2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for neuron in (Ternary(threshold, surrogate.Sigmoid(alpha=alpha)), lambda x: plain(x, threshold, alpha)):
        currents = x.clone().requires_grad_()
        spikes = neuron(currents)
        (spikes * torch.linspace(-1.0, 1.0, spikes.numel(), dtype=x.dtype).view_as(spikes)).sum().backward()
        found.append((spikes.detach(), currents.grad))
    (spikes, gradient), (expected, expected_gradient) = found
    assert {float(value) for value in spikes.unique()} == {-1.0, 0.0, 1.0}
    assert torch.equal(spikes, expected)
    assert gradient is not None
    assert expected_gradient is not None
    assert torch.allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


def test_a_sum_of_exactly_the_negative_threshold_does_not_fire_and_one_of_the_positive_does() -> None:
    neuron = Ternary(1.0, surrogate.Sigmoid())
    assert neuron(torch.tensor([[-0.5, 1.0, 0.0, -0.502]])).tolist() == [[0.0, 1.0, 0.0, -1.0]]


def test_the_membrane_is_kept_without_leak_and_reset_by_either_spike() -> None:
    neuron = Ternary(1.0, surrogate.Sigmoid())
    x = torch.tensor([[0.6, -0.4], [0.6, -0.4], [0.6, 0.9], [0.6, 0.2]])
    assert neuron(x).T.tolist() == [[0.0, 1.0, 0.0, 1.0], [0.0, -1.0, 0.0, 1.0]]


def test_a_run_in_pieces_equals_a_run_at_once() -> None:
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    neuron = Ternary(1.0, surrogate.Sigmoid())
    whole = neuron(x)
    neuron.reset()
    assert torch.equal(torch.cat([neuron(x[:2]), neuron(x[2:])]), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_an_fp32_membrane_and_the_inputs_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(1)).to(dtype)
    neuron, reference = Ternary(1.0, surrogate.Sigmoid()), Ternary(1.0, surrogate.Sigmoid())
    spikes = neuron(x)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), reference(x.float()))
    assert neuron.v is not None
    assert neuron.v.dtype == torch.float32
