"""Decides a search again from its log: `python -m search.replay runs/S` says whether it comes out the same.

A decision depends on the space file and on what was measured before it, in that order, and on nothing else. A budget in
hours is the exception: it reads a clock, which the log does not hold.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from models.config import ConfigError
from results.folder import SPACE
from search.arguments import add_folder, check_study
from search.policy import Policy
from search.space import Space
from trainers import command
from trainers.metrics import EpochMetrics

CHANCE = 100.0
"""Stands for the accuracy of a guess where the log says that a trial was no better: all it tells is that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 the same, 1 another decision, 2 the user's input)."""
    parser = command.Parser(prog="python -m search.replay", description=(__doc__ or "").split("\n\n")[0])
    add_folder(parser)
    command.add_imports(parser, "the study was started with")
    arguments = parser.parse_args(argv)
    return command.run(lambda: _main(arguments.folder, arguments.imports))


def _main(folder: Path, imports: Sequence[str]) -> int:
    from results.load import load
    from search import space_file

    command.import_packages(imports)
    check_study(folder)
    log = folder / "events.jsonl"
    lines, events = read(log)
    space = space_file.load(str(folder / SPACE))
    known = load(folder).attrs["start_with"]
    for number, (line, again) in enumerate(zip(lines, replay(space, events, known), strict=True), start=1):
        if line != again:
            print(f"{log}:{number}: decided otherwise\n  then {line}\n  now  {again}")
            return command.BUG
    print(f"{len(lines)} events, all decided as then")
    return command.OK


def read(log: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Returns the lines of a log, and their events. Raises ConfigError where one is cut off or was edited."""
    if not log.is_file():
        raise ConfigError(f"{log}: no such file; starting the search again writes it from the study")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            raise ConfigError(f"{log}:{number}: cut off or edited; starting the search again mends it") from None
    return lines, events


def replay(
    space: Space, events: Iterable[dict[str, Any]], known: Sequence[tuple[str, dict[str, Any]]] | None = None
) -> Iterator[str]:
    """Yields for each event of a log the line that the policy would write for it now.

    `known` are the configs that the search started with, where `start_with` may have come to hold others since.
    """
    policy = Policy(space)
    if known is not None:
        policy.draws.recipes = [(name, values) for name, values in known]
    asked: list[dict[str, Any]] = []
    for event in events:
        kind, number = event["event"], event["trial"]
        if kind in ("ask", "refuse", "promote"):
            if not asked:
                if policy.broken() is not None:  # what follows was asked after a new start
                    policy.begin_anew(policy.purse.peak)
                if event.get("source") == "added":
                    policy.draws.added.append(event["values"])
                asked = _ask(policy)
            yield json.dumps(asked.pop(0) if asked else None)
            continue
        if kind == "decide":
            event = {**event, "decision": policy.report(number, _report(space, event))}
        elif kind == "stop":
            policy.stop(number)
        elif kind == "fail" and policy.records[number].state != "failed":
            policy.fail(number, event["kind"], event["reason"])
        elif kind == "finish":
            if policy.records[number].state == "paused":
                policy.stop(number)
            event = {**event, "state": policy.records[number].state}
        yield json.dumps(event)


def _ask(policy: Policy) -> list[dict[str, Any]]:
    """Returns the events of one question to the policy: new trials, refused ones first, or one that goes on."""
    before = len(policy.records)
    job = policy.ask()
    found = [ask_event(policy.records[number]) for number in range(before, len(policy.records))]
    if job is not None and job.waited:
        found.append({"event": "promote", "trial": job.number, "epoch": job.epoch})
    return found


def ask_event(record: Any) -> dict[str, Any]:
    """Returns what the log says of a new trial."""
    event = {"event": "ask" if record.refused is None else "refuse", "trial": record.number}
    event |= {"values": record.draw.values, "source": record.source}
    return event if record.seed_of is None else {**event, "seed_of": record.seed_of}


def decide_event(space: Space, number: int, report: EpochMetrics, outcome: str) -> dict[str, Any]:
    """Returns what the log says of an epoch: the point to be minimised, and whatever else the decision rests on."""
    from search import history

    event = {"event": "decide", "trial": number, "epoch": report.epoch}
    metrics = report.at_step
    event["point"] = history.point(space, metrics, minimise=True)
    others = {key: metrics[key] for key in history.violations(space, metrics)}
    if outcome == "complete":
        names = (*space.objectives, *space.bounded())
        event["read_outs"] = [[r.get(name, metrics[name]) for name in names] for r in report.read_outs]
    if report.is_at_chance:
        others["accuracy"] = report.metrics["accuracy"]
        event["at_chance"] = True
    if others := {key: value for key, value in others.items() if key not in space.objectives}:
        event["measured"] = others
    return {**event, "decision": outcome}


def _report(space: Space, event: dict[str, Any]) -> EpochMetrics:
    signs = [-1.0 if goal == "maximize" else 1.0 for goal in space.objectives.values()]
    metrics = {name: sign * x for name, sign, x in zip(space.objectives, signs, event["point"], strict=True)}
    metrics |= event.get("measured", {})
    names = (*space.objectives, *space.bounded())
    read_outs = [dict(zip(names, values, strict=True)) for values in event.get("read_outs", [])]
    if event.get("at_chance"):
        read_outs = [{"chance": CHANCE}, *read_outs]
    elif read_outs:
        metrics.setdefault("accuracy", CHANCE)
        read_outs[0]["chance"] = -1.0
    return EpochMetrics(event["epoch"], metrics, read_outs, [])


if __name__ == "__main__":
    sys.exit(main())
