"""The memory estimate against the tensors that autograd saves, and the effect of single keys."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from models import create_model
from search.execution import memory_estimate
from search.space.feasibility import input_shape
from trainers import loop, optim
from trainers.augment.images import make_augment
from trainers.config import TrainConfig

CPU = ProfilerActivity.CPU
KEYS: dict[str, Any] = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "step": 2, "patch_size": 2}
KEYS |= {"embed_dim": 32, "num_heads": 2, "depths": 1, "batch_size": 8}
OTHERS = {
    "spikformer": {},
    "integer neurons": {"node_type": "ILIFNode"},
    "learned leak": {"node_type": "PLIFNode"},
    "parallel neurons": {"node_type": "PSN"},
    "spike-driven": {"model": "sdt_cifar"},
    "query-key": {"model": "qkformer_cifar", "depths": 4, "patch_size": 4},
    "shortcut on membranes": {"residual": "ms"},
}


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate({**KEYS, **keys})


def gib(**keys: Any) -> float:
    return memory_estimate.predict(config(**keys)).gib


@pytest.mark.parametrize("keys", OTHERS.values(), ids=OTHERS)
def test_the_estimate_of_saved_tensors_equals_what_autograd_saves(keys: dict[str, Any]) -> None:
    small = config(**keys)
    predicted = memory_estimate.predict(small).activations
    images = torch.rand(small.batch_size, *input_shape(small))
    labels = torch.zeros(small.batch_size, dtype=torch.long)
    saved = memory_estimate.saved_for_backward(create_model(small).train(), images, labels)
    rounding = 0.11 if small.node_type == "ILIFNode" else 0.0
    assert predicted == pytest.approx(saved, rel=rounding + 1e-3)


@pytest.mark.parametrize(
    "more", [{"step": 4}, {"batch_size": 16}, {"embed_dim": 64}, {"depths": 2}, {"patch_size": 1}], ids=str
)
def test_a_larger_config_is_predicted_to_take_more(more: dict[str, Any]) -> None:
    assert gib(**more) > 1.05 * gib()


def test_saved_tensors_grow_linearly_with_the_batch() -> None:
    small, middle, large = (memory_estimate.predict(config(batch_size=size)).activations for size in (8, 16, 256))
    assert large - middle == 30 * (middle - small)


@pytest.mark.parametrize("node", ["LIFNode", "PLIFNode", "GLIFNode", "ILIFNode"])
def test_the_kernels_of_a_gpu_keep_less_and_mixed_precision_half_of_it(node: str) -> None:
    keys = {"node_type": node, "batch_size": 256, "step": 4}
    single = memory_estimate.predict(config(**keys, amp=False), on_gpu=True)
    mixed = memory_estimate.predict(config(**keys, amp=True), on_gpu=True)
    on_cpu = memory_estimate.predict(config(**keys, amp=True))
    assert single.activations < on_cpu.activations
    assert mixed.activations == pytest.approx(single.activations / 2, rel=0.05)
    assert mixed.extra - single.extra == mixed.parameters // 2


@pytest.mark.parametrize("node", ["PSN", "HDLIFNode"])
def test_neurons_without_a_kernel_keep_more_on_a_gpu(node: str) -> None:
    for amp in (True, False):
        own = memory_estimate.predict(config(node_type=node, amp=amp), on_gpu=True).activations
        assert own > memory_estimate.predict(config(node_type="LIFNode", amp=amp), on_gpu=True).activations


def test_mixed_precision_changes_nothing_on_the_cpu() -> None:
    assert memory_estimate.predict(config(amp=True)) == memory_estimate.predict(config(amp=False))


@pytest.mark.parametrize(("opt", "states"), [("adamw", 2), ("sgd", 1)])
def test_an_optimizers_state_is_counted(opt: str, states: int) -> None:
    found = memory_estimate.predict(config(opt=opt))
    assert found.optimizer == pytest.approx(states * found.parameters, rel=1e-6)


def test_data_in_memory_counts_and_streamed_data_does_not() -> None:
    small = {"in_channels": 3, "img_size": 32, "patch_size": 4, "num_classes": 10}
    assert memory_estimate.predict(config(dataset="cifar10", **small)).data == 50_000 * 3 * 32 * 32
    assert memory_estimate.predict(config(dataset="imagefolder", **small)).data == 0


@pytest.mark.parametrize("keys", [{}, {"step": 4}, {"embed_dim": 128}, {"node_type": "PLIFNode"}], ids=str)
def test_a_step_allocates_the_estimated_memory_on_the_cpu(keys: dict[str, Any]) -> None:
    small = config(device="cpu", batch_size=32, **keys)
    model = create_model(small).train()
    learner = loop.Learner(
        model,
        optim.make_optimizer(model, small),
        optim.make_loss(small),
        optim.make_mixup(small),
        make_augment(small, torch.device("cpu")),
    )
    images = torch.randint(256, (32, *input_shape(small)), dtype=torch.uint8)
    loop.train_step(learner, images, torch.zeros(32, dtype=torch.long), small)
    with torch.profiler.profile(activities=[CPU], profile_memory=True, acc_events=True) as profile:
        loop.train_step(learner, images, torch.zeros(32, dtype=torch.long), small)
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]")
    found = memory_estimate.predict(small)
    used = max(held) + 2 * found.parameters + found.optimizer
    assert 0.8 < used / (found.gib * 2**30 - found.data) < 1.1
