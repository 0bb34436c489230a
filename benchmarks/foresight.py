"""How far could any forecast from other configs come? `python -m benchmarks.foresight [--json FILE]`

For each config the forecast sees all others of the table but a tenth, trained in full with the seed that a run shows,
and nothing of the config itself. Then configs are taken one after the other, each the one that adds most to the
foretold hypervolume: `foretold` is the true share of the table's that they reach. No search knows so much so soon.
`shown` is the same with the values of the run's seed instead of the forecast: what is missing there to 1 is luck of the
seed alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from benchmarks.plays import TABLES, load
from benchmarks.report import machine, write
from results import pareto
from results.pareto import Floats
from search.algorithm.encoder import Encoder
from search.algorithm.hypervolume_gain import improvement_scale, transform
from search.algorithm.surrogate import Measurement, Surrogate
from search.simulation import recorded_curves
from search.simulation.evaluation import CurveTable, Evaluator, scaled
from search.simulation.simulator import seed_shown, uniform

PICKS = (5, 10, 24)
FOLDS = 10
RUNS = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Picks, prints and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foresight", description=__doc__)
    parser.add_argument("--cost", default="spike_rate", help="the metric beside accuracy")
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args(argv)
    names = sorted(path.parent.name for path in TABLES.glob(f"*/{recorded_curves.DATA}"))
    tables = {name: measure(*load(name, arguments.cost)) for name in names}
    write({"tables": tables, "cost": arguments.cost, "runs": RUNS, "machine": machine()}, arguments.json)


def measure(table: CurveTable, judge: Evaluator, runs: int = RUNS) -> dict[str, dict[str, float]]:
    """Returns the mean shares after so many picks."""
    found: dict[str, dict[int, list[float]]] = {kind: {count: [] for count in PICKS} for kind in ("foretold", "shown")}
    for run in range(runs):
        shown = _shown(table, run)
        for kind, points in (("foretold", _foretold(table, shown, run)), ("shown", shown)):
            picked = pick({i: _judged(judge, rows) for i, rows in points.items()}, judge.reference, max(PICKS))
            for count in PICKS:
                found[kind][count].append(judge.share(picked[:count]))
    return {kind: {str(count): fmean(values) for count, values in row.items()} for kind, row in found.items()}


def pick(points: Mapping[int, Floats], reference: Floats, count: int) -> list[int]:
    """Returns the configs, each the one that adds most to the hypervolume of those before."""
    chosen: list[int] = []

    def volume(config: int) -> float:
        return pareto.hypervolume(np.concatenate([points[other] for other in (*chosen, config)]), reference)

    while len(chosen) < min(count, len(points)):
        chosen.append(max((config for config in points if config not in chosen), key=volume))
    return chosen


def _shown(table: CurveTable, run: int) -> dict[int, Floats]:
    """Returns the read-outs `[steps, objectives]` after a full training with a run's seed, on the forecast's scale."""
    names = list(table.space.objectives)
    found: dict[int, Floats] = {}
    for config in range(len(table.configs)):
        curve = table.curve(config, seed_shown(run, config, len(table.seeds)))
        if curve.failure is None:
            end = curve.epochs[-1]
            rows = [{**end.metrics, **read_out} for read_out in end.read_outs]
            found[config] = np.array([[transform(name, row[name]) for name in names] for row in rows])
    return found


def _foretold(table: CurveTable, shown: Mapping[int, Floats], run: int) -> dict[int, Floats]:
    """Returns the same, as far as others tell: the last read-out is foretold, its own way to it is given."""
    encode, found = Encoder(table.space), dict[int, Floats]()
    order = sorted(shown, key=lambda config: uniform(run, "fold", config))
    for fold in range(FOLDS):
        held_out = order[fold::FOLDS]
        seen = [
            Measurement(table.configs[i], i, table.epochs, list(shown[i][-1])) for i in order if i not in set(held_out)
        ]
        fitted = Surrogate(encode, seen, table.epochs)
        means, _ = fitted.predict(encode([table.configs[i] for i in held_out]), [-1] * len(held_out))
        found |= {i: mean + shown[i] - shown[i][-1] for i, mean in zip(held_out, means, strict=True)}
    return found


def _judged(judge: Evaluator, rows: Floats) -> Floats:
    """Returns points on the forecast's scale as the judge counts them."""
    columns = []
    for (name, goal), column in zip(judge.objectives.items(), rows.T, strict=True):
        values = improvement_scale(name, column) if name == "accuracy" else np.exp(column)
        columns.append([scaled(name, float(value), goal) for value in values])
    return np.array(columns).T


if __name__ == "__main__":
    main()
