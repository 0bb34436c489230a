"""Fit and predict times of the surrogate against scikit-learn's: `OMP_NUM_THREADS=1 python -m benchmarks.surrogate`.

Both fit the same Gaussian process to learning curves of a recorded table and predict all of its configs. scikit-learn's
`GaussianProcessRegressor` gets the covariance as a custom kernel, and one fit per entry of the kernel grid for all
objectives together. `fit` selects the kernels of each objective from the grid, `refit` has them. Times are medians of
CPU milliseconds, taken alternately in one process; ratios are scikit-learn's over ours. Differences are the largest
ones of the predicted means and deviations, in standard deviations of the objective.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from benchmarks.report import machine, write
from benchmarks.simulations import TABLES
from results.pareto import Floats
from search.algorithm.encoder import Encoder
from search.algorithm.hypervolume_gain import transform
from search.algorithm.surrogate import (
    EPOCH_LENGTH_SCALE,
    KERNEL_GRID,
    OWN,
    OWN_LOCAL,
    SHARED,
    SHARED_LOCAL,
    KernelParams,
    Measurement,
    Surrogate,
)
from search.simulation import recorded_curves
from search.simulation.recorded_curves import RecordedCurves
from search.simulation.simulator import uniform

TABLE, SIZES = "digits", (100, 200, 400)
OBJECTIVES = ("accuracy", "spike_rate", "synops")


class EpochKernel(Kernel):  # type: ignore[misc]  # scikit-learn has no types
    """The covariance of `search.algorithm.surrogate` over rows of (encoded config, trial, epoch)."""

    def __init__(self, length: float, max_epochs: int) -> None:
        self.length, self.max_epochs = length, max_epochs

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Floats:
        Y = X if Y is None else Y
        d = cdist(X[:, :-2], Y[:, :-2]) * math.sqrt(5.0 / (X.shape[1] - 2)) / self.length
        steps = np.log(X[:, -1:] / Y[:, -1]) / math.log(self.max_epochs)
        q = np.exp(-0.5 * (steps / EPOCH_LENGTH_SCALE) ** 2)
        shared = (1.0 + d + d**2 / 3.0) * np.exp(-d) * (SHARED + SHARED_LOCAL * q)
        return np.asarray(shared + (X[:, -2:-1] == Y[:, -2]) * (OWN + OWN_LOCAL * q))

    def diag(self, X: Floats) -> Floats:
        return np.full(len(X), SHARED + SHARED_LOCAL + OWN + OWN_LOCAL)

    def is_stationary(self) -> bool:
        return False


def rows_of(x: Floats, trials: Sequence[int], epochs: Sequence[int]) -> Floats:
    """Returns the rows of `EpochKernel` for encoded configs."""
    return np.column_stack([x, trials, epochs])


class SklearnSurrogate:
    """The same Gaussian process by scikit-learn, fitted to rows `[N, D + 2]` and standardized objectives `[N, M]`."""

    def __init__(self, rows: Floats, y: Floats, max_epochs: int, grid: Sequence[KernelParams] = KERNEL_GRID) -> None:
        self.models = [
            GaussianProcessRegressor(EpochKernel(length, max_epochs), alpha=noise, optimizer=None).fit(rows, y)
            for length, noise in grid
        ]
        likelihoods = [-0.5 * (y * model.alpha_).sum(axis=0) - np.log(np.diag(model.L_)).sum() for model in self.models]
        self.chosen = np.argmax(likelihoods, axis=0).tolist()
        """Position of the best kernel of each objective."""

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Returns standardized means and deviations `[P, M]`."""
        found = {i: self.models[i].predict(rows, return_std=True) for i in set(self.chosen)}
        columns = [(found[i][0][:, m], found[i][1][:, m]) for m, i in enumerate(self.chosen)]
        return np.stack([mean for mean, _ in columns], axis=1), np.stack([sd for _, sd in columns], axis=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surrogate", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="repeats of each measurement (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args(argv)
    table = recorded_curves.load(TABLES / TABLE)
    figures = {
        f"{m} objectives": {str(size): measure(table, size, m, arguments.repeats) for size in SIZES} for m in (2, 3)
    }
    write({**figures, "machine": machine() | {"scikit-learn": version("scikit-learn")}}, arguments.json)


def measure(table: RecordedCurves, size: int, num_objectives: int, repeats: int) -> dict[str, float]:
    """Returns times, ratios and differences for a number of observations."""
    encode, observed = Encoder(table.space), observations(table, size, OBJECTIVES[:num_objectives])
    ours = Surrogate(encode, observed, table.epochs)
    rows, x = rows_of(ours.x, ours.trials.tolist(), ours.epochs.tolist()), encode(table.configs)
    new = [-1] * len(x)
    new_rows = rows_of(x, new, [table.epochs] * len(x))
    theirs = SklearnSurrogate(rows, ours.y, table.epochs)
    best = [KERNEL_GRID[i] for i in sorted(set(theirs.chosen))]
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "fit": (
            lambda: Surrogate(encode, observed, table.epochs),
            lambda: SklearnSurrogate(rows, ours.y, table.epochs),
        ),
        "refit": (
            lambda: Surrogate(encode, observed, table.epochs, ours.kernels),
            lambda: SklearnSurrogate(rows, ours.y, table.epochs, best),
        ),
        "predict": (lambda: ours.predict(x, new), lambda: theirs.predict(new_rows)),
    }
    means, deviations = ours.predict(x, new)
    their_means, their_deviations = theirs.predict(new_rows)
    means = (means - ours.mean_curve[table.epochs]) / ours.scale
    return {
        **{key: value for name, pair in pairs.items() for key, value in compare(name, *pair, repeats).items()},
        "mean_difference": float(np.abs(means - their_means).max()),
        "deviation_difference": float(np.abs(deviations / ours.scale - their_deviations).max()),
    }


def observations(table: RecordedCurves, size: int, objectives: Sequence[str]) -> list[Measurement]:
    """Returns observations as successive halving makes them: a third of the trials reaches each next rung."""
    levels = [*table.space.rung_epochs(), table.epochs]
    trials = [(config, seed) for config in range(len(table.configs)) for seed in range(len(table.seeds))]
    found: list[Measurement] = []
    for number, (config, seed) in enumerate(sorted(trials, key=lambda trial: uniform("order", *trial))):
        curve = table.curve(config, seed)
        reached = [level for i, level in enumerate(levels) if number % 3**i == 0 and level <= len(curve.epochs)]
        for level in reached:
            metrics = curve.epochs[level - 1].metrics
            y = [transform(name, metrics[name]) for name in objectives]
            found.append(Measurement(table.configs[config], number, level, y))
    return found[:size]


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Returns the median times of both functions, run alternately, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, found in zip((ours, theirs), times, strict=True):
            started = time.process_time()
            function()
            found.append(1000.0 * (time.process_time() - started))
    ours_ms, theirs_ms = map(statistics.median, times)
    return {f"{name}_ms": ours_ms, f"sklearn_{name}_ms": theirs_ms, f"{name}_ratio": theirs_ms / ours_ms}


if __name__ == "__main__":
    main()
