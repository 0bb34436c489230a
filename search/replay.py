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

from config import cli
from config.cli import add_folder
from results.folder import SPACE, check_study
from search.algorithm.scheduler import TrialScheduler
from search.space.space import Space
from search.storage.event_log import _report, read, suggestion_event


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 the same, 1 another decision, 2 the user's input)."""
    parser = cli.Parser(prog="python -m search.replay", description=(__doc__ or "").split("\n\n")[0])
    add_folder(parser)
    cli.add_imports(parser, "the study was started with")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments.folder, arguments.imports))


def _main(folder: Path, imports: Sequence[str]) -> int:
    from results.load import load
    from search.space import reader

    cli.import_packages(imports)
    check_study(folder)
    log = folder / "events.jsonl"
    lines, events = read(log)
    space = reader.load(str(folder / SPACE))
    known = load(folder).attrs["start_with"]
    for number, (line, again) in enumerate(zip(lines, replay(space, events, known), strict=True), start=1):
        if line != again:
            print(f"{log}:{number}: decided otherwise\n  then {line}\n  now  {again}")
            return cli.BUG
    print(f"{len(lines)} events, all decided as then")
    return cli.OK


def replay(
    space: Space, events: Iterable[dict[str, Any]], known: Sequence[tuple[str, dict[str, Any]]] | None = None
) -> Iterator[str]:
    """Yields for each event of a log the line that the policy would write for it now.

    `known` are the configs that the search started with, where `start_with` may have come to hold others since.
    """
    policy = TrialScheduler(space)
    if known is not None:
        policy.candidates.initial = [(name, values) for name, values in known]
    asked: list[dict[str, Any]] = []
    for event in events:
        kind, number = event["event"], event["trial"]
        if kind in ("ask", "refuse", "promote"):
            if not asked:
                if policy.repeated_failure() is not None:  # what follows was asked after a new start
                    policy.on_restart(policy.budget.peak_parallel)
                if event.get("source") == "added":
                    policy.candidates.queue.append(event["values"])
                asked = _ask(policy)
            yield json.dumps(asked.pop(0) if asked else None)
            continue
        if kind == "decide":
            event = {**event, "decision": policy.on_result(number, _report(space, event))}
        elif kind == "stop":
            policy.on_stop(number)
        elif kind == "fail" and policy.trials[number].state != "failed":
            policy.on_error(number, event["kind"], event["reason"])
        elif kind == "finish":
            if policy.trials[number].state == "paused":
                policy.on_stop(number)
            event = {**event, "state": policy.trials[number].state}
        yield json.dumps(event)


def _ask(policy: TrialScheduler) -> list[dict[str, Any]]:
    """Returns the events of one question to the policy: new trials, refused ones first, or one that goes on."""
    before = len(policy.trials)
    job = policy.suggest()
    found = [suggestion_event(policy.trials[number]) for number in range(before, len(policy.trials))]
    if job is not None and job.was_paused:
        found.append({"event": "promote", "trial": job.number, "epoch": job.epoch})
    return found


if __name__ == "__main__":
    sys.exit(main())
