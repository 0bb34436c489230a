"""events.jsonl: all decisions of a search in order, one JSON object per line, without clock times and speeds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import ConfigError
from config.files import write_atomic
from search.space.objectives import constraint_violations, objective_vector
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

if TYPE_CHECKING:
    from search.algorithm.trial import Decision, Trial

NAME = "events.jsonl"
FINISH_FRONT, SEARCH = "finish_front", "search"
"""Events without a trial: from here on only the first fronts are trained to the end, or the search goes on."""
SEEDS = "seeds"
"""Event without a trial: from here on configs are trained with so many seeds; before the first one, with 1."""
STORED_KEYS = {"failure_class": "kind", "stop_reason": "note"}
"""Keys of the file that differ from the names in the code."""


class EventLog:
    """Appends each event once. An incomplete line of a killed driver is removed on opening, with all that follows."""

    def __init__(self, path: Path, seeds: int = 1) -> None:
        """Opens or creates the log of a search that trains its configs with `seeds` seeds now."""
        complete = list(_complete_lines(path))
        self._written = {_identity(event) for _, event in complete}
        modes = [event["event"] for _, event in complete if event["event"] in (FINISH_FRONT, SEARCH)]
        self._mode = modes[-1] if modes else SEARCH
        self._seeds = next((event["seeds"] for _, event in reversed(complete) if event["event"] == SEEDS), 1)
        text = "".join(line for line, _ in complete)
        if path.exists() and path.stat().st_size != len(text.encode()):
            write_atomic(path, text)
        self._file = path.open("a", encoding="utf-8")
        if not complete:
            self.set_seeds(seeds)

    def write(self, event: str, trial: int, **info: Any) -> None:
        """Appends an event. A trial has one event of each type, or one per epoch or class of failure."""
        found = {"event": event, "trial": trial, **info}
        if (identity := _identity(found)) not in self._written:
            self._written.add(identity)
            self._append(found)

    def set_mode(self, is_finishing: bool, waiting: Iterable[int]) -> None:
        """Appends `FINISH_FRONT` or `SEARCH`, with the trials that wait, unless the last events are in that mode."""
        mode = FINISH_FRONT if is_finishing else SEARCH
        if mode != self._mode:
            self._mode = mode
            self._append(mode_event(mode, waiting))
            os.fsync(self._file.fileno())  # events that a crash loses are restored behind it

    def set_seeds(self, seeds: int) -> None:
        """Appends `SEEDS` if the number of seeds has changed."""
        if seeds != self._seeds:
            self._seeds = seeds
            self._append({"event": SEEDS, "seeds": seeds})
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _append(self, event: Mapping[str, Any]) -> None:
        self._file.write(to_line(event) + "\n")
        self._file.flush()


def to_line(event: Mapping[str, Any]) -> str:
    """Returns an event as the file stores it."""
    return json.dumps({STORED_KEYS.get(key, key): value for key, value in event.items()})


def from_line(line: str) -> dict[str, Any] | None:
    """Returns the event of a line, or None for a line that is damaged."""
    names = {stored: name for name, stored in STORED_KEYS.items()}
    try:
        return {names.get(key, key): value for key, value in json.loads(line).items()}
    except (ValueError, AttributeError):
        return None


def read_events(path: Path) -> list[dict[str, Any]]:
    """Returns all events of a log. Raises ConfigError if the file is missing or a line is damaged."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; starting the search again writes it from the study")
    events: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if (event := from_line(line)) is None:
            raise ConfigError(f"{path}:{number}: cut off or edited; starting the search again repairs it")
        events.append(event)
    return events


def ended_trials(path: Path) -> list[int]:
    """Returns the trials in the order in which they ended, also from a log that is being written."""
    ends = (int(event["trial"]) for _, event in _complete_lines(path) if event["event"] in ("finish", "fail"))
    return list(dict.fromkeys(ends))


def mode_event(mode: str, waiting: Iterable[int]) -> dict[str, Any]:
    """Returns the event after which a study is in another mode; `waiting` are the paused trials of the first fronts."""
    return {"event": mode, "waiting": sorted(waiting)}


def suggestion_event(trial: Trial) -> dict[str, Any]:
    """Returns the event of a new trial."""
    event: dict[str, Any] = {"event": "ask" if trial.infeasible is None else "refuse", "trial": trial.number}
    event |= {"values": trial.suggestion.values, "source": trial.source}
    return event if trial.seed_of is None else {**event, "seed_of": trial.seed_of}


def decision_event(space: Space, number: int, report: EpochMetrics, decision: Decision) -> dict[str, Any]:
    """Returns the event of an epoch: the objectives, to be minimised, and all other values that decisions use."""
    metrics = report.at_step
    event = {"event": "decide", "trial": number, "epoch": report.epoch}
    event["point"] = objective_vector(space, metrics, minimise=True)
    others = {key: metrics[key] for key in constraint_violations(space, metrics)}
    if decision == "complete":
        names = (*space.objectives, *space.measured_constraints())
        event["read_outs"] = [[r.get(name, metrics[name]) for name in names] for r in report.read_outs]
        if report.exits:
            event["exits"] = [[r["exit"], *(r.get(name, metrics[name]) for name in names)] for r in report.exits]
    if report.is_at_chance:
        others["accuracy"] = report.metrics["accuracy"]
        event["at_chance"] = True
    if report.chance is not None:
        event["chance"] = report.chance
    if others := {key: value for key, value in others.items() if key not in space.objectives}:
        event["measured"] = others
    return {**event, "decision": decision}


def epoch_metrics(space: Space, event: Mapping[str, Any]) -> EpochMetrics:
    """Returns the metrics of an epoch from its event; `decision_event` gives the same event for them."""
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in space.objectives.values()]
    metrics = {name: sign * x for name, sign, x in zip(space.objectives, signs, event["point"], strict=True)}
    metrics |= event.get("measured", {})
    names = (*space.objectives, *space.measured_constraints())
    read_outs = [dict(zip(names, values, strict=True)) for values in event.get("read_outs", [])]
    if "read_outs" not in event:
        read_outs = [{}]
    if read_outs:
        read_outs[-1] = {**metrics, **read_outs[-1]}  # at `step`, so that the accuracy below changes no point
        read_outs[0] |= {"chance": event["chance"]} if "chance" in event else {}
    accuracy = math.inf
    if event.get("at_chance"):  # by the accuracy at `read_step`, which the log may lack, as earlier ones lack chance
        chance = event.get("chance", -math.inf)
        accuracy = min(metrics.get("accuracy", chance), chance)
    exits = [dict(zip(("exit", *names), values, strict=True)) for values in event.get("exits", [])]
    return EpochMetrics(event["epoch"], {**metrics, "accuracy": accuracy}, read_outs, [], exits)


def _complete_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the lines before the first damaged one, each with its event."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        event = from_line(line)
        if event is None or not line.endswith("\n"):
            return
        yield line, event


def _identity(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event["event"], event.get("trial"), event.get("epoch"), event.get("failure_class")
