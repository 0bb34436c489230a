"""Lines of `--dry-run`: size of the space, share and causes of infeasible configs, model sizes, memory and time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from statistics import fmean

from results.metrics import counted
from search.algorithm.forecast import SearchPlan, expected_entries, expected_epochs, search_plan, seconds_left
from search.display.summary import small_space
from search.dry_run import sampling
from search.dry_run.sampling import SizedConfig, SpaceSample
from search.space.refused_options import refused_options
from search.space.schema import Resources
from search.space.space import Space
from search.storage import preconditions
from trainers.config import TrainConfig

START_S = 12.0
"""Seconds from the command to the first step: Ray and a worker start (benchmarks/2026-11-22-overhead.md)."""


def lines(space: Space, concurrency: int | None) -> Iterator[str]:
    """Yields the lines of the report; the first ones at once, before PyTorch is imported."""
    size = space.size()
    yield f"study {space.study}: {', '.join(f'{goal} {name}' for name, goal in space.objectives.items())}"
    configs = "infinitely many configs" if math.isinf(size) else counted(int(size), "config")
    yield f"space: {configs} over {counted(len(space.searched_keys()), 'key')}"
    if (warning := small_space(space)) is not None:
        yield warning
    for key, raw in space.raw["space"].items():
        yield f"  {key}: {raw}"
    for name, values, problem in space.initial_configs:
        yield f"start with {name}: " + (problem if problem else ", ".join(f"{k}={v}" for k, v in values.items()))
    sample = sampling.sample_space(space)
    num_samples = len(sample.outcomes)
    yield f"infeasible: {100 * sample.refused.total() / num_samples:.0f} % of {num_samples} samples"
    for cause, count in sample.refused.most_common(5):
        yield f"  {count}x {cause}"
    yield from refused_options(space, sample.outcomes)
    yield from _sizes(space, sample)
    yield from _missing(space)
    yield from _time(space, sample, concurrency)


def _sizes(space: Space, sample: SpaceSample) -> Iterator[str]:
    for word, sized in (("smallest", sample.sized[0]), ("largest", sample.sized[-1])):
        yield f"{word} model sampled: {sized.params_m:.3g} M parameters, {_shape(sized.config)}"
    yield _memory(space, sampling.largest(space, sample))


def _shape(config: TrainConfig) -> str:
    return f"T={config.step}, width {config.embed_dim}"


def _memory(space: Space, sized: SizedConfig) -> str:
    """Returns the predicted memory of the config that needs most, and of all trials that share a GPU."""
    from search.execution import memory_estimate
    from search.execution.gpu_shares import CONTEXT_GIB

    gpu, config = space.settings.resources.gpu, sized.config
    gib = memory_estimate.predict(config, on_gpu=gpu > 0).gib
    where = f"on a GPU, amp: {str(config.amp).lower()}" if gpu else "on the CPU"
    line = f"memory: at most about {_short(gib)} GiB ({_shape(config)}) for batches of {config.batch_size} {where}"
    if 0 < gpu < 1:
        trials = int(1 / gpu + 1e-9)
        line += f"; {trials} on one GPU: {_short(trials * (gib + CONTEXT_GIB))} GiB"
    return line


def _missing(space: Space) -> Iterator[str]:
    """Yields a line for missing data and for a missing GPU."""
    if (problem := preconditions.missing_data(space.example)) is not None:
        yield f"data missing: {problem}"
    if (problem := preconditions.missing_gpu(space.settings.resources)) is not None:
        yield f"GPU missing: {problem}. The times below are for the CPU"


def parallel_trials(need: Resources) -> int:
    """Returns how many trials fit on this machine, on its CPUs if it has no GPU.

    Those that share a GPU slow each other and count as one.
    """
    import torch

    slots = (os.cpu_count() or 1) / need.cpu
    if need.gpu and (num_gpus := torch.cuda.device_count()):
        slots = min(slots, num_gpus / max(need.gpu, 1.0))
    return max(1, int(slots))


def _time(space: Space, sample: SpaceSample, concurrency: int | None) -> Iterator[str]:
    import torch

    from search.dry_run.timing import seconds_per_epoch

    plan, paces = search_plan(space.settings, space.size()), seconds_per_epoch(sample.sized)
    slots = _slots(space, concurrency)
    where = "a GPU of this machine" if torch.cuda.is_available() else "one CPU thread of this machine"
    yield (
        f"an epoch of a sampled model: about {clock(fmean(paces))} on {where}, the mean over {len(paces)} "
        f"({clock(min(paces))} to {clock(max(paces))})"
    )
    yield f"the search: {_forecast(plan, paces, slots)}"
    if plan.trials and plan.mode == "promote" and len(plan.levels) > 2 and plan.epochs_total is None:
        complete = counted(max(round(expected_entries(plan, plan.trials)[-1]), 1), "trial")
        yield f"  successive halving, then the first fronts to the end: about {complete} in full"
    if plan.hours:
        yield f"after {plan.hours:g} hours no trial starts, and the running ones end at their next rung"


def _forecast(plan: SearchPlan, paces: Sequence[float], slots: int) -> str:
    """Returns the epochs and the time of a search whose configs take these seconds per epoch."""
    time_s = START_S + (seconds_left(plan, [], 0.0, slots, paces) or 0.0)
    epochs = min(expected_epochs(plan, plan.trials) if plan.trials else math.inf, plan.epochs_total or math.inf)
    if math.isinf(epochs):
        epochs = slots * time_s / fmean(paces)
    return f"about {epochs:.0f} epochs, {clock(time_s)} with {slots} at a time"


def _slots(space: Space, concurrency: int | None) -> int:
    """Returns how many trials run at a time on this machine."""
    slots = min(filter(None, (concurrency, parallel_trials(space.settings.resources))))
    return min(slots, space.budget.trials or slots)


def clock(seconds: float) -> str:
    """Returns a time in its usual unit, from seconds to days."""
    if seconds < 120:
        return f"{_short(seconds)} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.3g} h"
    return f"{_short(seconds / 86400)} days"


def _short(value: float) -> str:
    """Returns a number with two digits, from 10 on with all digits before the point."""
    return f"{value:.2g}" if value < 9.95 else f"{value:,.0f}"
