"""Passes over several models: the spikes and gradients of each model's own pass."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import surrogate

from models.fused.fire import Constants, fire_many
from models.neurons.fire import CLOSED_FORMS, fire

THRESHOLD, ALPHA = [0.5, 1.0, 1.4], [1.0, 2.5, 4.0]


@pytest.mark.parametrize("function", [surrogate.Sigmoid, surrogate.ATan])
@pytest.mark.parametrize("tau", [None, [1.2, 2.0, 3.0]])
def test_each_fused_model_fires_as_a_single_one(tau: list[float] | None, function: type) -> None:
    x = 2.0 * torch.randn(4, 2, 3 * 5, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(-1.0, 1.0, x.numel()).view_as(x)
    together = x.clone().requires_grad_()
    constants = Constants.of_models(
        tau, THRESHOLD, ALPHA, CLOSED_FORMS[function], lambda values: x.new_tensor(values).repeat_interleave(5)
    )
    first, v_first = fire_many(together[:1], None, constants)
    second, v_last = fire_many(together[1:], v_first, constants)
    spikes = torch.cat([first, second])
    ((spikes * weight).sum() + v_last.square().sum()).backward()
    assert together.grad is not None
    for k in range(3):
        part = slice(5 * k, 5 * k + 5)
        alone = x[..., part].clone().requires_grad_()
        expected, v_expected = fire(
            alone, None, THRESHOLD[k], function(alpha=ALPHA[k]), tau=None if tau is None else tau[k]
        )
        ((expected * weight[..., part]).sum() + v_expected.square().sum()).backward()
        assert torch.equal(spikes[..., part], expected)
        assert torch.equal(v_last[..., part], v_expected)
        assert alone.grad is not None
        assert torch.allclose(together.grad[..., part], alone.grad, rtol=0.0, atol=1e-6)
