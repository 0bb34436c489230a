"""Multi-objective Bayesian optimization: the choice of new configs by a model of the rungs.

Of the new configs, a share is sampled uniformly. The others maximise an acquisition function over a pool: untried
configs near the best ones of a rung, and uniform samples. The model is a chain of Gaussian processes over the rungs for
each objective, up to the highest rung with enough trials. It predicts normal scores, so units and tails of the
objectives do not matter. The acquisition function is an augmented Chebyshev scalarization of lower confidence bounds
with new random weights for each suggestion (ParEGO: Knowles 2006). The combination with asynchronous successive halving
follows MOBSTER (Klein et al. 2020), the uniform share BOHB (Falkner et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from config.distributions import UniformSampler
from results.pareto import Floats
from search.algorithm import moasha, prior
from search.algorithm.encoder import Encoder
from search.algorithm.gaussian_process import Chain, GaussianProcess, Kernel
from search.algorithm.observations import representative
from search.space.space import Space

UNIFORM_SHARE = 1.0 / 3.0
"""Share of the new configs that is sampled uniformly."""
MIN_POINTS = 10
"""Trials that a rung needs for the model."""
MIN_RUNG = 2
"""Position of the lowest rung that may be the highest of the model, if there are as many: the first ranks too badly."""
MAX_POINTS = 80
"""Trials of a rung that the model uses: the best third of this number, and an even selection of the others."""
REFIT_GROWTH = 1.25
"""Growth of the number of trials after which a kernel is fitted again."""
NUM_NEAR, NUM_UNIFORM = 50, 50
"""Candidates near the best configs, and uniform ones."""
NUM_CHANGED = 1.5
"""Mean number of keys that change in a config near another."""
CONFIDENCE = 0.5
"""Standard deviations by which a prediction is lowered: optimism about what is unknown."""
AUGMENTATION = 0.05
ACCURACY_WEIGHT = 3.0
"""Mean weight of accuracy over that of another objective: the cheapest configs are of little use."""

Config = Mapping[str, Any]


@dataclass
class RungTable:
    """Trials at one epoch: points to be minimised, and those that rank behind all others."""

    points: moasha.PointTable = field(default_factory=moasha.PointTable)
    at_chance: set[int] = field(default_factory=set)
    violating: set[int] = field(default_factory=set)


class ModelSampler:
    """Suggests configs by a model of the trials that `add` and `add_failed` report. Pure, given the seed of each call.

    `configs` returns the config of a trial; `levels` are the epochs of the rungs and of a full training.
    """

    def __init__(self, space: Space, encode: Encoder, configs: Callable[[int], Config]) -> None:
        self.space, self.encode, self.configs = space, encode, configs
        self.levels = [*space.rung_epochs(), space.budget.epochs]
        self.tables = {level: RungTable() for level in self.levels}
        self.failed: set[int] = set()
        """Trials that failed, or were refused, for a reason in their config."""
        self.kernels: dict[str, tuple[int, list[float]]] = {}
        """Log parameters of the kernel of `epoch/objective`, and the number of trials at which it was fitted."""
        self._rows: dict[int, Floats] = {}
        """Encoded configs of trials."""
        self._chains: tuple[int, list[Chain]] | None = None
        """The model and its highest rung, until another trial is reported; None while kernels are due."""

    def add(self, number: int, epoch: int, point: Sequence[float], *, at_chance: bool, is_violating: bool) -> None:
        """Adds a trial's point at an epoch. Epochs without a rung are ignored."""
        table = self.tables.get(epoch)
        if table is None:
            return
        table.points[number] = point
        table.at_chance.update([number] * at_chance)
        table.violating.update([number] * is_violating)
        self._chains = None

    def remove(self, number: int) -> None:
        """Removes a trial that failed for a reason other than its config."""
        for table in self.tables.values():
            table.points.pop(number, None)
        self._chains = None

    def add_failed(self, number: int) -> None:
        """Adds a trial that failed for a reason in its config: it ranks last at every rung."""
        self.remove(number)
        self.failed.add(number)

    def suggest(self, seed: int, is_tried: Callable[[Config], bool]) -> dict[str, Any] | None:
        """Returns the best of a pool of untried configs; None if the model is not ready, or all are tried."""
        level = self._highest()
        if level is None:
            return None
        rng = UniformSampler(seed)
        pool = self._pool(level, rng)
        encoded = self.encode(pool)
        predicted = [chain.predict(encoded) for chain in self._fitted(level)]
        bounds = ndtr(np.stack([mean - CONFIDENCE * deviation for mean, deviation in predicted], axis=1))
        weights = np.array([rng.expovariate(1.0) * self._mean_weight(name) for name in self.space.objectives])
        weighted = bounds * (weights / weights.sum())
        order = np.argsort(weighted.max(axis=1) + AUGMENTATION * weighted.sum(axis=1), kind="stable")
        return next((pool[i] for i in order if not is_tried(pool[i])), None)

    def _mean_weight(self, objective: str) -> float:
        return ACCURACY_WEIGHT if objective == "accuracy" else 1.0

    def _highest(self) -> int | None:
        """Returns the epoch of the highest rung with enough trials."""
        lowest = max(min(MIN_RUNG, len(self.levels) - 2), 0)
        enough = [level for level in self.levels[lowest:] if self._count(level) >= MIN_POINTS]
        return enough[-1] if enough else None

    def _count(self, level: int) -> int:
        return len(self.tables[level].points)

    def _pool(self, level: int, rng: UniformSampler) -> list[dict[str, Any]]:
        """Returns configs near the best third of a rung, and uniform ones."""
        table = self.tables[level]
        best = moasha.best(table.points, math.ceil(len(table.points) / 3), self._last(level, is_highest=True))
        share = NUM_CHANGED / max(len(self.space.keys), 1)
        near = [prior.change(self.space, self.configs(rng.choice(best)), rng, share) for _ in range(NUM_NEAR)]
        return near + [self.space.suggest(rng) for _ in range(NUM_UNIFORM)]

    def _last(self, level: int, *, is_highest: bool) -> set[int]:
        """Returns the trials that rank last: at chance, and at the highest rung those that violate a constraint.

        Early epochs are no measure of a constraint on the result of a full training.
        """
        table = self.tables[level]
        last = set(table.at_chance)
        if is_highest and len(table.violating | last) < len(table.points):
            last |= table.violating
        return last

    def _fitted(self, highest: int) -> list[Chain]:
        """Returns the model of each objective up to a rung."""
        if self._chains is not None and self._chains[0] == highest:
            return self._chains[1]
        chains, may_fit = [Chain() for _ in self.space.objectives], True
        for level in self.levels[: self.levels.index(highest) + 1]:
            if self._count(level) >= MIN_POINTS:
                numbers, scores = self._scores(level, is_highest=level == highest)
                x = np.stack([self._row(number) for number in numbers])
                for name, chain, y in zip(self.space.objectives, chains, scores.T, strict=True):
                    rho, residuals = chain.residuals(x, y)
                    is_due = self._is_due(f"{level}/{name}", level)
                    kernel = self._kernel(f"{level}/{name}")
                    if is_due and may_fit:  # one per suggestion, as it takes several milliseconds
                        kernel, may_fit = kernel.fitted(x, residuals), False
                        self.kernels[f"{level}/{name}"] = self._count(level), list(kernel.log_params)
                    chain.append(rho, GaussianProcess(kernel, x, residuals))
        self._chains = (highest, chains) if may_fit else None
        return chains

    def _kernel(self, name: str) -> Kernel:
        _, log_params = self.kernels.get(name, (0, None))
        return Kernel.initial(self.encode.groups) if log_params is None else Kernel(self.encode.groups, log_params)

    def _is_due(self, name: str, level: int) -> bool:
        """Returns whether there are a quarter more trials than when the kernel was fitted."""
        return self._count(level) > REFIT_GROWTH * self.kernels.get(name, (0, None))[0]

    def _row(self, number: int) -> Floats:
        if number not in self._rows:
            self._rows[number] = self.encode([self.configs(number)])[0]
        return self._rows[number]

    def _scores(self, level: int, *, is_highest: bool) -> tuple[list[int], Floats]:
        """Returns trials, at most `MAX_POINTS`, and the normal scores `[N, M]` of their objectives at a rung."""
        table, last = self.tables[level], self._last(level, is_highest=is_highest)
        failed = np.array(sorted(self.failed), dtype=np.int64)
        numbers: NDArray[np.int64] = np.concatenate([table.points.numbers, failed])
        rows = np.concatenate([table.points.rows, np.full((len(failed), table.points.rows.shape[1]), np.inf)])
        rows[np.isin(numbers, list(last))] = np.inf
        scores = ndtri((rankdata(rows, axis=0) - 0.5) / len(rows))
        if len(numbers) > MAX_POINTS:
            best = set(moasha.best(table.points, MAX_POINTS // 3, last))
            is_used = np.isin(numbers, list(representative(numbers.tolist(), best, MAX_POINTS)))
            numbers, scores = numbers[is_used], scores[is_used]
        return numbers.tolist(), scores
