"""Repeats the decisions of a search from its event log: `python -m search.replay runs/S` compares each with the log.

A decision depends only on the space file and on the measurements before it, in their order. A budget in hours is the
exception: it depends on a clock, which the log does not hold. In a study that an earlier version of the algorithm
began, the events that are decided otherwise now are counted.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import results
from config import cli
from results.folder import SPACE_FILE, check_study
from search.algorithm import samplers
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Trial
from search.space import reader
from search.space.space import Space
from search.storage import event_log
from search.storage.study_metadata import ALGORITHM, CURRENT_ALGORITHM, INITIAL_CONFIGS

Event = dict[str, Any]
SUGGESTIONS = ("ask", "refuse", "promote")


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
    space, attrs = reader.load(str(folder / SPACE_FILE)), results.load(folder).attrs
    initial = {INITIAL_CONFIGS: attrs[INITIAL_CONFIGS]}  # studies in start_with may have continued
    if (algorithm := attrs.get(ALGORITHM, 1)) != CURRENT_ALGORITHM:
        print(_comparison(path, events, count_differences(space, events, initial), algorithm))
        return cli.OK
    replayed = replay(space, events, initial)
    for number, (then, now) in enumerate(zip(map(event_log.to_line, events), replayed, strict=True), start=1):
        if then != now:
            print(f"{path}:{number}: decided otherwise\n  then {then}\n  now  {now}")
            return cli.BUG
    print(_as_then(events))
    return cli.OK


def _comparison(path: Path, events: Sequence[Event], differences: Counter[str], algorithm: int) -> str:
    """Returns the result for a study that another version of the algorithm began."""
    if not differences:
        return _as_then(events)
    kinds = ", ".join(f"{count} {kind}" for kind, count in differences.most_common())
    return (
        f"{path}: {differences.total()} of {len(events)} events are decided otherwise ({kinds}): decided by an earlier "
        f"version of the search's algorithm ({algorithm}, now {CURRENT_ALGORITHM})"
    )


def _as_then(events: Sequence[Event]) -> str:
    return f"{len(events)} events, all decided as then"


def replay(space: Space, events: Iterable[Event], state: Mapping[str, Any]) -> Iterator[str]:
    """Yields for each event of a log the line that the scheduler would write for it now, from an initial state."""
    scheduler = _new_scheduler(space, state)
    suggested: list[Event] = []
    for event in events:
        if event["event"] in SUGGESTIONS:
            suggested = suggested or _suggest(scheduler, event)
            yield event_log.to_line(suggested.pop(0)) if suggested else "null"
        else:
            yield event_log.to_line(_commit(scheduler, event))


def count_differences(space: Space, events: Sequence[Event], state: Mapping[str, Any]) -> Counter[str]:
    """Returns how many events of each kind would be decided otherwise now, each in the situation that the log gives."""
    found = Counter[str]()
    scheduler, suggested = None, list[Event]()
    for position, event in enumerate(events):
        is_suggestion = event["event"] in SUGGESTIONS
        if scheduler is None or (suggested and not is_suggestion):
            scheduler, suggested = _scheduler_after(space, events[:position], state), []
        if is_suggestion:
            suggested = suggested or _suggest(scheduler, event)
            now = suggested.pop(0) if suggested else {}
        else:
            now = _decide(scheduler, event)
            _follow(scheduler, event)
        if event_log.to_line(now) != event_log.to_line(event):
            found[event["event"]] += 1
            scheduler = None if is_suggestion else scheduler  # it holds another trial than the log
    return found


def _scheduler_after(space: Space, events: Iterable[Event], state: Mapping[str, Any]) -> TrialScheduler:
    scheduler = _new_scheduler(space, state)
    for event in events:
        _follow(scheduler, event)
    return scheduler


def _decide(scheduler: TrialScheduler, event: Event) -> Event:
    """Returns an event with the decision that the scheduler would make now."""
    if event["event"] != "decide":
        return event
    return {**event, "decision": scheduler.decide(event["trial"], event_log.epoch_metrics(scheduler.space, event))}


def _follow(scheduler: TrialScheduler, event: Event) -> None:
    """Passes an event to the scheduler with the decision of the log."""
    number = event.get("trial", -1)
    if event["event"] in ("ask", "refuse"):
        scheduler.restore(_logged_trial(scheduler, event))
    elif event["event"] == "promote":
        scheduler.promote(number, event["epoch"])
    elif event["event"] == "decide":
        scheduler.commit(number, event_log.epoch_metrics(scheduler.space, event), event["decision"])
    else:
        _commit(scheduler, event)


def _logged_trial(scheduler: TrialScheduler, event: Event) -> Trial:
    """Returns the trial of an event, running or refused as in the log."""
    suggestion = samplers.as_suggestion(scheduler.space, scheduler.space.values_of(event["values"]))
    trial = scheduler.candidates.trial_of(suggestion, event["source"])
    is_refused = event["event"] == "refuse"
    trial.state, trial.failure_class = ("failed", "infeasible") if is_refused else ("running", None)
    trial.seed_of = event.get("seed_of")
    return trial


def _new_scheduler(space: Space, state: Mapping[str, Any]) -> TrialScheduler:
    scheduler = TrialScheduler(space, space.feasible_config)
    scheduler.load_state(state)
    scheduler.budget.seeds = 1  # until the log says otherwise, as a resumed search may have more
    return scheduler


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
    if event["event"] == event_log.SEEDS:
        scheduler.budget.seeds = event["seeds"]
        return event
    if event["event"] in (event_log.FINISH_FRONT, event_log.SEARCH):
        scheduler.finish_front(is_finishing=event["event"] == event_log.FINISH_FRONT)
        return event_log.mode_event(event["event"], (trial.number for trial in scheduler.budget.waiting()))
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
