"""Failure model: probability that a training ends without failure, and the epochs until it ends.

A training stage lies between two milestones of a trial. Whether a trial fails in a stage is a Bayesian logistic
regression. One regression covers the first stage, over the keys of the config and their pairs. Another covers the later
stages, over the same features, the stage, and the metrics at its start. Nets that are silent from the start and nets
that fall silent late differ. The posterior is approximated by a normal distribution around its mode, whose width moves
predictions for unfamiliar configs towards one half (MacKay, 1992, The evidence framework applied to classification
networks). Pure numpy.
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

PRIOR_LOGIT, STAGE_SD = -2.0, 2.0
"""Prior mean of the logit of a failure in a stage, and standard deviation of a stage's own offset."""
KEY_SD, PAIR_SD, METRIC_SD = 3.0, 1.5, 1.5
"""Prior standard deviations of the weights of a key over its range, a pair of keys, and a standardized metric."""
MAX_PAIRS = 200
"""Number of pairs above which pairs are left out."""
MAX_ITERATIONS, MAX_STEP, TOLERANCE = 20, 4.0, 1e-4
"""Of Newton's method."""


@dataclass(frozen=True)
class TrainingStage:
    """One stage of a trial: its encoded config, the transformed metrics at the start, and whether the trial failed."""

    x: Sequence[float]
    stage: int
    metrics: Sequence[float] = ()
    failed: bool = False


Features = tuple[Floats, Floats]
"""Keys with their pairs `[N, D]`, and standardized metrics `[N, metrics]`."""


class LogisticRegression:
    """Logistic regression with offset `PRIOR_LOGIT` and weights that are normal around 0."""

    def __init__(self, x: Floats, failed: Sequence[bool], deviations: Sequence[float]) -> None:
        """Fits weights with these prior `deviations` `[D]` to the rows `x` `[N, D]`."""
        y, precision = np.array(failed, dtype=float), np.diag(np.array(deviations) ** -2.0)
        self.mode, hessian = np.zeros(len(precision)), precision
        for _ in range(MAX_ITERATIONS):
            probability = expit(PRIOR_LOGIT + x @ self.mode)
            hessian = (x.T * (probability * (1.0 - probability))) @ x + precision
            step = np.linalg.solve(hessian, x.T @ (y - probability) - precision @ self.mode)
            largest = float(np.abs(step).max())
            self.mode = self.mode + step * min(1.0, MAX_STEP / max(largest, TOLERANCE))
            if largest < TOLERANCE:
                break
        self.covariance = np.linalg.inv(hessian)

    def failure_probability(self, x: Floats) -> Floats:
        """Returns the probability `[N]` of a failure for the rows `x` `[N, D]`, averaged over the posterior."""
        variance = ((x @ self.covariance) * x).sum(axis=1)
        return np.asarray(expit((PRIOR_LOGIT + x @ self.mode) / np.sqrt(1.0 + math.pi / 8.0 * variance)))


class FailureModel:
    """Failure probabilities in the stages up to each of `levels`, in epochs, of which the last is a full training.

    `width` is the length of an encoded config, `num_metrics` the number of metrics known at the start of a stage.
    """

    def __init__(self, levels: Sequence[int], width: int, num_metrics: int) -> None:
        self._levels, self._width, self._num_metrics = levels, width, num_metrics
        is_paired = width * (width + 1) // 2 <= MAX_PAIRS
        self._pairs = np.triu_indices(width if is_paired else 0)
        self._key_deviations = [KEY_SD] * width + [PAIR_SD] * len(self._pairs[0])
        self._center, self._unit = np.zeros(num_metrics), np.ones(num_metrics)
        self._stages: dict[bool, list[TrainingStage]] = {False: [], True: []}
        self._regressions = {is_late: self._fit([], is_late) for is_late in (False, True)}
        """For the first stage, and for the later ones."""

    def fit(self, stages: Sequence[TrainingStage]) -> None:
        """Fits to all stages so far; a regression whose stages are unchanged is not fitted again."""
        for is_late in (False, True):
            chosen = [one for one in stages if bool(one.stage) == is_late]
            if chosen == self._stages[is_late]:
                continue
            if is_late:
                metrics = self._metrics(chosen)
                self._center, self._unit = metrics.mean(axis=0), np.maximum(metrics.std(axis=0), 1e-6)
            self._stages[is_late], self._regressions[is_late] = chosen, self._fit(chosen, is_late)

    def survival(self, stages: Sequence[TrainingStage]) -> tuple[Floats, Floats]:
        """Returns the probability `[N]` to complete a full training from the start of these stages, and its epochs.

        A trial that fails in a stage is expected to take half of its epochs.
        """
        alive, epochs, features = np.ones(len(stages)), np.zeros(len(stages)), self.features(stages)
        for stage, (start, end) in enumerate(itertools.pairwise([0, *self._levels])):
            is_remaining = np.array([one.stage <= stage for one in stages], dtype=float)
            fails = is_remaining * self.failure_probability(features, stage)
            epochs += is_remaining * alive * (1.0 - 0.5 * fails) * (end - start)
            alive *= 1.0 - fails
        return alive, epochs

    def failure_probability(self, features: Features, stage: int) -> Floats:
        """Returns the probability `[N]` of a failure in a stage, given the metrics before it or an earlier one."""
        rows = self._rows(features, [stage] * len(features[0]), is_late=stage > 0)
        return self._regressions[stage > 0].failure_probability(rows)

    def features(self, stages: Sequence[TrainingStage]) -> Features:
        """Returns the features of stages for either regression."""
        keys = np.array([one.x for one in stages]).reshape(-1, self._width) - 0.5
        first, second = self._pairs
        metrics = (self._metrics(stages) - self._center) / self._unit
        return np.concatenate([keys, keys[:, first] * keys[:, second]], axis=1), metrics

    def _fit(self, stages: Sequence[TrainingStage], is_late: bool) -> LogisticRegression:
        deviations = [STAGE_SD] * (len(self._levels) - 1 if is_late else 1) + self._key_deviations
        deviations += [METRIC_SD] * (self._num_metrics if is_late else 0)
        rows = self._rows(self.features(stages), [one.stage for one in stages], is_late)
        return LogisticRegression(rows, [one.failed for one in stages], deviations)

    def _rows(self, features: Features, stages: Sequence[int], is_late: bool) -> Floats:
        """Returns the rows `[N, D]` of a regression: the stage, one-hot, keys with pairs, and metrics if it is late."""
        if not is_late:
            return np.concatenate([np.ones((len(stages), 1)), features[0]], axis=1)
        one_hot = np.eye(len(self._levels) - 1)[np.array(stages, dtype=int) - 1]
        return np.concatenate([one_hot, *features], axis=1)

    def _metrics(self, stages: Sequence[TrainingStage]) -> Floats:
        """Returns the metrics `[N, metrics]` at the start of stages, and their mean where there are none."""
        return np.array([one.metrics or self._center for one in stages]).reshape(-1, self._num_metrics)


def training_stages(
    trial: Trial, x: Sequence[float], levels: Sequence[int], metrics: Mapping[int, Sequence[float]]
) -> list[TrainingStage]:
    """Returns the stages of a trial; `metrics` holds the transformed ones at the levels that it has reached."""
    found: list[TrainingStage] = []
    is_config_failure = trial.failure_class in CONFIG_FAILURES
    failed_at = trial.epoch + (trial.failure_class != "at_chance") if is_config_failure else math.inf
    for stage, level in enumerate(levels):
        before = metrics[levels[stage - 1]] if stage else ()
        if failed_at <= level:
            return [*found, TrainingStage(x, stage, before, failed=True)]
        if level not in metrics:
            break
        found.append(TrainingStage(x, stage, before))
    return found
