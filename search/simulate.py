"""Tries a search on recorded learning curves: `python -m search.simulate benchmarks/tables/digits --workers 64`.

A policy is named as `SAMPLER` or `SAMPLER+MODE`, such as `tpe`, `random+none` or `nsga2+stop`; without one it is what
the table's space file says. `--study runs/S` takes the curves of a study of one's own, and says how far they can be
trusted. The hypervolume is a share of what all configs of the table reach, judged by their means over the seeds.
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
from results.folder import SPACE

if TYPE_CHECKING:
    from search.simulation.evaluation import CurveTable, Evaluator
    from search.simulation.simulator import Trace
    from search.space.space import Space

MODES = {
    "none": ("scheduler.name=none",),
    "stop": ("scheduler.name=moasha", "scheduler.mode=stop"),
    "promote": ("scheduler.name=moasha", "scheduler.mode=promote"),
}
AS_THE_FILE_SAYS = "space"
MARKS = (3, 6, 12, 24, 50, 100, 200, 300)
"""Full trainings after which the hypervolume is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.simulate", description=__doc__)
    parser.add_argument("table", nargs="?", type=Path, metavar="TABLE", help="folder of a recorded table")
    parser.add_argument("--study", type=Path, metavar="runs/S", help="take the curves of a study of one's own instead")
    parser.add_argument(
        "--policy", nargs="+", default=[AS_THE_FILE_SAYS], metavar="P", help="SAMPLER or SAMPLER+none|stop|promote"
    )
    parser.add_argument("--workers", type=_count, default=8, help="trials at a time (default 8)")
    parser.add_argument("--budget", type=_count, default=100, metavar="N", help="in full trainings (default 100)")
    parser.add_argument("--repeats", type=_count, default=10, help="searches of each policy (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat (default 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the space file's value")
    cli.add_imports(parser, "the study was started with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
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
    judge = Evaluator(truth)
    print(describe(table, judge))
    everything: dict[str, Any] = {}
    for policy in arguments.policy:
        figures, traces = _measure(table, judge, policy, arguments)
        if isinstance(table, StudyCurves):
            figures["trust"] = table.reliability(traces)
            print(describe_reliability(figures["trust"]))
        print(text_of(policy, figures))
        everything[policy] = figures
        if arguments.json is not None:
            write_atomic(arguments.json, json.dumps(everything, indent=1) + "\n")
    return cli.OK


def _tables(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the table to search on and the one that judges; they differ for a study of one's own."""
    if (arguments.table is None) == (arguments.study is None):
        raise ConfigError("give the folder of a table, or --study and the folder of a study, one of both")
    if arguments.table is not None:
        from search.simulation import recorded_curves

        table = recorded_curves.load(arguments.table)
        return table, table
    from results import load
    from results.metrics import ResultsError
    from search.simulation.study_curves import StudyCurves
    from search.space import reader

    try:
        study = load(arguments.study)
    except ResultsError as error:
        raise ConfigError(str(error)) from None
    space = reader.load(str(arguments.study / SPACE))
    return StudyCurves(study, space), StudyCurves(study, space, is_held=False)


def overrides_of(policy: str) -> list[str]:
    """Returns the keys of the space file that a policy's name stands for. Raises ConfigError for an unknown name."""
    from search.space.schema import SamplerSettings

    if policy == AS_THE_FILE_SAYS:
        return []
    samplers = get_args(SamplerSettings.model_fields["name"].annotation)
    sampler, _, mode = policy.partition("+")
    if sampler not in samplers or (mode and mode not in MODES):
        raise ConfigError(
            f"--policy {policy}: unknown. It is {AS_THE_FILE_SAYS}, or one of {', '.join(samplers)}, which may be "
            f"followed by one of {', '.join(f'+{known}' for known in MODES)}"
        )
    return [f"sampler.name={sampler}", *MODES.get(mode, ())]


def changed(space: Space, overrides: Sequence[str]) -> Space:
    """Returns a space with other values in its file, given as `key=value`; its only budget is one in epochs."""
    from config.strict_yaml import Document
    from search.space import reader
    from trainers.config import override

    budget = {"epochs": space.budget.epochs, "epochs_total": space.budget.epochs}
    document = Document(space.study, {**space.raw, "budget": budget})
    return reader.read(override(document, list(overrides)))


def _measure(
    table: CurveTable, judge: Evaluator, policy: str, arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[Trace]]:
    """Returns the figures of a policy's repeats, and what happened in them."""
    from search.algorithm.scheduler import TrialScheduler
    from search.simulation.simulator import SimulatedCluster, simulate

    logging.getLogger("optuna").setLevel(logging.WARNING)
    world, budget = SimulatedCluster(workers=arguments.workers), arguments.budget * table.epochs
    traces = []
    started = time.process_time()
    for run in range(arguments.seed, arguments.seed + arguments.repeats):
        keys = [*overrides_of(policy), *arguments.set, f"budget.epochs_total={budget}", f"seed={run}"]
        space = changed(table.space, keys)
        if space.budget.epochs != table.epochs:
            raise ConfigError(f"--set budget.epochs={space.budget.epochs}: the curves have {table.epochs} epochs each")
        traces.append(simulate(table, TrialScheduler(space), world, budget, run))
        if sys.stderr.isatty():
            print(f"\r{policy}: {len(traces)} of {arguments.repeats}", end="\r", file=sys.stderr, flush=True)
    return summary(judge, traces, time.process_time() - started), traces


def summary(judge: Evaluator, traces: Sequence[Trace], cpu_s: float) -> dict[str, Any]:
    """Returns the figures of a policy's repeats; hypervolumes as (lower quartile, median, upper quartile)."""
    import numpy as np

    from search.simulation.evaluation import value_at

    found = [judge.curve(trace) for trace in traces]
    longest = max(trace.spent for trace in traces) / judge.epochs
    marks = [mark for mark in MARKS if mark <= longest + 1]
    stopped, started = (sum(judge.false_stops(trace)[i] for trace in traces) for i in (0, 1))
    decisions = sum(len(trace.select("start", "resume", "epoch", "stop", "pause", "complete")) for trace in traces)
    return {
        "hypervolume": {
            str(mark): np.quantile(
                [value_at(curve, mark * judge.epochs) for curve in found], (0.25, 0.5, 0.75)
            ).tolist()
            for mark in marks
        },
        "busy_share": float(np.mean([trace.busy_share for trace in traces])),
        "false_stops": [stopped, started],
        "trials": float(np.mean([len(trace.select("start")) for trace in traces])),
        "trainings": float(np.mean([trace.spent for trace in traces])) / judge.epochs,
        "simulated_h": float(np.mean([trace.events[-1].time for trace in traces])) / 3600,
        "ms_a_decision": 1000 * cpu_s / max(decisions, 1),
    }


def describe(table: CurveTable, judge: Evaluator) -> str:
    """Returns what is searched, in a sentence."""
    goals = " against ".join(judge.objectives)
    points = sum(len(points) > 0 for points in judge.points)
    return (
        f"{table.space.study}: {len(table.configs)} configs x {len(table.seeds)} seeds of {table.epochs} epochs, "
        f"{goals}; {points} succeed with every seed, {len(judge.front)} are on the true front"
    )


def text_of(policy: str, figures: dict[str, Any]) -> str:
    """Returns the figures as people read them."""
    stopped, started = figures["false_stops"]
    rows = "\n".join(
        f"  {mark:>9} {median:>12.4f}   {low:.4f} - {high:.4f}"
        for mark, (low, median, high) in figures["hypervolume"].items()
    )
    return (
        f"{policy}: {figures['trials']:.0f} trials, {figures['trainings']:.1f} full trainings' worth of epochs in "
        f"{figures['simulated_h']:.2f} h; workers busy {figures['busy_share']:.1%}; of the configs of the true front "
        f"that were started, {stopped} of {started} were stopped; {figures['ms_a_decision']:.1f} ms a decision\n"
        f"  trainings  hypervolume   middle half\n{rows}"
    )


if __name__ == "__main__":
    sys.exit(main())
