"""Forecast of a search: the epochs that it still trains, and the time that they take.

Successive halving trains in stages: from the start to the first rung, and from each rung to the next, or to the end.
The number of trials that enter a stage is forecast from the shares that passed the rungs so far and from those of
earlier searches; its epochs are multiplied by the measured seconds per epoch of the trials that entered it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any, Literal

from pydantic import ValidationError

from results.study import TrialStatus
from search.algorithm import mobo
from search.space.schema import SpaceSettings

PASSING_EXPONENT, PASSING_FRONT = -0.8, 3.0
"""In mode `promote`, n trials at a rung pass as n reduction_factor^-0.8 + 3, in the mean over the recorded tables."""
PRIOR_PASSED = 3.0
"""Trials that the share of earlier searches counts for, against those that have passed a rung."""
PRIOR_PACES = 2.0
"""Trials that the seconds per epoch of the stage before count for."""
PRIOR_HEALTHY = 2.0
"""Trials that did not fail, which are added to those observed."""
MIN_FURTHER_TRIALS = 30
"""Trials that a search still starts whose budget does not say how many."""
MAX_CONTINUATIONS, MAX_SIMULATED_TRIALS = 30, 3000
"""Simulated continuations of a search, and the trials in all of them."""


@dataclass(frozen=True)
class SearchPlan:
    """What a search may train: its budget, its rungs and how trials pass them.

    `levels` are the epochs at which stages begin and end: 0, the rungs, and a full training. `trials` is at most the
    number of configs in the space.
    """

    levels: tuple[int, ...]
    mode: Literal["none", "stop", "promote"]
    factor: int = 3
    trials: int | None = None
    epochs_total: int | None = None
    hours: float | None = None
    seeds: int = 1
    is_modelled: bool = False
    """Whether a model chooses configs, which then pass the first rung."""

    @property
    def epochs(self) -> int:
        """Returns the epochs of a full training."""
        return self.levels[-1]

    @property
    def spans(self) -> list[int]:
        """Returns the epochs of each stage."""
        return [end - start for start, end in itertools.pairwise(self.levels)]

    def stage(self, epochs: float) -> int:
        """Returns the stage of a running trial that has trained some epochs."""
        return next((i for i, end in enumerate(self.levels[1:]) if epochs < end), len(self.levels) - 2)


@dataclass(frozen=True)
class TrialProgress:
    """One trial so far: epochs trained, the current one in part, and the seconds in which it ran.

    `is_repeat` marks a config that is trained with a further seed.
    """

    epochs: float
    seconds: float
    state: TrialStatus
    is_repeat: bool = False


def search_plan(settings: SpaceSettings, num_configs: float = math.inf) -> SearchPlan:
    """Returns the plan of a space file's settings."""
    budget, scheduler = settings.budget, settings.scheduler
    return SearchPlan(
        levels=(0, *settings.rung_epochs(), budget.epochs),
        mode="none" if scheduler.name == "none" else scheduler.mode,
        factor=scheduler.reduction_factor,
        trials=None if budget.trials is None else int(min(budget.trials, num_configs)),
        epochs_total=budget.epochs_total,
        hours=budget.hours,
        seeds=settings.seeds,
        is_modelled=settings.sampler.name == "mobo",
    )


def stored_plan(raw: Mapping[str, Any], num_configs: float = math.inf) -> SearchPlan | None:
    """Returns the plan of the space file that is stored with a study; None if today's keys cannot express it."""
    try:
        return search_plan(SpaceSettings.model_validate(dict(raw)), num_configs)
    except ValidationError:
        return None


def expected_entries(plan: SearchPlan, trials: int) -> list[float]:
    """Returns how many of `trials` enter each stage. Choices of the model pass the first rung."""
    counts, num_rungs = [float(trials)], len(plan.levels) - 2
    if not num_rungs or plan.mode == "none":
        return counts * (num_rungs + 1)
    num_before_model = mobo.MIN_POINTS / passing_share(plan, trials) ** max(min(mobo.MIN_RUNG, num_rungs - 1), 0)
    chosen = (1 - mobo.UNIFORM_SHARE) * max(trials - num_before_model, 0) if plan.is_modelled else 0.0
    for _ in range(num_rungs):
        compared = counts[-1] - chosen
        counts.append(chosen + compared * passing_share(plan, compared))
        chosen = 0.0
    return counts


def passing_share(plan: SearchPlan, count: float) -> float:
    """Returns the share of `count` trials which pass the rung that they reach.

    In mode `stop`, the k-th trial at a rung passes if it is among the best ceil(k / reduction_factor), and the first
    ones always do. In mode `promote`, those pass that were among the best at any time, and at the end the first front
    (docs/log.md).
    """
    if plan.mode == "none":
        return 1.0
    if plan.mode == "promote":
        return min(float(plan.factor**PASSING_EXPONENT) + PASSING_FRONT / max(count, 1.0), 1.0)
    shares = (1.0 if k < plan.factor else math.ceil(k / plan.factor) / k for k in range(1, math.ceil(count) + 1))
    return fmean(shares) if count > 0 else 1.0


def expected_epochs(plan: SearchPlan, trials: int) -> float:
    """Returns the epochs that `trials` take, with those of further seeds."""
    entries = expected_entries(plan, trials)
    repeats = entries[-1] * (plan.seeds - 1) * plan.epochs
    return repeats + sum(count * span for count, span in zip(entries, plan.spans, strict=True))


def seconds_left(
    plan: SearchPlan, trials: Sequence[TrialProgress], elapsed_s: float, slots: int, sampled_s: Sequence[float] = ()
) -> float | None:
    """Returns the forecast of the remaining time with `slots` parallel trials, the mean over simulated continuations.

    `sampled_s` are seconds per epoch of configs of the space, for a search that has measured nothing yet; without them
    the time is then None, or what a budget in hours leaves.
    """
    pool = [trial.seconds / trial.epochs for trial in trials if trial.epochs] or list(sampled_s)
    if not pool:
        return None if plan.hours is None else max(3600.0 * plan.hours - elapsed_s, 0.0)
    remainder = _Remainder(plan, trials, elapsed_s, pool)
    count = max(1, min(MAX_CONTINUATIONS, MAX_SIMULATED_TRIALS // max((plan.trials or 0) - len(trials), 1)))
    return fmean(remainder.simulate(max(slots, 1), Random(seed)) for seed in range(count))


@dataclass(frozen=True)
class _Stage:
    """Rates of one stage: share that enters the next one, share that fails, mean part that failed ones train, pace.

    `paused_share` is that of the trials paused at its end which enter the next stage later; `seconds` are per epoch.
    """

    passing: float
    failing: float
    failed_part: float
    paused_share: float
    seconds: float


class _Remainder:
    """The part of a search that is still to run; `pool` holds the seconds per epoch of some configs."""

    def __init__(
        self, plan: SearchPlan, trials: Sequence[TrialProgress], elapsed_s: float, pool: Sequence[float]
    ) -> None:
        self.plan = plan
        self.trials = [trial for trial in trials if not trial.is_repeat]
        self.num_repeats = len(trials) - len(self.trials)
        self.running = [trial for trial in trials if trial.state == "running"]
        self.entered = [[t for t in self.trials if self._has_entered(t, i)] for i in range(len(plan.spans))]
        self.stages = [self._stage(i, pace) for i, pace in enumerate(self._paces(fmean(pool)))]
        self.ratios = [pace / fmean(pool) for pace in pool]
        self.epochs_left = (plan.epochs_total or math.inf) - sum(trial.epochs for trial in trials)
        self.seconds_left = 3600.0 * (plan.hours or math.inf) - elapsed_s

    def simulate(self, slots: int, random: Random) -> float:
        """Returns the time of one continuation: free workers take running trials, then paused and new ones, in turn."""
        workers, epochs = [0.0] * slots, 0.0
        for start, ratio, is_repeat in self._jobs(slots, random):
            if epochs >= self.epochs_left or workers[0] >= self.seconds_left:
                break
            trained, seconds = self._training(start, is_repeat, random)
            if epochs + trained > self.epochs_left:
                seconds *= (self.epochs_left - epochs) / trained
            epochs += trained
            heapq.heapreplace(workers, workers[0] + ratio * seconds)
        return max(workers)

    def _jobs(self, slots: int, random: Random) -> Iterator[tuple[float, float, bool]]:
        """Yields the epoch from which each trial is trained, its seconds per epoch as a ratio to others, and whether it
        repeats a config; those that run come first. If a slot is idle beside them, no paused trial waits."""
        for trial in self.running:
            yield trial.epochs, self._ratio(trial), trial.is_repeat
        num_new = math.inf if self.plan.trials is None else max(self.plan.trials - len(self.trials), 0)
        for _ in range(int(min(num_new, MAX_SIMULATED_TRIALS))):
            yield 0.0, random.choice(self.ratios), False
        has_idle_slot = num_new == 0 and 0 < len(self.running) < slots
        for trial in () if has_idle_slot or self.plan.epochs_total is not None else self.trials:
            stage = bisect_left(self.plan.levels, trial.epochs) - 1
            if trial.state == "paused" and stage >= 0 and random.random() < self.stages[stage].paused_share:
                yield trial.epochs, self._ratio(trial), False
        for _ in range(self._further_repeats()):
            yield 0.0, random.choice(self.ratios), True

    def _training(self, start: float, is_repeat: bool, random: Random) -> tuple[float, float]:
        """Returns the epochs and the seconds of a trial until it stops, fails or is trained in full."""
        if is_repeat:
            epochs = self.plan.epochs - start
            return epochs, epochs * self.stages[-1].seconds
        trained = seconds = 0.0
        for stage, end in list(zip(self.stages, self.plan.levels[1:], strict=True))[self.plan.stage(start) :]:
            chance, part = random.random(), 1.0
            if chance >= 1.0 - stage.failing:
                part = stage.failed_part
            trained += part * (end - start)
            seconds += part * (end - start) * stage.seconds
            if chance >= stage.passing:
                break
            start = end
        return trained, seconds

    def _has_entered(self, trial: TrialProgress, stage: int) -> bool:
        start = self.plan.levels[stage]
        return trial.epochs > start or (trial.epochs == start and (not start or trial.state == "running"))

    def _paces(self, known: float) -> list[float]:
        """Returns the seconds per epoch in each stage: means over the trials that entered it, shrunk to the one before.

        `known` is the mean over all trials. A trial in its first epoch takes as long as it has run, or more.
        """
        weight, paces = 0.0, []
        for entered in self.entered:
            found = [t.seconds / t.epochs for t in entered if t.epochs]
            found += [max(t.seconds, known) for t in entered if not t.epochs and t.state == "running"]
            known = (sum(found) + weight * known) / (len(found) + weight) if found else known
            weight = PRIOR_PACES
            paces.append(known)
        return paces

    def _stage(self, index: int, seconds: float) -> _Stage:
        entered, end = self.entered[index], self.plan.levels[index + 1]
        failed = [trial for trial in entered if trial.state == "failed" and trial.epochs < end]
        parts = [(trial.epochs - self.plan.levels[index]) / self.plan.spans[index] for trial in failed]
        failing, failed_part = len(failed) / (len(entered) + PRIOR_HEALTHY), fmean(parts or [0.0])
        if index + 1 == len(self.entered):
            return _Stage(0.0, failing, failed_part, 0.0, seconds)
        decided = [t for t in entered if t.epochs >= end or t.state not in ("running", "paused")]
        num_decided, num_passed = len(decided), len(self.entered[index + 1])
        front = PASSING_FRONT / 2 if self.plan.mode == "promote" else 0.0  # about half of it passes at the end
        expected = max(self._expected_to_pass(index, num_decided) - front, 0.0)
        factor = (PRIOR_PASSED + num_passed) / (PRIOR_PASSED + expected)
        passing = min(self._further_share(index, num_decided) * factor, 1.0 - failing)
        num_paused = sum(trial.state == "paused" and trial.epochs == end for trial in decided)
        later = max(expected * factor + front - num_passed, 0.0) / num_paused if num_paused else 0.0
        return _Stage(passing, failing, failed_part, later, seconds)

    def _expected_to_pass(self, index: int, count: float) -> float:
        """Returns how many of `count` trials pass the rung at the end of a stage until the search ends."""
        if index == 0:
            return expected_entries(self.plan, round(count))[1]
        return count * passing_share(self.plan, count)

    def _further_share(self, index: int, num_decided: int) -> float:
        """Returns the share of the trials that have not reached the end of a stage yet which are expected to pass."""
        planned = self.plan.trials or len(self.trials) + MIN_FURTHER_TRIALS
        final = max(expected_entries(self.plan, planned)[index], num_decided + 1.0)
        passed = self._expected_to_pass(index, final) - self._expected_to_pass(index, num_decided)
        return passed / (final - num_decided)

    def _ratio(self, trial: TrialProgress) -> float:
        """Returns a trial's seconds per epoch as a ratio to those of its stage."""
        seconds = self.stages[self.plan.stage(trial.epochs)].seconds
        return (trial.seconds / trial.epochs if trial.epochs else max(trial.seconds, seconds)) / seconds

    def _further_repeats(self) -> int:
        if self.plan.seeds == 1:
            return 0
        trials = max(self.plan.trials or 0, len(self.trials))
        share = math.prod(stage.passing for stage in self.stages[:-1]) * (1.0 - self.stages[-1].failing)
        return max(round(trials * share * (self.plan.seeds - 1)) - self.num_repeats, 0)
