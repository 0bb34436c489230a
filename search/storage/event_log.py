"""events.jsonl: every decision of a search, in order, one JSON object a line; no clock and no speed in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.errors import ConfigError
from config.files import write_atomic
from search.algorithm.trial import Trial
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics


class EventLog:
    """Appends decisions to a file, each once, and mends a file that a killed driver left with half a line."""

    def __init__(self, path: Path) -> None:
        self._known: set[tuple[str, int, int | None, str | None]] = set()
        if path.exists():
            self._read(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, trial: int, **facts: Any) -> None:
        """Appends an event, unless the log has it already: a trial has one of each, or one an epoch or class."""
        key = (event, trial, facts.get("epoch"), facts.get("kind"))
        if key not in self._known:
            self._known.add(key)
            self._file.write(json.dumps({"event": event, "trial": trial, **facts}) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _read(self, path: Path) -> None:
        whole = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                event = json.loads(line)
            except ValueError:
                break
            if not line.endswith("\n"):
                break
            whole.append(line)
            self._known.add((event["event"], event["trial"], event.get("epoch"), event.get("kind")))
        text = "".join(whole)
        if path.stat().st_size != len(text.encode()):
            write_atomic(path, text)


CHANCE = 100.0
"""Stands for the accuracy of a guess where the log says that a trial was no better: all it tells is that."""


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


def suggestion_event(record: Trial) -> dict[str, Any]:
    """Returns what the log says of a new trial."""
    event: dict[str, Any] = {"event": "ask" if record.infeasible is None else "refuse", "trial": record.number}
    event |= {"values": record.suggestion.values, "source": record.source}
    return event if record.seed_of is None else {**event, "seed_of": record.seed_of}


def decision_event(space: Space, number: int, report: EpochMetrics, outcome: str) -> dict[str, Any]:
    """Returns what the log says of an epoch: the point to be minimised, and whatever else the decision rests on."""
    from search.space import objectives

    event = {"event": "decide", "trial": number, "epoch": report.epoch}
    metrics = report.at_step
    event["point"] = objectives.point(space, metrics, minimise=True)
    others = {key: metrics[key] for key in objectives.violations(space, metrics)}
    if outcome == "complete":
        names = (*space.objectives, *space.measured_constraints())
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
    names = (*space.objectives, *space.measured_constraints())
    read_outs = [dict(zip(names, values, strict=True)) for values in event.get("read_outs", [])]
    if event.get("at_chance"):
        read_outs = [{"chance": CHANCE}, *read_outs]
    elif read_outs:
        metrics.setdefault("accuracy", CHANCE)
        read_outs[0]["chance"] = -1.0
    return EpochMetrics(event["epoch"], metrics, read_outs, [])
