"""Counts of training and evaluation on the null GPU (tests/support/null_gpu): launches, waits of the host, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import fused
from models import create_model
from tests.support.null_gpu import counters
from tests.support.null_gpu.checks import make_config, make_data
from trainers import loop
from trainers.fused.training import FusedJob, FusedTraining, Member
from trainers.optimization.gpu_step import batch_statistics, untracked_norms, without_biases
from trainers.train import Training

STEP_KEYS = {"model": "spikformer_cifar", "embed_dim": 384, "num_heads": 12, "depths": 4, "step": 4, "batch_size": 128}
"""Spikformer 4-384 on CIFAR-10."""
WARM_UP, STEPS = 2, 3
BATCHES = 6
"""Training batches, validation batches, and batches of the re-estimation of batch norm."""
OTHER_NUMBERS = {"tau": 1.7, "threshold": 0.7, "attn_threshold": 0.4, "alpha": 2.5}


def count() -> dict[str, float]:
    """Returns the figures by name: those of one step, one batch or all, as their names say."""
    config = make_config("spikformer/cifar10", **STEP_KEYS, val_batch_size=128)
    training = Training(config, parts=make_data(config, BATCHES))
    training.start_epoch(0)
    training.learner.model.train()
    return {
        **_step(training),
        **_graph(training),
        **_passes(training),
        "fused_k8_launches": _fused(),
        "recompiles": _recompiles(),
    }


def _step(training: Training) -> dict[str, float]:
    """Counts the trainer's step: the augmentation apart, and what the model and the optimizer take."""
    learner, found = training.learner, {"launches_augment": 0, "launches_step": 0, "syncs_step": 0, "copies_step": 0}
    torch.cuda.reset_peak_memory_stats()
    with batch_statistics(untracked_norms(learner.model)), without_biases(learner.left_out):
        for i, batch in enumerate(training.data.shuffled(training.config.batch_size)):
            counters.reset()
            x, target = learner.make_batch(*batch)
            augment = counters.read()
            counters.reset()
            loop.update(learner, x, target, training.config)
            step = counters.read()
            if WARM_UP <= i < WARM_UP + STEPS:
                found["launches_augment"] += augment["launches"]
                found["launches_step"] += step["launches"]
                found["syncs_step"] += augment["syncs"] + step["syncs"]
                found["copies_step"] += sum(
                    part[name] for part in (augment, step) for name in ("to_device", "to_host", "on_device")
                )
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {"peak_gib": peak, **{name: value / STEPS for name, value in found.items()}}


def _graph(training: Training) -> dict[str, float]:
    """Counts a step that is a CUDA graph; the epoch's first batches decide and capture."""
    learner, graph = training.learner, training.learner.graph
    if graph is None:
        return {}
    with batch_statistics(untracked_norms(learner.model)), without_biases(learner.left_out):
        graph.start_epoch()
        x, target = learner.make_batch(*next(training.data.shuffled(training.config.batch_size)))
        for _ in range(5):
            counters.reset()
            graph.step(x, target, steps_left=1000, eager=False)
        found = counters.read()
        graph.start_epoch()
    return {
        "graph_replays_step": found["graph_launches"],
        "graph_launches_step": found["launches"],
        "graph_syncs_step": found["syncs"],
    }


def _passes(training: Training) -> dict[str, float]:
    """Counts the passes after an epoch, for each of their batches."""
    learner, config = training.learner, training.config
    counters.reset()
    loop.recalibrate(learner.model, training.calibration, learner.augment, config.batch_size)
    recalibration = counters.read()
    counters.reset()
    loop.evaluate(learner.model, training.validation, learner.augment, config)
    evaluation = counters.read()
    return {
        "recalibration_syncs_batch": recalibration["syncs"] / -(-len(training.calibration) // config.batch_size),
        "eval_syncs_batch": evaluation["syncs"] / -(-len(training.validation) // config.val_batch_size),
        "eval_launches_batch": evaluation["launches"] / -(-len(training.validation) // config.val_batch_size),
    }


def _fused() -> float:
    """Returns the launches of a step of eight fused trainings at 32x32, their augmentation included."""
    members = [
        Member(k, FusedJob(config), fused.random_images(config))
        for k, config in enumerate(fused.configs(8, 128, "cuda", "32x32"))
    ]
    for member in members:
        member.start_epoch()
    group = FusedTraining(members)
    for _ in range(WARM_UP):
        group.step(fused.UNPROBED_BATCH, 10**6)
    counters.reset()
    group.step(fused.UNPROBED_BATCH, 10**6)
    return counters.read()["launches"]


def _recompiles() -> int:
    """Returns the kernels that are compiled for other numbers of the same neurons."""
    keys = {**STEP_KEYS, "depths": 1, "num_classes": 10, "in_channels": 3, "img_size": 32, "patch_size": 4}
    del keys["batch_size"]

    def step(numbers: dict[str, float]) -> None:
        x: Any = create_model({**keys, **numbers}).cuda()(torch.zeros(2, 3, 32, 32, device="cuda"))
        torch.autograd.backward(x.sum())

    step({})
    with _compilations() as compiled:
        step(OTHER_NUMBERS)
    return len(compiled)


@contextmanager
def _compilations() -> Iterator[list[str]]:
    """Yields the list to which Triton adds a kernel whenever it specializes one."""
    from triton import knobs  # type: ignore[import-untyped]

    compiled: list[str] = []
    before = knobs.runtime.jit_post_compile_hook
    knobs.runtime.jit_post_compile_hook = lambda *arguments, **named: compiled.append(str(named.get("key")))
    try:
        yield compiled
    finally:
        knobs.runtime.jit_post_compile_hook = before
