"""Fused models: logits and gradients of each member, shared weights, and layers that cannot be fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ConfigError
from models.fused.model import FusedModel
from models.neurons import multistep
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("spikformer_cifar", {"pos_layer": "learned"}),
        ("sdt_cifar", {}),
        ("qkformer_cifar", {}),
        ("msvit_cifar", {}),
        ("tim_dvs", {}),
        ("swformer_cifar", {}),
        ("swformer_dvs", {"act_function": "atan"}),
        ("metaspikformer", {"act_function": "atan"}),
        ("sglformer_cifar", {}),
        ("sglformer_cifar", {"variant": "step", "img_size": 8}),
        ("semm_cifar", {}),
        ("stmixer_cifar", {}),
        ("spikformer_cifar", {"embed_layer": "vit_embed"}),
        ("sdt_cifar", {"embed_layer": "conv2_embed"}),
    ],
)
def test_each_member_has_its_own_logits_and_gradients(
    name: str, keys: dict[str, Any], small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    members = [small_model(name, tau=1.5 + 0.5 * k, threshold=0.8 + 0.1 * k, **keys).double() for k in range(3)]
    inputs = [pixels(member.config, seed=k).double() for k, member in enumerate(members)]
    for member, x in zip(members, inputs, strict=True):
        firing(member, x)
    expected = [member(x) for member, x in zip(members, inputs, strict=True)]
    for logits in expected:
        logits.square().sum().backward()
    fused = FusedModel(members).eval()
    logits = fused(inputs)
    logits.square().sum().backward()
    assert torch.allclose(logits, torch.stack(expected, 1), rtol=0.0, atol=1e-9)
    parts = {key: p.grad.chunk(3) for key, p in fused.body.named_parameters() if p.grad is not None}
    for k, member in enumerate(members):
        gradients = {key: p.grad for key, p in member.named_parameters() if p.grad is not None}
        assert gradients.keys() == parts.keys()
        largest = max(float(gradient.abs().max()) for gradient in gradients.values())
        for key, gradient in gradients.items():
            assert torch.allclose(parts[key][k], gradient, rtol=1e-6, atol=1e-9 * largest), key


@pytest.mark.usefixtures("interpreted_kernels")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in Triton's interpreter
@pytest.mark.parametrize("name", [pytest.param("spikformer_cifar", marks=pytest.mark.slow), "tim_dvs"])
def test_on_the_kernels_of_cuda_each_member_has_the_logits_and_gradients_of_the_cpu(
    name: str, small_model: Build, pixels: Pixels, firing: Firing, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"embed_dim": 8} if name == "tim_dvs" else {}
    members = [small_model(name, tau=1.5 + 0.5 * k, threshold=0.8 + 0.1 * k, **keys) for k in range(2)]
    inputs = [pixels(member.config, seed=k) for k, member in enumerate(members)]
    for member, x in zip(members, inputs, strict=True):
        firing(member, x)
    fused = FusedModel(members).eval()
    found = []
    for has_kernels in (True, False):
        monkeypatch.setattr(multistep, "_has_kernels", lambda device, value=has_kernels: value)
        logits = fused(inputs)
        found.append((logits, torch.autograd.grad(logits.square().sum(), list(fused.parameters()), allow_unused=True)))
    (logits, grads), (expected, expected_grads) = found
    assert torch.allclose(logits, expected, rtol=0.0, atol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected_grads if gradient is not None)
    for gradient, wanted in zip(grads, expected_grads, strict=True):
        if wanted is None:
            assert gradient is None
        else:
            assert gradient is not None
            assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-5 * largest)


def test_members_follow_the_fused_weights(small_model: Build) -> None:
    members = [small_model("spikformer_cifar") for _ in range(2)]
    fused = FusedModel(members)
    with torch.no_grad():
        for p in fused.parameters():
            p.fill_(0.5)
    assert all(bool((p == 0.5).all()) for member in members for p in member.parameters())


@pytest.mark.parametrize("node_type", ["PLIFNode", "KLIFNode", "PSN"])
def test_other_neurons_are_refused(node_type: str, small_model: Build) -> None:
    with pytest.raises(ConfigError, match="cannot be one of several models trained as one"):
        FusedModel([small_model("spikformer_cifar", node_type=node_type) for _ in range(2)])
