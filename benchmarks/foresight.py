"""Upper bound for predictions from other configs: `python -m benchmarks.foresight [--json FILE]`.

The surrogate predicts each tenth of a table's configs from all others, trained in full with the seed that a run shows.
Then configs are picked one by one, each the one that adds most to the predicted hypervolume. `predicted` is their true
share of the table's hypervolume; no search has as much information that early. `shown` is the same with the values of
the run's seed in place of predictions; it is below 1 by the luck of the seed alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from benchmarks.report import machine, write
from benchmarks.simulations import TABLES, load
from results import pareto
from results.pareto import Floats
from search.algorithm.encoder import Encoder
from search.algorithm.hypervolume_gain import improvement_scale, transform
from search.algorithm.surrogate import Measurement, Surrogate
from search.simulation import recorded_curves
from search.simulation.evaluation import Evaluator, minimized
from search.simulation.simulator import CurveTable, observed_seed, uniform

PICKS = (5, 10, 24)
FOLDS = 10
RUNS = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foresight", description=__doc__)
    parser.add_argument("--cost", default="spike_rate", help="objective beside accuracy")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args(argv)
    names = sorted(path.parent.name for path in TABLES.glob(f"*/{recorded_curves.CURVES_FILE}"))
    tables = {name: measure(*load(name, arguments.cost)) for name in names}
    write({"tables": tables, "cost": arguments.cost, "runs": RUNS, "machine": machine()}, arguments.json)


def measure(table: CurveTable, evaluator: Evaluator, runs: int = RUNS) -> dict[str, dict[str, float]]:
    """Returns the mean shares of the hypervolume, by number of picks."""
    found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in PICKS} for name in ("predicted", "shown")}
    for run in range(runs):
        observed = _observed(table, run)
        for name, points in (("predicted", _predicted(table, observed, run)), ("shown", observed)):
            scaled = {i: _minimized(evaluator, rows) for i, rows in points.items()}
            picked = pick(scaled, evaluator.reference, max(PICKS))
            for count in PICKS:
                found[name][count].append(evaluator.share(picked[:count]))
    return {name: {str(count): fmean(values) for count, values in row.items()} for name, row in found.items()}


def pick(points: Mapping[int, Floats], reference: Floats, count: int) -> list[int]:
    """Returns configs in order, each the one that adds most to the hypervolume of those before."""
    chosen: list[int] = []

    def volume(config: int) -> float:
        return pareto.hypervolume(np.concatenate([points[other] for other in (*chosen, config)]), reference)

    while len(chosen) < min(count, len(points)):
        chosen.append(max((config for config in points if config not in chosen), key=volume))
    return chosen


def _observed(table: CurveTable, run: int) -> dict[int, Floats]:
    """Returns the transformed read-outs `[steps, M]` after a full training with a run's seed."""
    names = list(table.space.objectives)
    found: dict[int, Floats] = {}
    for config in range(len(table.configs)):
        curve = table.curve(config, observed_seed(run, config, len(table.seeds)))
        if curve.failure is None:
            end = curve.epochs[-1]
            rows = [{**end.metrics, **read_out} for read_out in end.read_outs]
            found[config] = np.array([[transform(name, row[name]) for name in names] for row in rows])
    return found


def _predicted(table: CurveTable, observed: Mapping[int, Floats], run: int) -> dict[int, Floats]:
    """Returns the same, with the last read-out predicted from other configs; differences to earlier ones are known."""
    encode, found = Encoder(table.space), dict[int, Floats]()
    order = sorted(observed, key=lambda config: uniform(run, "fold", config))
    for fold in range(FOLDS):
        held_out = order[fold::FOLDS]
        others = [i for i in order if i not in set(held_out)]
        measured = [Measurement(table.configs[i], i, table.epochs, list(observed[i][-1])) for i in others]
        surrogate = Surrogate(encode, measured, table.epochs)
        means, _ = surrogate.predict(encode([table.configs[i] for i in held_out]), [-1] * len(held_out))
        found |= {i: mean + observed[i] - observed[i][-1] for i, mean in zip(held_out, means, strict=True)}
    return found


def _minimized(evaluator: Evaluator, rows: Floats) -> Floats:
    """Returns transformed points on the scale of the evaluator."""
    columns = []
    for (name, direction), column in zip(evaluator.objectives.items(), rows.T, strict=True):
        values = improvement_scale(name, column) if name == "accuracy" else np.exp(column)
        columns.append(minimized(name, values, direction))
    return np.stack(columns, axis=1)


if __name__ == "__main__":
    main()
