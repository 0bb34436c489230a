"""What training steps leave out on a GPU, and the states of optimizers that move between devices."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import create_model
from models.parts.layers import Conv
from trainers import optim
from trainers.config import TrainConfig
from trainers.optimization.gpu_step import (
    GraphedStep,
    batch_statistics,
    convs_before_norms,
    is_capturable,
    prefers_channels_last,
    untracked_norms,
    without_biases,
)

SMALL: dict[str, Any] = {"embed_dim": 16, "num_heads": 2, "depths": 1, "step": 2, "img_size": 16, "patch_size": 4}
MODELS = {
    "spikformer_cifar": SMALL,
    "sdt_cifar": SMALL,
    "metaspikformer": {"img_size": 64, "num_classes": 10, "step": 1},
}


@pytest.mark.parametrize("name", MODELS)
def test_without_running_statistics_and_biases_a_step_has_the_same_output(name: str) -> None:
    torch.manual_seed(0)
    model = create_model({"model": name, **MODELS[name]}).double().train()
    convs = convs_before_norms(model)
    with torch.no_grad():
        for conv in convs:
            assert conv.bias is not None
            conv.bias.uniform_(-1.0, 1.0)
    twin, keys = copy.deepcopy(model), list(model.state_dict())
    x = torch.rand(4, 3, model.config.img_size, model.config.img_size, dtype=torch.float64)
    expected = twin(x)
    with batch_statistics(untracked_norms(model)), without_biases(convs):
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
        assert len(dict(model.named_parameters())) == len(dict(twin.named_parameters())) - len(convs)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_every_bias_in_front_of_a_norm_is_found() -> None:
    model = create_model({"model": "spikformer_cifar", **SMALL, "depths": 2})
    found, names = convs_before_norms(model), {module: name for name, module in model.named_modules()}
    expected = [name for name in names.values() if _has_bias(model, name)]
    assert [names[conv] for conv in found] == expected
    assert len(found) == 12


def _has_bias(model: nn.Module, name: str) -> bool:
    module = model.get_submodule(name)
    return isinstance(module, Conv) and module.bias is not None


def test_only_statistics_that_a_step_reads_are_updated() -> None:
    model = create_model({"model": "metaspikformer", **MODELS["metaspikformer"]}).train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running_mean" in name}
    with batch_statistics(untracked_norms(model)):
        model(torch.rand(4, 3, 64, 64))
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(name.endswith("bn.running_mean") for name in changed)
    assert all(module.track_running_stats for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_large_steps_with_mixed_precision_are_in_channels_last_memory() -> None:
    keys = {"dataset": "cifar10", "model": "spikformer_cifar", "embed_dim": 384, "num_heads": 12, "patch_size": 4}
    large = TrainConfig.model_validate({**keys, "epochs": 1, "step": 4, "batch_size": 128})
    assert prefers_channels_last(large)
    assert not prefers_channels_last(large.model_copy(update={"amp": False}))
    assert not prefers_channels_last(large.model_copy(update={"batch_size": 16}))


class FakeUpdate:
    """An update that counts its calls; its clock ends so long after the launches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, waiting_s: float) -> None:
        self.calls, self.captures = 0, 0
        times = iter([0.0, 1.0, 1.0 + waiting_s])
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr("trainers.optimization.gpu_step.time.perf_counter", lambda: next(times))
        monkeypatch.setattr(GraphedStep, "_capture", lambda step, x, target: self.capture(step))
        monkeypatch.setattr(GraphedStep, "_replay", lambda step, x, target: torch.tensor(-1.0))

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return torch.tensor(1.0)

    def capture(self, step: Any) -> bool:
        self.captures += 1
        step._is_current = True
        return True


def losses(step: GraphedStep, batches: int, probed: int = 0) -> list[float]:
    x = torch.zeros(1)
    return [float(step.step(x, x, steps_left=batches - i, eager=i == probed)) for i in range(1, batches + 1)]


def test_a_step_that_waits_for_launches_becomes_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    update = FakeUpdate(monkeypatch, waiting_s=0.1)
    step = GraphedStep(update, torch.optim.SGD([torch.zeros(1)], lr=0.1))
    assert losses(step, 30, probed=10) == [1.0] * 3 + [-1.0] * 6 + [1.0] + [-1.0] * 20
    assert (update.calls, update.captures) == (4, 1)
    step.start_epoch()
    assert losses(step, 30) == [-1.0] * 30
    assert update.captures == 2
    step.start_epoch()
    assert losses(step, 10) == [1.0] * 10  # too few steps are left to pay for the capture


def test_a_step_that_the_gpu_limits_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    update = FakeUpdate(monkeypatch, waiting_s=0.5)
    step = GraphedStep(update, torch.optim.SGD([torch.zeros(1)], lr=0.1))
    assert losses(step, 30) == [1.0] * 30
    assert (step.is_worth_it, update.captures) == (False, 0)


def test_a_saved_state_does_not_choose_how_the_optimizer_computes() -> None:
    weight = nn.Parameter(torch.ones(3))
    on_gpu = torch.optim.AdamW([weight], lr=0.5, fused=True)
    weight.grad = torch.ones(3)
    on_gpu.step()
    on_cpu = torch.optim.AdamW([weight], lr=0.1)
    optim.load_state(on_cpu, on_gpu.state_dict())
    assert (on_cpu.param_groups[0]["fused"], on_cpu.param_groups[0]["lr"]) == (None, 0.5)
    optim.load_state(on_gpu, on_cpu.state_dict())
    assert on_gpu.param_groups[0]["fused"] is True
    torch.testing.assert_close(on_gpu.state[weight], on_cpu.state[weight])


def test_steps_of_fused_optimizers_can_be_captured() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert is_capturable(torch.optim.AdamW([weight], fused=True))
    assert not is_capturable(torch.optim.AdamW([weight]))
    assert not is_capturable(torch.optim.SGD([weight], lr=0.1, fused=True))  # cannot be marked as capturable
