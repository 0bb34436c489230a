from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from config.errors import ConfigError
from models import ModelConfig, create_model, load_weights
from models.chip.lowering import lower
from models.chip.quantize import Precision, quantize
from models.neurons.quantizer import IELIF
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv, ConvNorm, GroupProduct, Head
from models.parts.quantized import LearnedRangeQuantizer, LearnedStepQuantizer
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


@pytest.mark.parametrize(("bits", "largest"), [(2, 1), (4, 7), (8, 127), (16, 32767)])
def test_ranges_are_symmetric_and_their_ends_are_the_learned_bounds(bits: int, largest: int) -> None:
    quantizer = LearnedRangeQuantizer(weights(), bits)
    quantizer.bound.data = torch.tensor([0.3, 0.7, 1.0, -1.5, 30.0], dtype=torch.float64)
    found = quantizer(weights()).detach()
    for output, bound in enumerate((0.3, 0.7, 1.0, 1.5, 30.0)):
        levels = [max(-largest, min(largest, round(float(w) * largest / bound))) for w in weights()[output].flatten()]
        assert quantizer.levels(weights())[output].flatten().tolist() == levels
        assert found[output].flatten().tolist() == pytest.approx([k * bound / largest for k in levels], rel=1e-12)


def test_a_bound_starts_where_the_squared_error_is_least() -> None:
    quantizer = LearnedRangeQuantizer(weights(), 4)
    for output, w in enumerate(weights().flatten(1)):
        peak = float(w.abs().max())
        errors = {
            share / 20: sum(
                (max(-7, min(7, round(float(v) / (share / 20 * peak / 7)))) * share / 20 * peak / 7 - float(v)) ** 2
                for v in w
            )
            for share in range(6, 21)
        }
        best = min(errors, key=lambda share: errors[share])
        assert float(quantizer.bound[output].detach()) == pytest.approx(best * peak)
    assert LearnedRangeQuantizer(torch.zeros(2, 3, 1, 1), 4).bound.tolist() == [1.0, 1.0]


def test_gradients_reach_weights_within_the_range_and_the_bound() -> None:
    w = weights().requires_grad_()
    quantizer = LearnedRangeQuantizer(w, 3)
    sensitivity = torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (quantizer(w) * sensitivity).sum().backward()
    scaled = (w / quantizer.steps().view(-1, 1, 1, 1)).detach()
    inside = scaled.abs() <= 3
    assert not inside.all()
    assert w.grad is not None
    torch.testing.assert_close(w.grad, sensitivity * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(-3, 3)) / 3
    torch.testing.assert_close(quantizer.bound.grad, (slope * sensitivity).sum((1, 2, 3)))


def test_every_layer_with_weights_is_quantised_and_learns_its_steps(
    any_family: str, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(any_family, quant_bits=4)
    layers = [module for module in model.modules() if isinstance(module, Conv | GroupProduct | Head)]
    kind = LearnedStepQuantizer if any_family == "qsd" else LearnedRangeQuantizer
    assert {type(layer.quantizer) for layer in layers} == {kind}
    model(pixels(model.config)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_weights_are_levels_times_steps_and_batch_norm_only_rescales_the_steps() -> None:
    conv = Conv(4, 6, 3)
    layer = ConvNorm(conv).double().eval()
    quantizer = conv.quantizer = LearnedRangeQuantizer(conv.weight, 4)
    bn = layer.bn
    with torch.no_grad():
        for tensor in (bn.weight, bn.bias, bn.running_mean):
            assert tensor is not None
            torch.nn.init.normal_(tensor)
        levels, steps = quantizer.levels(conv.weight), quantizer.steps()
        assert torch.equal(quantizer(conv.weight), levels * steps.view(-1, 1, 1, 1))
        assert bn.running_var is not None
        factor = bn.weight / (bn.running_var + bn.eps).sqrt()
        assert bool((factor < 0).any())
        x = (torch.rand(2, 3, 4, 5, 5) < 0.5).double()
        counts = torch.nn.functional.conv2d(x.flatten(0, 1), levels, padding=1)
        assert torch.equal(counts, counts.round())
        folded = counts * (steps * factor).view(-1, 1, 1) + (bn.bias - bn.running_mean * factor).view(-1, 1, 1)
        torch.testing.assert_close(layer(x).flatten(0, 1), folded)


def test_a_copy_in_float64_has_the_whole_numbers_of_the_training() -> None:
    weight = torch.randn(64, 200, generator=torch.Generator().manual_seed(2))
    quantizer = LearnedRangeQuantizer(weight, 4)
    halves = (quantizer.levels(weight) + 0.5) * quantizer.steps().detach()[:, None]  # where rounding is undecided
    levels = quantizer.levels(halves)
    assert torch.equal(quantizer.double().levels(halves.double()), levels.double())
    assert torch.equal(quantizer(halves.double()), levels * quantizer.steps()[:, None])


def test_steps_that_a_file_lacks_start_from_its_weights_if_a_training_starts() -> None:
    keys = {"model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "depths": 1}
    floats = create_model(keys)
    model = create_model({**keys, "quant_bits": 4})
    with pytest.raises(ConfigError, match=r"it lacks .*quantizer\.bound"):
        load_weights(model, floats.state_dict())
    load_weights(model, floats.state_dict(), refit=True)
    for name, layer in model.named_modules():
        if isinstance(layer, Conv | Head):
            expected = LearnedRangeQuantizer(floats.get_parameter(f"{name}.weight"), 4)
            assert isinstance(layer.quantizer, LearnedRangeQuantizer)
            assert torch.equal(layer.quantizer.bound, expected.bound)
    trained = {key: value * 1.25 if "quantizer" in key else value for key, value in model.state_dict().items()}
    load_weights(model, trained, refit=True)
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


def test_a_quantised_classifier_of_other_classes_starts_fresh() -> None:
    keys = {"model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "depths": 1, "quant_bits": 4}
    model, other = create_model(keys), create_model({**keys, "num_classes": 7})
    bound = model.head.get_parameter("quantizer.bound").clone()
    assert set(load_weights(model, other.state_dict(), refit=True)) == {
        *("head.weight", "head.bias", "head.quantizer.bound")
    }
    assert torch.equal(model.head.get_parameter("quantizer.bound"), bound)
    assert torch.equal(
        model.state_dict()["stem.chain.convs.0.quantizer.bound"],
        other.state_dict()["stem.chain.convs.0.quantizer.bound"],
    )


@pytest.mark.parametrize("bits", [1, 17])
def test_widths_outside_2_to_16_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="quant_bits"):
        ModelConfig.model_validate({"model": "spikformer_cifar", "quant_bits": bits})


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


@pytest.mark.parametrize("name", ["spikformer_cifar", "sdt_cifar", "qkformer_cifar", "sew_resnet18"])
def test_an_integer_network_has_the_whole_numbers_of_the_training(
    name: str, small_model: Build, pixels: Pixels, firing: Callable[[SpikingModel, Tensor], SpikingModel]
) -> None:
    model = small_model(name, quant_bits=4)
    firing(model, pixels(model.config))
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.weight.data[::2] *= -1.0
    integer = quantize(lower(model), Precision(4), (-2.0, 2.0))
    compared = 0
    for node in integer:
        if node.op != "conv":
            continue
        layer = model.get_submodule(node.layer)
        assert isinstance(layer, Conv)
        assert isinstance(layer.quantizer, LearnedRangeQuantizer)
        levels = layer.quantizer.levels(layer.weight).flatten(1).numpy()
        weights = node.arrays["weight"].reshape(levels.shape)
        for found, trained in zip(weights, levels, strict=True):
            divisor = max(1.0, float(np.gcd.reduce(np.abs(trained).astype(int))))
            assert np.array_equal(np.abs(found), np.abs(trained) / divisor)
            assert abs(float((found * trained).sum())) == float(np.abs(found * trained).sum())  # one sign for all
            compared += 1
    assert compared > 100
