"""What `--dry-run` tells of a space without touching anything: its size, what is refused, and how long it may take."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from config.errors import InfeasibleError
from search.execution import memory_estimate
from search.execution.gpu_shares import CONTEXT_GIB
from search.space.feasibility import check_constraints, input_shape, static_cost
from search.space.random_sampling import UniformSampler, describe_refusals
from search.space.schema import Resources
from search.space.space import Space
from trainers import loop, optim
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.datasets import STREAMED, TRAIN_IMAGES

DRAWS = 300
SIZED = 40
"""Of the drawn configs, how many are built (without memory) to find the smallest and the largest."""

TIMED_IMAGES = 2


@dataclass
class SpaceSample:
    """What was found out by drawing from the space."""

    drawn: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    sized: list[tuple[float, TrainConfig]] = field(default_factory=list)


def sample_space(space: Space) -> SpaceSample:
    """Returns how many of the drawn configs are refused and why, and the parameters of some that are not.

    Raises ConfigError when every one is refused.
    """
    dice, forecast = UniformSampler(space.settings.seed), SpaceSample()
    for _ in range(DRAWS):
        forecast.drawn += 1
        try:
            config = space.train_config(space.suggest(dice))
            check_constraints(config, space.settings.constraints)
            if len(forecast.sized) < SIZED:
                forecast.sized.append((static_cost(config)["params_m"], config))
        except InfeasibleError as error:
            forecast.refused[str(error).split(" (got")[0]] += 1
    if not forecast.sized:
        raise describe_refusals(forecast.refused)
    forecast.sized.sort(key=lambda item: item[0])
    return forecast


def lines(space: Space, concurrency: int | None) -> Iterator[str]:
    """Yields what `--dry-run` prints."""
    forecast = sample_space(space)
    size = space.size()
    yield f"study {space.study}: {', '.join(f'{goal} {name}' for name, goal in space.objectives.items())}"
    yield f"space: {'infinitely many' if math.isinf(size) else f'{size:.0f}'} configs over {len(space.searched_keys())} keys"
    for key, raw in space.raw["space"].items():
        yield f"  {key}: {raw}"
    refused = sum(forecast.refused.values())
    yield f"infeasible: {100 * refused / forecast.drawn:.0f} % of {forecast.drawn} draws"
    for cause, count in forecast.refused.most_common(5):
        yield f"  {count}x {cause}"
    for name, values, problem in space.initial_configs():
        yield f"start with {name}: " + (problem if problem else ", ".join(f"{k}={v}" for k, v in values.items()))
    for word, (params, config) in (("smallest", forecast.sized[0]), ("largest", forecast.sized[-1])):
        yield f"{word} model drawn: {params:.3g} M parameters, T={config.step}, width {config.embed_dim}"
    yield _memory(space, forecast.sized[-1][1])
    yield from _time(space, forecast, concurrency or parallel_trials(space.settings.resources))


def _memory(space: Space, config: TrainConfig) -> str:
    """Returns what the largest model drawn is predicted to take, of a card where trials have one."""
    gib, gpu = memory_estimate.predict(config).gib, space.settings.resources.gpu
    line = f"memory of the largest: about {gib:.2g} GiB for batches of {config.batch_size}, without mixed precision"
    if 0 < gpu < 1:
        together = int(1 / gpu + 1e-9)
        line += f"; {together} on a card: {together * (gib + CONTEXT_GIB):.2g} GiB"
    return line


def parallel_trials(need: Resources) -> int:
    """Returns how many trials this machine has room for; those that share a card slow each other and count as one."""
    room = (os.cpu_count() or 1) / need.cpu
    if need.gpu:
        room = min(room, torch.cuda.device_count() / max(need.gpu, 1.0))
    return max(1, int(room))


def _time(space: Space, forecast: SpaceSample, concurrency: int) -> Iterator[str]:
    _, config = forecast.sized[len(forecast.sized) // 2]
    seconds = seconds_per_image(config)
    images = TRAIN_IMAGES[config.dataset] * (1.0 - config.val_fraction)
    budget = space.budget
    epochs = expected_epochs(space) * budget.trials if budget.trials else float(budget.epochs_total or 0)
    where = "a GPU of this machine" if torch.cuda.is_available() else "one CPU thread of this machine"
    yield f"an epoch of the middle model: about {_clock(seconds * images)} on {where}"
    if epochs:
        total = seconds * images * epochs / concurrency
        yield f"the search: about {epochs:.0f} epochs, {_clock(total)} with {concurrency} at a time"
    if budget.hours:
        yield f"after {budget.hours:g} hours nothing new begins, and what runs goes on until it is next compared"


def expected_epochs(space: Space) -> float:
    """Returns the mean epochs of a trial when each rung lets one in reduction_factor pass."""
    levels = [*space.rung_epochs(), space.budget.epochs]
    factor = space.settings.scheduler.reduction_factor
    steps = [levels[0], *(b - a for a, b in itertools.pairwise(levels))]
    return sum((step / float(factor**i) for i, step in enumerate(steps)), 0.0)


def seconds_per_image(config: TrainConfig) -> float:
    """Returns the seconds that training takes for an image, from one step on a few random ones."""
    from models import create_model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.threads)
    model = create_model(config).to(device)
    learner = loop.Learner(
        model,
        optim.make_optimizer(model, config),
        optim.make_loss(config),
        optim.make_mixup(config),
        make_augment(config, device),
    )
    kind = torch.float32 if config.dataset in STREAMED else torch.uint8
    images = torch.randint(256, (TIMED_IMAGES, *input_shape(config)), device=device).to(kind)
    labels = torch.randint(config.num_classes, (TIMED_IMAGES,), device=device)
    for _ in range(2):  # the first step warms up
        started = time.monotonic()
        float(loop.train_step(learner, images, labels, config))
    return (time.monotonic() - started) / TIMED_IMAGES


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
