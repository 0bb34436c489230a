"""TIM's attention: spikes at the released threshold and at the intended one; gradients through its membranes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from models import ModelConfig
from models.attention.tim import TIM
from models.fused.model import FusedModel
from models.neurons.compiled import compile_neurons
from models.neurons.nodes import neuron_factory
from models.parts.backbone import SpikingModel
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


class StepLoop(neuron.LIFNode):  # type: ignore[misc]
    """SpikingJelly's neuron in a plain loop over single steps."""

    levels = 1

    def __init__(self, layer: Any) -> None:
        super().__init__(layer.tau, True, layer.v_threshold, 0.0, layer.surrogate_function, detach_reset=True)

    def forward(self, x_seq: Tensor) -> Tensor:
        return torch.stack([super(StepLoop, self).forward(x) for x in x_seq])


def with_step_loops(module: nn.Module) -> nn.Module:
    """Returns a copy of a model whose neurons are SpikingJelly's, step by step."""
    changed = copy.deepcopy(module)
    for parent in list(changed.modules()):
        for name, child in parent.named_children():
            if hasattr(child, "v_threshold"):
                setattr(parent, name, StepLoop(child))
    return changed


def gradients(model: nn.Module, x: Any) -> dict[str, Tensor]:
    """Returns the parameters' gradients of a loss on the logits."""
    model.zero_grad(set_to_none=True)
    model(x).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert found.keys() == wanted.keys()
    assert any("query" in name for name in wanted)
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm()) <= tolerance * float(gradient.norm()), name


@pytest.fixture(name="tim")
def _tim(small_model: Build, pixels: Pixels, firing: Firing) -> Callable[..., tuple[SpikingModel, Tensor]]:
    def tim(seed: int = 0, **keys: Any) -> tuple[SpikingModel, Tensor]:
        model = small_model("tim_dvs", tim_threshold=0.3, **keys).double()
        x = pixels(model.config, steps=model.config.step, seed=seed + 1).double()
        return firing(model, x), x

    return tim


def test_gradients_through_the_membranes_are_those_of_a_plain_loop_over_steps(tim: Any) -> None:
    model, x = tim(step=5, read_step=5)
    assert_equal_gradients(gradients(model, x), gradients(with_step_loops(model), x))


def test_gradients_of_fused_members_are_those_of_a_plain_loop_over_steps(tim: Any) -> None:
    members, inputs = zip(*(tim(seed=k, tau=1.5 + 0.5 * k) for k in range(2)), strict=True)
    wanted = [gradients(with_step_loops(member), x) for member, x in zip(members, inputs, strict=True)]
    fused = FusedModel(members).eval()
    found = gradients(fused, inputs)
    for k, expected in enumerate(wanted):
        assert_equal_gradients(
            {name.removeprefix("body."): gradient.chunk(2)[k] for name, gradient in found.items()}, expected
        )


@pytest.mark.usefixtures("interpreted_kernels")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in Triton's interpreter
def test_gradients_of_the_kernels_are_those_of_a_plain_loop_over_steps(tim: Any) -> None:
    model, x = tim()
    model, x = model.float(), x.float()
    assert_equal_gradients(gradients(model, x), gradients(with_step_loops(model), x), tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_gradients_of_compiled_neurons_are_those_of_a_plain_loop_over_steps(tim: Any) -> None:
    model, x = tim(step=5, read_step=5)
    wanted = gradients(with_step_loops(model), x)
    assert compile_neurons(model)
    assert_equal_gradients(gradients(model, x), wanted)


def test_tim_is_silent_from_the_second_step_at_the_released_threshold(small_config: Config) -> None:
    for threshold, fires in ((1.0, False), (0.3, True)):
        config = small_config("spikformer_cifar", attn_layer="TIM", tim_threshold=threshold)
        (stage,) = stages(config)
        torch.manual_seed(0)
        attention = TIM(config, neuron_factory(config), stage, Wiring()).double().eval()
        queries = (torch.rand(3, 2, 2, 16, 8, dtype=torch.float64) < 0.5).double()
        with torch.no_grad():
            out = attention.query(queries)
        assert torch.equal(out[0], queries[0])
        assert bool(out[1:].any()) is fires
