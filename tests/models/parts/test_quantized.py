from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import create_model
from models.neurons.quantizer import IELIF
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head
from models.parts.quantized import LearnedStepQuantizer
from trainers.config import TrainConfig
from trainers.fused.eligibility import obstacle

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]


def weights() -> Tensor:
    return torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("bits", "largest"), [(2, 1), (4, 7), (8, 127)])
def test_quantised_weights_are_whole_multiples_of_the_step_of_their_output(bits: int, largest: int) -> None:
    quantizer = LearnedStepQuantizer(weights(), bits)
    quantizer.alpha.data *= torch.tensor([0.3, 0.7, 1.0, 1.5, 3.0])
    found = quantizer(weights()).detach()
    for output in range(5):
        alpha = float(quantizer.alpha[output].detach())
        expected = [
            alpha * max(-largest - 1, min(largest, round(float(w) / alpha))) for w in weights()[output].flatten()
        ]
        assert found[output].flatten().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert float(LearnedStepQuantizer(weights(), bits).alpha[0].detach()) == pytest.approx(
        float(2 * weights().abs().mean() / largest**0.5)
    )


def test_gradients_are_those_of_learned_step_size_quantisation() -> None:
    w = weights().requires_grad_()
    quantizer = LearnedStepQuantizer(w, 3)
    sensitivity = torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (quantizer(w) * sensitivity).sum().backward()
    scaled = (w / quantizer.alpha.view(-1, 1, 1, 1)).detach()
    inside = (scaled >= -4) & (scaled <= 3)
    assert w.grad is not None
    torch.testing.assert_close(w.grad, sensitivity * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(-4, 3))
    expected = (slope * sensitivity).sum((1, 2, 3)) / (w.numel() * 3) ** 0.5
    torch.testing.assert_close(quantizer.alpha.grad, expected)


def test_every_layer_with_weights_is_quantised_and_learns_its_steps(
    any_family: str, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(any_family, quant_bits=4)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Conv | Head)}
    assert all(isinstance(layer.quantizer, LearnedStepQuantizer) for layer in layers.values())
    model(pixels(model.config)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_without_the_key_weights_are_floats_and_keys_unchanged() -> None:
    model = create_model({"model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "depths": 1})
    assert not any("quantizer" in key for key in model.state_dict())


def test_quantised_trainings_are_not_fused() -> None:
    keys = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "opt": "adamw", "quant_bits": 4}
    assert obstacle(TrainConfig.model_validate(keys)) == "quantised weights cannot be fused (got quant_bits=4)"


def test_the_neuron_without_memory_rounds_halves_up_and_passes_gradients_inside_its_range() -> None:
    model = create_model({"model": "qsd", "embed_dim": [8, 16, 32, 48], "num_heads": 4, "num_classes": 10})
    neuron = IELIF(model.config, 0.25, None)
    x = torch.tensor([[-1.0, 0.0, 0.125, 0.3, 0.374, 0.375, 1.0, 9.0]], dtype=torch.float64, requires_grad=True)
    out = neuron(x)
    out.sum().backward()
    assert out.tolist() == [[0.0, 0.0, 0.25, 0.25, 0.25, 0.5, 1.0, 1.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
