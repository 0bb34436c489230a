"""HD-LIF: the mixture of membranes against its formula, and the batch leak of the benchmark's gate."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from config.errors import InfeasibleError
from models import ModelConfig, create_model
from models.neurons.mixture import HDLIF
from models.neurons.nodes import neuron_factory

SMALL = {"img_size": 16, "embed_dim": 16, "num_heads": 2, "depths": 1, "node_type": "HDLIFNode", "threshold": 0.5}


def layer_of(**keys: Any) -> HDLIF:
    config = ModelConfig.model_validate({"model": "spikformer_cifar", "node_type": "HDLIFNode", "step": 3, **keys})
    layer = neuron_factory(config)()
    assert isinstance(layer, HDLIF)
    return layer.double()


def currents(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def expected(layer: HDLIF, x_TBCN: Tensor, gate_inputs_BT: list[list[Tensor]]) -> Tensor:
    """Returns the spikes, value by value; `gate_inputs_BT` are the [C, N] currents that the gate of a sample gets."""
    T, B, C, N = x_TBCN.shape
    weight, bias = layer.gate.weight.detach()[:, :, 0], layer.gate.bias.detach()
    out, tau, threshold = torch.zeros_like(x_TBCN), layer.tau, layer.v_threshold
    charges = (
        lambda x, v: v + x,
        lambda x, v: v + (x - v) / tau,
        lambda x, v: v + (x - v) / tau,
        lambda x, v: v + (x - v + math.exp(v - 0.8)) / tau,
    )
    for b in range(B):
        for n in range(N):
            stacked = torch.cat([part[:, n] for part in gate_inputs_BT[b]])
            logits = (weight @ stacked + bias).tolist()
            if not layer.training:
                kept = sorted(logits)[-2:]
                logits = [logit if logit in kept else -math.inf for logit in logits]
            gates = torch.tensor(logits, dtype=torch.float64).softmax(0).tolist()
            for c in range(C):
                v = [0.0] * 4
                for t in range(T):
                    mixed = 0.0
                    for e, charge in enumerate(charges):
                        h = charge(float(x_TBCN[t, b, c, n]), v[e])
                        v[e] = (0.0 if e < 3 else -0.1) if h >= threshold else h
                        mixed += gates[e] * (threshold if v[e] == 0.0 else v[e])
                    out[t, b, c, n] = float(mixed >= 0.2)
    return out


@pytest.mark.parametrize("training", [True, False])
def test_the_output_is_the_gated_mixture_of_membranes_after_the_reset(training: bool) -> None:
    layer, x = layer_of(threshold=0.5).train(training), currents(3, 2, 4, 5)
    spikes = layer(x.reshape(3, 2, 4, 5, 1))[..., 0]
    assert torch.equal(spikes, expected(layer, x, [list(x[:, b]) for b in range(2)]))
    assert 0.0 < float(spikes.detach().mean()) < 1.0


def test_the_gate_of_the_benchmark_stacks_samples_instead_of_steps() -> None:
    layer, x = layer_of(threshold=0.5, legacy_batch_leak=True).eval(), currents(3, 2, 4, 5)
    folded = list(x.flatten(0, 1))
    assert torch.equal(layer(x.unsqueeze(-1))[..., 0], expected(layer, x, [folded[:3], folded[3:]]))


@pytest.mark.parametrize("leak", [False, True])
def test_a_sample_depends_on_its_batch_with_the_leak_only(leak: bool) -> None:
    torch.manual_seed(0)
    model = create_model({**SMALL, "model": "spikformer_cifar", "legacy_batch_leak": leak}).eval()
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(model(x)[:1], model(x[:1])) != leak


def test_gradients_reach_the_gate_the_learned_leak_and_the_currents() -> None:
    layer, x = layer_of(threshold=0.5), currents(3, 2, 4, 5).requires_grad_()
    layer(x.unsqueeze(-1)).sum().backward()
    for tensor in (x, layer.w, layer.gate.weight, layer.gate.bias):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().sum()) > 0.0


def test_a_built_model_has_all_its_parameters_and_keeps_its_mode() -> None:
    model = create_model({**SMALL, "model": "spikformer_cifar"})
    assert model.training
    gates = [module.gate.weight.shape for module in model.modules() if isinstance(module, HDLIF)]
    assert {(4, 4 * 16, 1), (4, 4 * 64, 1)} <= set(gates)
    create_model(model.config).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "keys",
    [
        {"model": "spikformer_cifar", "attn_layer": "TIM"},
        {"model": "qkformer_cifar", "embed_dim": 32, "num_heads": 2, "depths": 4, "legacy_batch_leak": True},
    ],
)
def test_what_splits_or_folds_the_steps_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(InfeasibleError, match="HDLIFNode"):
        create_model({**SMALL, **keys})
