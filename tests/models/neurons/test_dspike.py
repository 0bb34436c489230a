"""Dspike: its gradient, and that of the released STMixer's neuron."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models import ModelConfig
from models.neurons.dspike import DSpike
from models.neurons.nodes import neuron_factory


@pytest.mark.parametrize("alpha", [0.1, 2.0, 5.0, 20.0])
def test_spikes_have_the_gradient_of_a_function_that_rises_from_0_to_1(alpha: float) -> None:
    x = torch.linspace(-0.8, 0.8, 200, dtype=torch.float64).requires_grad_()
    spikes, smooth = DSpike(alpha)(x), DSpike(alpha, spiking=False)(x)
    assert torch.equal(spikes, (x >= 0.0).double())
    (ours,), (expected,) = (torch.autograd.grad(out.sum(), x) for out in (spikes, smooth))
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours[x.detach().abs() > 0.5], torch.zeros(int((x.detach().abs() > 0.5).sum())).double())
    ends = DSpike.primitive_function(torch.tensor([-0.5, 0.5], dtype=torch.float64), alpha)
    assert torch.allclose(ends, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0.0, atol=1e-12)


def released(x: Tensor, gamma: float = 2.5) -> Tensor:
    """STMixer's neuron as released: `m = 0.5 m + x`, spikes at 1, Dspike on `abs(m - 1) <= 1`; its reset detached."""
    m, out = torch.zeros_like(x[0]), []
    for now in x:
        m = 0.5 * m + now
        over = m - 1.0
        soft = torch.where(over.abs() <= 1.0, torch.tanh(gamma * over) / (2.0 * math.tanh(gamma)), 0.0)
        out.append((over >= 0.0).to(x) + soft - soft.detach())
        m = m * (1.0 - out[-1].detach())
    return torch.stack(out)


def test_with_alpha_5_it_is_the_gradient_of_the_released_stmixer() -> None:
    config = ModelConfig.model_validate({"model": "stmixer_cifar", "act_function": "dspike", "alpha": 5.0})
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(4, 500, generator=generator, dtype=torch.float64) for _ in range(2))
    grads = []
    for neuron in (neuron_factory(config)(), released):
        currents = (2.0 * x).requires_grad_()
        spikes = neuron(currents)
        (grad,) = torch.autograd.grad((spikes * weight).sum(), currents)
        grads.append((spikes.detach(), grad))
    (ours, our_grad), (theirs, their_grad) = grads
    assert torch.equal(ours, theirs.round())
    assert 0.1 < float(ours.mean()) < 0.9
    assert torch.allclose(our_grad, their_grad, rtol=1e-9, atol=1e-12)
    assert float(our_grad.abs().max()) > 0.1
