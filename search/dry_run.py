"""Report of `--dry-run`: size of the space, share and causes of infeasible configs, model sizes, memory and time."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from config.distributions import UniformSampler
from config.errors import InfeasibleError
from results.metrics import counted
from search.algorithm import mobo
from search.display.summary import small_space
from search.execution import memory_estimate
from search.execution.gpu_shares import CONTEXT_GIB
from search.space.feasibility import Refusals, input_shape, refusal_cause, static_cost
from search.space.refused_options import Outcome, refused_options
from search.space.schema import Resources
from search.space.space import Space
from trainers import loop, optim
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.datasets import STREAMED
from trainers.diagnostics.memory import is_out_of_memory

NUM_SAMPLES = 300
NUM_SIZED = 40
"""Feasible samples that are built, without memory, to find the smallest and the largest model."""

TIMED_IMAGES = 2
"""Images of a timed step on the CPU, where the time grows with the images."""
GPU_WARM_UP, GPU_STEPS = 3, 5
"""Steps on a GPU: the first ones compile kernels. They have whole batches, as launches take most of a small step."""


PASSING_EXPONENT = -0.6
"""Logarithm, to the base of `reduction_factor`, of the share of trials that pass a rung in mode `promote`."""


@dataclass
class SpaceSample:
    """Random configs of a space: their outcomes, the refused ones by cause, and (million parameters, config) of some
    others."""

    refused: Refusals = field(default_factory=Refusals)
    sized: list[tuple[float, TrainConfig]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def sample_space(space: Space) -> SpaceSample:
    """Returns 300 random configs, those with parameters sorted by these. Raises ConfigError if all are refused."""
    sampler, sample = UniformSampler(space.settings.seed), SpaceSample()
    for _ in range(NUM_SAMPLES):
        values = space.suggest(sampler)
        try:
            config = space.feasible_config(values)
        except InfeasibleError as error:
            sample.refused.add(error)
            sample.outcomes.append((values, refusal_cause(error)))
            continue
        sample.outcomes.append((values, None))
        if len(sample.sized) < NUM_SIZED:
            sample.sized.append((static_cost(config)["params_m"], config))
    if not sample.sized:
        raise sample.refused.error()
    sample.sized.sort(key=lambda item: item[0])
    return sample


def lines(space: Space, concurrency: int | None) -> Iterator[str]:
    """Yields the lines of the report."""
    sample, size = sample_space(space), space.size()
    yield f"study {space.study}: {', '.join(f'{goal} {name}' for name, goal in space.objectives.items())}"
    configs = "infinitely many configs" if math.isinf(size) else counted(int(size), "config")
    yield f"space: {configs} over {counted(len(space.searched_keys()), 'key')}"
    if (warning := small_space(space)) is not None:
        yield warning
    for key, raw in space.raw["space"].items():
        yield f"  {key}: {raw}"
    yield f"infeasible: {100 * sample.refused.total() / NUM_SAMPLES:.0f} % of {NUM_SAMPLES} samples"
    for cause, count in sample.refused.most_common(5):
        yield f"  {count}x {cause}"
    yield from refused_options(space, sample.outcomes)
    for name, values, problem in space.initial_configs:
        yield f"start with {name}: " + (problem if problem else ", ".join(f"{k}={v}" for k, v in values.items()))
    for word, (params, config) in (("smallest", sample.sized[0]), ("largest", sample.sized[-1])):
        yield f"{word} model sampled: {params:.3g} M parameters, T={config.step}, width {config.embed_dim}"
    yield _memory(space, sample.sized[-1][1])
    yield from _time(space, sample, concurrency or parallel_trials(space.settings.resources))


def _memory(space: Space, config: TrainConfig) -> str:
    """Returns the predicted memory of the largest model, and of all trials that share a GPU."""
    gpu = space.settings.resources.gpu
    gib = memory_estimate.predict(config, on_gpu=gpu > 0).gib
    where = f"on a GPU, amp: {str(config.amp).lower()}" if gpu else "on the CPU"
    line = f"memory of the largest: about {gib:.2g} GiB for batches of {config.batch_size} {where}"
    if 0 < gpu < 1:
        trials = int(1 / gpu + 1e-9)
        line += f"; {trials} on one GPU: {trials * (gib + CONTEXT_GIB):.2g} GiB"
    return line


def parallel_trials(need: Resources) -> int:
    """Returns how many trials fit on this machine; those that share a GPU slow each other and count as one."""
    slots = (os.cpu_count() or 1) / need.cpu
    if need.gpu:
        slots = min(slots, torch.cuda.device_count() / max(need.gpu, 1.0))
    return max(1, int(slots))


def _time(space: Space, sample: SpaceSample, concurrency: int) -> Iterator[str]:
    _, config = sample.sized[len(sample.sized) // 2]
    seconds = seconds_per_image(config)
    images = config.num_train_images()
    budget = space.budget
    trials = int(min(budget.trials or 0, space.size()))
    total = float(budget.epochs_total or math.inf)
    epochs = min(expected_epochs(space, trials) if trials else math.inf, total)
    concurrency = min(concurrency, trials or concurrency)
    where = "a GPU of this machine" if torch.cuda.is_available() else "one CPU thread of this machine"
    yield f"an epoch of the middle model: about {_clock(seconds * images)} on {where}"
    if math.isfinite(epochs):
        time_s = seconds * images * epochs / concurrency
        yield f"the search: about {epochs:.0f} epochs, {_clock(time_s)} with {concurrency} at a time"
    if epochs < total and space.settings.scheduler.mode == "promote" and space.rung_epochs():
        complete = counted(max(round(expected_counts(space, trials)[-1]), 1), "trial")
        yield f"  successive halving, then the first fronts to the end: about {complete} in full"
    if budget.hours:
        yield f"after {budget.hours:g} hours no trial starts, and the running ones end at their next rung"


def expected_epochs(space: Space, trials: int) -> float:
    """Returns the epochs that a budget in `trials` takes, with those of further seeds."""
    levels = [0, *space.rung_epochs(), space.budget.epochs]
    spans = (end - start for start, end in itertools.pairwise(levels))
    counts = expected_counts(space, trials)
    repeats = counts[-1] * (space.settings.seeds - 1) * space.budget.epochs
    return repeats + sum(count * span for count, span in zip(counts, spans, strict=True))


def expected_counts(space: Space, trials: int) -> list[float]:
    """Returns how many of `trials` are trained to each rung, and in full.

    In mode `promote`, more than one in `reduction_factor` pass a rung: those that were among the best when they reached
    it, and its first front, which is trained to the end. On synthetic curves their share was about
    reduction_factor^-0.6 (docs/log.md). Choices of the model pass the first rung.
    """
    scheduler, num_rungs = space.settings.scheduler, len(space.rung_epochs())
    if scheduler.mode == "stop":
        return [trials / scheduler.reduction_factor**rung for rung in range(num_rungs + 1)]
    share = float(scheduler.reduction_factor**PASSING_EXPONENT)
    num_before_model = mobo.MIN_POINTS / share ** max(min(mobo.MIN_RUNG, num_rungs - 1), 0)
    chosen = 0.0
    if space.settings.sampler.name == "mobo":
        chosen = (1 - mobo.UNIFORM_SHARE) * max(trials - num_before_model, 0)
    second = chosen + share * (trials - chosen)
    return [float(trials), *(second * share**rung for rung in range(num_rungs))]


def seconds_per_image(config: TrainConfig) -> float:
    """Returns the training time per image in seconds, measured in steps on random images.

    A batch that does not fit on the GPU is halved.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.threads)
    learner = make_learner(config, device)
    if device.type == "cpu":
        return _seconds_per_step(learner, config, TIMED_IMAGES, warm_up=1, steps=1) / TIMED_IMAGES
    size = config.batch_size
    while True:
        try:
            return _seconds_per_step(learner, config, size, GPU_WARM_UP, GPU_STEPS) / size
        except RuntimeError as error:
            if not is_out_of_memory(error) or size < 4:
                raise
        size //= 2
        torch.cuda.empty_cache()


def make_learner(config: TrainConfig, device: torch.device) -> loop.Learner:
    """Returns what a training step of the config needs."""
    from models import create_model

    model = create_model(config).to(device)
    return loop.Learner(
        model,
        optim.make_optimizer(model, config),
        optim.make_loss(config),
        optim.make_mixup(config),
        make_augment(config, device),
    )


def _seconds_per_step(learner: loop.Learner, config: TrainConfig, size: int, warm_up: int, steps: int) -> float:
    device = next(learner.model.parameters()).device
    dtype = torch.float32 if config.dataset in STREAMED else torch.uint8
    images = torch.randint(256, (size, *input_shape(config)), device=device).to(dtype)
    labels = torch.randint(config.num_classes, (size,), device=device)
    for _ in range(warm_up):
        float(loop.train_step(learner, images, labels, config))
    started = time.monotonic()
    losses = [loop.train_step(learner, images, labels, config) for _ in range(steps)]
    float(losses[-1])  # waits for the device
    return (time.monotonic() - started) / steps


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
