"""The chance that a training comes to its end without failing, learned from those before, and what it will cost.

Between two looks at a trial lies a stage. Whether a trial fails in one is a Bayesian logistic regression: in the first
stage on the config, its keys one by one and in pairs; in later ones also on the stage and on what was measured where it
begins, for what is born silent and what falls silent late are different nets. The posterior is taken as normal around
its mode, and its width draws the chance of what nobody tried towards one half (MacKay 1992, The evidence framework
applied to classification networks). Pure numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from results.pareto import Floats
from search.algorithm.observations import CONFIG_FAILURES
from search.algorithm.trial import Trial

RARE, STAGE_SD = -2.0, 2.0
"""The logit of a failure in a stage before anything is known, and how far a stage may be from it."""
KEY_SD, PAIR_SD, METRIC_SD = 3.0, 1.5, 1.5
"""How far a key over its range, a pair of keys, and a metric by its spread are thought to move the logit."""
MOST_PAIRS = 200
"""Where there are more pairs of keys, the keys alone are looked at."""
STEPS, LONGEST_STEP, SMALLEST_STEP = 20, 4.0, 1e-4
"""Of Newton's method: how many at most, how far one may go, and when it has arrived."""


@dataclass(frozen=True)
class TrainingStage:
    """One stage of a trial: its config as a vector, what was measured where the stage begins, and whether it failed."""

    place: Sequence[float]
    stage: int
    before: Sequence[float] = ()
    failed: bool = False


Features = tuple[Floats, Floats]


class LogisticRegression:
    """A logistic regression around `RARE`, whose weights are normal around 0."""

    def __init__(self, x: Floats, failed: Sequence[bool], deviations: Sequence[float]) -> None:
        """Fits weights with these prior `deviations` `[d]` to the rows `x` `[n, d]`."""
        y, precision = np.array(failed, dtype=float), np.diag(np.array(deviations) ** -2.0)
        self.mode, curvature = np.zeros(len(precision)), precision
        for _ in range(STEPS):
            chance = expit(RARE + x @ self.mode)
            curvature = (x.T * (chance * (1.0 - chance))) @ x + precision
            step = np.linalg.solve(curvature, x.T @ (y - chance) - precision @ self.mode)
            longest = float(np.abs(step).max())
            self.mode = self.mode + step * min(1.0, LONGEST_STEP / max(longest, SMALLEST_STEP))
            if longest < SMALLEST_STEP:
                break
        self.covariance = np.linalg.inv(curvature)

    def failure_probability(self, x: Floats) -> Floats:
        """Returns the chance of a failure of each row `[n, d]`."""
        variance = ((x @ self.covariance) * x).sum(axis=1)
        found: Floats = expit((RARE + x @ self.mode) / np.sqrt(1.0 + math.pi / 8.0 * variance))
        return found


class FailureModel:
    """What is known of failures in the stages up to each of `levels`, of which the last is a full training.

    `width` is the length of a config's vector; where a stage begins, as many `metrics` are known.
    """

    def __init__(self, levels: Sequence[int], width: int, metrics: int) -> None:
        self.levels, self.width, self.metrics = levels, width, metrics
        pairs = width * (width + 1) // 2
        self._pairs = np.triu_indices(width) if pairs <= MOST_PAIRS else np.triu_indices(0)
        self._keys = [KEY_SD] * width + [PAIR_SD] * len(self._pairs[0])
        self._center, self._unit = np.zeros(metrics), np.ones(metrics)
        self._rows: list[list[TrainingStage]] = [[], []]
        self._early, self._late = self._fit_early([]), self._fit_late([])

    def fit(self, known: Sequence[TrainingStage]) -> None:
        """Takes all that is known by now; a regression whose stages are the same as before stays as it is."""
        early, late = ([one for one in known if bool(one.stage) == is_late] for is_late in (False, True))
        if early != self._rows[0]:
            self._early = self._fit_early(early)
        if late != self._rows[1]:  # once there is one, there always is
            before = self._before(late)
            self._center, self._unit = before.mean(axis=0), np.maximum(before.std(axis=0), 1e-6)
            self._late = self._fit_late(late)
        self._rows = [early, late]

    def survival(self, begun: Sequence[TrainingStage]) -> tuple[Floats, Floats]:
        """Returns for trials that begin these stages the chance to reach the end, and the epochs until then.

        Who fails in a stage takes half of its epochs.
        """
        alive, epochs, features = np.ones(len(begun)), np.zeros(len(begun)), self.features(begun)
        for stage, (start, end) in enumerate(itertools.pairwise([0, *self.levels])):
            ahead = np.array([one.stage <= stage for one in begun], dtype=float)
            fails = ahead * self.failure_probability(features, stage)
            epochs += ahead * alive * (1.0 - 0.5 * fails) * (end - start)
            alive *= 1.0 - fails
        return alive, epochs

    def failure_probability(self, features: Features, stage: int) -> Floats:
        """Returns the chance of a failure in a stage, by what was measured before it or before an earlier one."""
        if not stage:
            return self._early.failure_probability(self._first(features))
        return self._late.failure_probability(self._later(features, [stage] * len(features[0])))

    def features(self, rows: Sequence[TrainingStage]) -> Features:
        """Returns the keys and their pairs, and what was measured, as they count in any stage."""
        keys = np.array([one.place for one in rows]).reshape(-1, self.width) - 0.5
        first, second = self._pairs
        before = (self._before(rows) - self._center) / self._unit
        return np.concatenate([keys, keys[:, first] * keys[:, second]], axis=1), before

    def _fit_early(self, rows: Sequence[TrainingStage]) -> LogisticRegression:
        return LogisticRegression(
            self._first(self.features(rows)), [one.failed for one in rows], [STAGE_SD, *self._keys]
        )

    def _fit_late(self, rows: Sequence[TrainingStage]) -> LogisticRegression:
        deviations = [STAGE_SD] * (len(self.levels) - 1) + self._keys + [METRIC_SD] * self.metrics
        x = self._later(self.features(rows), [one.stage for one in rows])
        return LogisticRegression(x, [one.failed for one in rows], deviations)

    def _first(self, features: Features) -> Floats:
        """Returns what counts in the first stage, `[n, d]`."""
        keys, _ = features
        return np.concatenate([np.ones((len(keys), 1)), keys], axis=1)

    def _later(self, features: Features, stage: Sequence[int]) -> Floats:
        """Returns what counts in each row's stage after the first, `[n, d]`."""
        which = np.eye(len(self.levels) - 1)[np.array(stage, dtype=int) - 1]
        return np.concatenate([which, *features], axis=1)

    def _before(self, rows: Sequence[TrainingStage]) -> Floats:
        """Returns what was measured before the stages, `[n, metrics]`; what is usual, where nothing was."""
        return np.array([one.before or self._center for one in rows]).reshape(-1, self.metrics)


def training_stages(
    record: Trial, place: Sequence[float], levels: Sequence[int], seen: Mapping[int, Sequence[float]]
) -> list[TrainingStage]:
    """Returns the stages that a trial went through; `seen` is what was measured at the levels that it reached."""
    found: list[TrainingStage] = []
    before: Sequence[float] = ()
    failed_in = (
        record.epoch + (record.failure_class != "at_chance") if record.failure_class in CONFIG_FAILURES else math.inf
    )
    for stage, level in enumerate(levels):
        if failed_in <= level:
            return [*found, TrainingStage(place, stage, before, failed=True)]
        if level not in seen:
            return found
        found.append(TrainingStage(place, stage, before))
        before = seen[level]
    return found
