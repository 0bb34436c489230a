"""Contents of tables of learning curves: `python -m benchmarks.describe [TABLE ...] [--json FILE]`.

`front`: configs whose read-outs, as means over the seeds, are not dominated. `rank_correlation`: Spearman's, between an
early epoch and the last, over trainings that end above chance without failure. `noise`: standard deviation between the
seeds of a config, and `spread`: that of the configs' means, at the last epoch, over configs whose trainings all do so.
`effects`: share of the variance of these means that a key's values explain.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.report import write
from results.pareto import non_dominated
from search.simulation.recorded_curves import METADATA_FILE, Curve, RecordedCurves, load

TABLES = Path(__file__).parent / "tables"
COSTS = ("spike_rate", "synops")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures of tables, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.describe", description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE", help="folders (default: benchmarks/tables/*)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args(argv)
    folders = arguments.tables or sorted(path.parent for path in TABLES.glob(f"*/{METADATA_FILE}"))
    tables = [load(folder) for folder in folders]
    write({table.space.study: describe(table) for table in tables}, arguments.json)


def describe(table: RecordedCurves) -> dict[str, Any]:
    """Returns the figures of a table."""
    curves = [[table.curve(i, seed) for seed in range(table.num_seeds(i))] for i in range(len(table.configs))]
    every = [curve for found in curves for curve in found]
    healthy = [curve for curve in every if is_healthy(curve, table.epochs)]
    whole = {i: found for i, found in enumerate(curves) if all(is_healthy(curve, table.epochs) for curve in found)}
    at_chance = [curve for curve in every if not curve.epochs or curve.epochs[-1].is_at_chance]
    early = [epoch for epoch in table.space.rung_epochs() if epoch < table.epochs]
    names = list(dict.fromkeys(["accuracy", *COSTS, *table.space.objectives]))
    return {
        "configs": len(table.configs),
        "seeds": len(table.seeds),
        "repeated": sum(len(found) > 1 for found in curves),
        "cpu_s": statistics.mean(sum(curve.cpu_s) for curve in every),
        "failed": sum(curve.failure is not None for curve in every) / len(every),
        "at_chance": len(at_chance) / len(every),
        "accuracy": [min(last(healthy, "accuracy")), max(last(healthy, "accuracy"))],
        "front": {cost: front(list(whole.values()), cost) for cost in names[1:]},
        "rank_correlation": {
            name: {epoch: rank_correlation(healthy, name, epoch) for epoch in early} for name in names
        },
        "noise": {name: noise(list(whole.values()), name) for name in names},
        "spread": {name: statistics.stdev(_means(list(whole.values()), name)) for name in names},
        "effects": {
            name: effects([table.configs[i] for i in whole], _means(list(whole.values()), name)) for name in names
        },
    }


def is_healthy(curve: Curve, epochs: int) -> bool:
    """Returns whether a training reached the last epoch above chance, without a failure."""
    return curve.failure is None and len(curve.epochs) == epochs and not curve.epochs[-1].is_at_chance


def last(curves: Sequence[Curve], name: str) -> list[float]:
    """Returns a metric at the last epoch."""
    return [curve.epochs[-1].metrics[name] for curve in curves]


def front(configs: Sequence[Sequence[Curve]], cost: str) -> dict[str, Any]:
    """Returns the numbers of read-outs and of configs on the front, and its two ends as [accuracy, cost]."""
    points, owners = [], []
    for owner, curves in enumerate(configs):
        for rows in zip(*(curve.epochs[-1].read_outs for curve in curves), strict=True):
            means = [statistics.mean(row[name] for row in rows) for name in ("accuracy", cost)]
            if means[0] > rows[0]["chance"]:
                points.append(means)
                owners.append(owner)
    on_front = np.flatnonzero(non_dominated([[-accuracy, value] for accuracy, value in points]))
    chosen = sorted(points[i] for i in on_front)
    return {"points": len(chosen), "configs": len({owners[i] for i in on_front}), "ends": [chosen[0], chosen[-1]]}


def rank_correlation(curves: Sequence[Curve], name: str, epoch: int) -> float:
    """Returns Spearman's correlation of a metric after `epoch` epochs with the same after all."""
    return float(spearmanr([curve.epochs[epoch - 1].metrics[name] for curve in curves], last(curves, name)).statistic)


def noise(configs: Sequence[Sequence[Curve]], name: str) -> float | None:
    """Returns the standard deviation between seeds, pooled over the configs with several; None if there are none."""
    variances = [statistics.variance(last(curves, name)) for curves in configs if len(curves) > 1]
    return math.sqrt(statistics.mean(variances)) if variances else None


def effects(configs: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Returns, by key, the share of the variance of the values between the key's options, of which absent is one."""
    whole = statistics.pvariance(values)
    found = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        groups: dict[Any, list[float]] = {}
        for config, value in zip(configs, values, strict=True):
            groups.setdefault(config.get(key), []).append(value)
        means = [statistics.mean(group) for group in groups.values() for _ in group]
        found[key] = statistics.pvariance(means) / whole
    return found


def _means(configs: Sequence[Sequence[Curve]], name: str) -> list[float]:
    return [statistics.mean(last(curves, name)) for curves in configs]


if __name__ == "__main__":
    main()
