"""Repeats the decisions of a search from its event log: `python -m search.replay runs/S` compares each with the log.

A decision depends only on the space file and on the measurements before it, in their order. A budget in hours is the
exception: it depends on a clock, which the log does not hold.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import results
from config import cli
from results.folder import SPACE_FILE, check_study
from search.algorithm.scheduler import TrialScheduler
from search.space import reader
from search.space.space import Space
from search.storage import event_log
from search.storage.study_metadata import INITIAL_CONFIGS

Event = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 the same, 1 a different decision, 2 the user's input)."""
    parser = cli.Parser(prog="python -m search.replay", description=(__doc__ or "").split("\n\n")[0])
    cli.add_folder(parser)
    cli.add_imports(parser, "the study was started with")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments.folder, arguments.imports))


def _main(folder: Path, imports: Sequence[str]) -> int:
    cli.import_packages(imports)
    check_study(folder)
    path = folder / event_log.NAME
    events = event_log.read_events(path)
    space = reader.load(str(folder / SPACE_FILE))
    initial = {INITIAL_CONFIGS: results.load(folder).attrs[INITIAL_CONFIGS]}  # studies in start_with may have continued
    replayed = replay(space, events, initial)
    for number, (then, now) in enumerate(zip(map(event_log.to_line, events), replayed, strict=True), start=1):
        if then != now:
            print(f"{path}:{number}: decided otherwise\n  then {then}\n  now  {now}")
            return cli.BUG
    print(f"{len(events)} events, all decided as then")
    return cli.OK


def replay(space: Space, events: Iterable[Event], state: Mapping[str, Any]) -> Iterator[str]:
    """Yields for each event of a log the line that the scheduler would write for it now, from an initial state."""
    scheduler = TrialScheduler(space, space.feasible_config)
    scheduler.load_state(state)
    suggested: list[Event] = []
    for event in events:
        if event["event"] in ("ask", "refuse", "promote"):
            suggested = suggested or _suggest(scheduler, event)
            yield event_log.to_line(suggested.pop(0)) if suggested else "null"
        else:
            yield event_log.to_line(_commit(scheduler, event))


def _suggest(scheduler: TrialScheduler, event: Event) -> list[Event]:
    """Returns the events of one suggestion in the situation of `event`: refused configs, then a new or paused trial."""
    if scheduler.repeated_failure() is not None:  # the search was restarted here
        scheduler.on_restart()
    if event.get("source") == "added":
        scheduler.enqueue(event["values"])
    before = len(scheduler.trials)
    assignment = scheduler.suggest()
    events = [event_log.suggestion_event(scheduler.trials[number]) for number in range(before, len(scheduler.trials))]
    if assignment is not None and assignment.was_paused:
        events.append({"event": "promote", "trial": assignment.number, "epoch": assignment.epoch})
    return events


def _commit(scheduler: TrialScheduler, event: Event) -> Event:
    """Passes an event to the scheduler, and returns it with the decision and state that follow now."""
    number = event["trial"]
    if event["event"] == "decide":
        return {**event, "decision": scheduler.on_result(number, event_log.epoch_metrics(scheduler.space, event))}
    if event["event"] == "stop":
        scheduler.on_stop(number)
    elif event["event"] == "fail" and scheduler.trials[number].state != "failed":
        scheduler.on_error(number, event["failure_class"], event["reason"])
    elif event["event"] == "finish":
        if scheduler.trials[number].state == "paused":
            scheduler.on_stop(number)
        return {**event, "state": scheduler.trials[number].state}
    return event


if __name__ == "__main__":
    sys.exit(main())
