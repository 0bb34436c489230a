"""Simulates searches on recorded learning curves: `python -m search.simulate benchmarks/tables/cifar --workers 64`.

A policy is `SAMPLER` or `SAMPLER+MODE`, such as `tpe`, `random+none` or `nsga2+stop`; the default is the table's space
file. `--study runs/S` takes the curves of your study, and reports how reliable they are. The hypervolume is a
share of that of all configs in the table, evaluated by their means over the seeds.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from config import cli
from config.errors import ConfigError
from config.files import write_atomic
from results.folder import SPACE_FILE

if TYPE_CHECKING:
    from search.simulation.evaluation import Evaluator
    from search.simulation.simulator import CurveTable, Trace
    from search.space.space import Space

MODES = {
    "none": ["scheduler.name=none"],
    **{mode: ["scheduler.name=moasha", f"scheduler.mode={mode}"] for mode in ("stop", "promote")},
}
FROM_SPACE_FILE = "space"
MILESTONES = (3, 6, 12, 24, 50, 100, 200, 300)
"""Full trainings after which the hypervolume is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.simulate", description=__doc__)
    parser.add_argument("table", nargs="?", type=Path, metavar="TABLE", help="folder of a recorded table")
    parser.add_argument("--study", type=Path, metavar="runs/S", help="use the curves of a study instead")
    parser.add_argument(
        "--policy", nargs="+", default=[FROM_SPACE_FILE], metavar="P", help="SAMPLER or SAMPLER+none|stop|promote"
    )
    parser.add_argument("--workers", type=_count, default=8, help="simulated workers (default 8)")
    parser.add_argument(
        "--budget", type=_count, default=100, metavar="N", help="full trainings per search (default 100)"
    )
    parser.add_argument("--repeats", type=_count, default=10, help="searches per policy (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first search (default 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the space")
    cli.add_imports(parser, "the study was started with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0 (got {text})")
    return int(text)


def _main(arguments: argparse.Namespace) -> int:
    from search.simulation.evaluation import Evaluator
    from search.simulation.study_curves import StudyCurves, describe_reliability

    cli.import_packages(arguments.imports)
    for policy in arguments.policy:
        overrides_of(policy)
    if arguments.json is not None and arguments.json.is_dir():
        raise ConfigError(f"--json {arguments.json}: is a folder; name a file")
    table, truth = _tables(arguments)
    evaluator = Evaluator(truth)
    num_points = sum(map(bool, map(len, evaluator.points)))
    print(
        f"{table.space.study}: {len(table.configs)} configs x {len(table.seeds)} seeds of {table.epochs} epochs, "
        f"{' against '.join(evaluator.objectives)}; {num_points} succeed with every seed, "
        f"{len(evaluator.front)} are on the true front"
    )
    found: dict[str, Any] = {}
    for policy in arguments.policy:
        started = time.process_time()
        traces = _simulate(table, policy, arguments)
        found[policy] = summary(evaluator, traces, time.process_time() - started)
        if isinstance(table, StudyCurves):
            found[policy]["trust"] = table.reliability(traces)
            print(describe_reliability(found[policy]["trust"]))
        print(format_summary(policy, found[policy]))
        if arguments.json is not None:
            write_atomic(arguments.json, json.dumps(found, indent=1) + "\n")
    return cli.OK


def _tables(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the table to search on and the one to evaluate by; they differ for a study."""
    from results import load
    from search.simulation import foreign_tables
    from search.simulation.study_curves import StudyCurves
    from search.space import reader

    if (arguments.table is None) == (arguments.study is None):
        raise ConfigError("give either the folder of a table, or --study and the folder of a study")
    if arguments.table is not None:
        table = foreign_tables.load_table(arguments.table)
        return table, table
    study = load(arguments.study)
    space = reader.load(str(arguments.study / SPACE_FILE))
    return StudyCurves(study, space), StudyCurves(study, space, is_extended=False)


def overrides_of(policy: str) -> list[str]:
    """Returns the overrides of the space file for a policy's name. Raises ConfigError for an unknown name."""
    from search.space.schema import SamplerSettings

    if policy == FROM_SPACE_FILE:
        return []
    samplers = get_args(SamplerSettings.model_fields["name"].annotation)
    sampler, _, mode = policy.partition("+")
    if sampler not in samplers or (mode and mode not in MODES):
        raise ConfigError(
            f"--policy {policy}: unknown. It is {FROM_SPACE_FILE}, or one of {', '.join(samplers)}, which may be "
            f"followed by one of {', '.join(f'+{known}' for known in MODES)}"
        )
    return [f"sampler.name={sampler}", *MODES.get(mode, [])]


def with_overrides(space: Space, overrides: Sequence[str]) -> Space:
    """Returns a space with overrides `key=value` of its file, and its budget in epochs alone."""
    from config.document import Document
    from config.strict_yaml import override
    from search.simulation.foreign_tables import ForeignSpace
    from search.space import reader

    budget = {"epochs": space.budget.epochs, "epochs_total": space.budget.epochs}
    document = override(Document(space.study, {**space.raw, "budget": budget}), list(overrides))
    return space.read(document) if isinstance(space, ForeignSpace) else reader.read(document)


def _simulate(table: CurveTable, policy: str, arguments: argparse.Namespace) -> list[Trace]:
    from search.algorithm.scheduler import TrialScheduler
    from search.simulation.simulator import SimulatedCluster, simulate

    logging.getLogger("optuna").setLevel(logging.WARNING)
    cluster, budget = SimulatedCluster(workers=arguments.workers), arguments.budget * table.epochs
    traces: list[Trace] = []
    for run in range(arguments.seed, arguments.seed + arguments.repeats):
        keys = [*overrides_of(policy), *arguments.set, f"budget.epochs_total={budget}", f"seed={run}"]
        space = with_overrides(table.space, keys)
        if space.budget.epochs != table.epochs:
            raise ConfigError(f"--set budget.epochs={space.budget.epochs}: the curves have {table.epochs} epochs each")
        traces.append(simulate(table, TrialScheduler(space, space.feasible_config), cluster, budget, run))
        if sys.stderr.isatty():
            print(f"\r{policy}: {len(traces)} of {arguments.repeats}", end="\r", file=sys.stderr, flush=True)
    return traces


def summary(evaluator: Evaluator, traces: Sequence[Trace], cpu_s: float) -> dict[str, Any]:
    """Returns the figures of a policy's repeats; hypervolumes as (lower quartile, median, upper quartile)."""
    import numpy as np

    from search.simulation.evaluation import value_at

    curves, epochs = [evaluator.curve(trace) for trace in traces], evaluator.epochs
    stopped, started = np.sum([evaluator.false_stops(trace) for trace in traces], axis=0).tolist()
    decisions = sum(len(trace.select("start", "resume", "epoch", "stop", "pause", "complete")) for trace in traces)
    return {
        "hypervolume": {
            str(mark): np.quantile([value_at(curve, mark * epochs) for curve in curves], (0.25, 0.5, 0.75)).tolist()
            for mark in MILESTONES
            if mark <= max(trace.spent for trace in traces) / epochs + 1
        },
        "busy_share": float(np.mean([trace.busy_share for trace in traces])),
        "false_stops": [stopped, started],
        "trials": float(np.mean([len(trace.select("start")) for trace in traces])),
        "trainings": float(np.mean([trace.spent for trace in traces])) / epochs,
        "simulated_h": float(np.mean([trace.events[-1].time for trace in traces])) / 3600,
        "ms_a_decision": 1000 * cpu_s / max(decisions, 1),
    }


def format_summary(policy: str, figures: dict[str, Any]) -> str:
    """Returns the figures as text."""
    stopped, started = figures["false_stops"]
    rows = "\n".join(
        f"  {mark:>9} {median:>12.4f}   {low:.4f} - {high:.4f}"
        for mark, (low, median, high) in figures["hypervolume"].items()
    )
    return (
        f"{policy}: {figures['trials']:.0f} trials, {figures['trainings']:.1f} full trainings' worth of epochs in "
        f"{figures['simulated_h']:.2f} h; workers busy {figures['busy_share']:.1%}; of the configs of the true front "
        f"that were started, {stopped} of {started} were stopped; {figures['ms_a_decision']:.1f} ms per decision\n"
        f"  trainings  hypervolume   middle half\n{rows}"
    )


if __name__ == "__main__":
    sys.exit(main())
