"""The report's tables and sentences, as plain text: the front, the rungs, the failures, the settings."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from results.analysis.history import epochs_spent, rungs
from results.analysis.references import published, spreads
from results.export import Layout, export
from results.metrics import METRICS
from results.study import FrontPoint, State, StudyResult, TrialResult
from results.views import axes_of, chosen, places, short, value_text, words

MOST_ROWS = 100
MOST_FAILURES = 10
SHOWN = ("accuracy", "spike_rate", "synops", "energy_mj", "params_m")


@dataclass(frozen=True)
class FrontRow:
    """One point of the front: its name, marks, numbers and values as text, and the commands that use it."""

    key: str
    marks: str
    read: str
    cells: list[str]
    values: list[str]
    seeds: str
    export: str
    train: str


@dataclass(frozen=True)
class Failure:
    """The failures of one class: how many, where they lie, and the first ones with their reasons."""

    name: str
    count: int
    place: str
    examples: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Fact:
    """A number at the top of the report, and what it counts."""

    value: str
    text: str


def front_metrics(study: StudyResult) -> list[str]:
    """Returns the metrics that the front's table shows: the objectives first."""
    return list(dict.fromkeys([*study.objectives, *SHOWN]))


def front_rows(study: StudyResult, source: str) -> list[FrontRow]:
    """Returns the front's table; `source` names the study on a command line."""
    marks: dict[tuple[int, int], list[str]] = {}
    for word, point in chosen(study).items():
        marks.setdefault((point.trial, point.read_step), []).append(word)
    return [
        _front_row(study, point, source, ", ".join(marks.get((point.trial, point.read_step), [])))
        for point in study.front()[:MOST_ROWS]
    ]


def facts(study: StudyResult) -> list[Fact]:
    """Returns what a reader wants to know first."""
    states = Counter(trial.state for trial in study.trials)
    shown: list[State] = ["complete", "stopped", "failed", "running"]
    if states["paused"]:
        shown.append("paused")
    counted = ", ".join(f"{states[state]} {state}" for state in shown)
    spent, whole = epochs_spent(study), len(study.trials) * study.epochs
    found = [Fact(str(len(study.trials)), f"trials: {counted}")]
    for word, point in chosen(study).items():
        numbers = ", ".join(f"{name} {short(point.metrics[name])}" for name in dict.fromkeys(reversed(axes_of(study))))
        found.append(Fact(point.key, f"{word}: {numbers}"))
    found.append(Fact(str(len(study.front())), f"points on the front, of {len(study.points())} candidates"))
    saved = f"; {100 * (1 - spent / whole):.0f}\u00a0% saved by stopping and failing early" if whole else ""
    found.append(Fact(str(spent), f"epochs trained{saved}"))
    hours = study.attrs.get("hours")
    return [*found, Fact(_hours(float(hours)), "of search")] if hours else found


def reference_rows(study: StudyResult) -> list[tuple[str, str, str, str]]:
    """Returns published results on the study's data set, the best first: model, accuracy, energy, source."""
    known = sorted(published(study), key=lambda reference: -reference.metrics["accuracy"])
    return [
        (r.name, f"{r.metrics['accuracy']:.2f}", f"{r.metrics['energy_mj']:.3g}" if "energy_mj" in r.metrics else "",
         r.source)
        for r in known
    ]  # fmt: skip


def rung_rows(study: StudyResult) -> list[tuple[int, int, int, str]]:
    """Returns for each rung: epoch, trials that got there, trials that were stopped there, and which."""
    return [(rung.epoch, len(rung.reached), len(rung.stopped), _listed(rung.stopped)) for rung in rungs(study)]


def failures(study: StudyResult) -> list[Failure]:
    """Returns the failures by class, the most frequent first."""
    failed = study.select("failed")
    counts = Counter(trial.failure_class or "error" for trial in failed)
    found = []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        alike = [trial for trial in failed if (trial.failure_class or "error") == name]
        examples = [(t.key, t.failure_reason or "", words(_ordered(study, t))) for t in alike[:MOST_FAILURES]]
        found.append(Failure(name, count, "; ".join(map(str, places(study, name)[:3])), examples))
    return found


def settings(study: StudyResult) -> dict[str, str]:
    """Returns what the study was asked and run with, one line each."""
    attrs = study.attrs
    space = json.dumps(attrs.get("space") or {}, sort_keys=True)
    seeds = sorted({trial.config["seed"] for trial in study.trials if "seed" in trial.config})
    rows = {
        "study": study.name,
        "objectives": ", ".join(f"{goal} {name}" for name, goal in study.objectives.items()),
        "constraints": json.dumps(study.constraints) if study.constraints else "none",
        "full training": f"{study.epochs} epochs",
        "refused before training": str(study.num_infeasible) if study.num_infeasible else "",
        "seed of the search": str(attrs.get("seed", "")),
        "seed of the trainings": ", ".join(map(str, seeds[:MOST_FAILURES])),
        "hours used": _hours(float(attrs["hours"])) if attrs.get("hours") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in (attrs.get("versions") or {}).items()),
        "SHA-256 of the space": hashlib.sha256(space.encode()).hexdigest(),
        "SHA-256 of the front": _front_hash(study),
    }
    return {name: value for name, value in rows.items() if value}


def space_text(study: StudyResult) -> str:
    """Returns the space file as the study keeps it."""
    space = study.attrs.get("space")
    return str(yaml.safe_dump(space, sort_keys=False, allow_unicode=True, width=100)) if space else ""


def hover_lines(study: StudyResult) -> dict[int, str]:
    """Returns what hovering over a trial says about it."""
    return {
        trial.number: f"{trial.key} {trial.failure_class or trial.state}, {trial.num_epochs} of {study.epochs} epochs, "
        f"T={trial.config.get('step', '?')}\n{words(_ordered(study, trial))}"
        for trial in study.trials
    }


def _front_row(study: StudyResult, point: FrontPoint, source: str, marks: str) -> FrontRow:
    config = study.trial(point.trial).config
    step = config.get("step")
    is_early = isinstance(step, int) and point.read_step < step
    folder = Path("configs") / (f"{point.key}-r{point.read_step}" if is_early else point.key)
    read = "" if point.read_step == config.get("read_step") else f" --read-step {point.read_step}"
    spread = spreads(study).get((point.trial, point.read_step), {})
    seeds = ", ".join(f"{n} {s.mean:.4g} \u00b1 {s.deviation:.2g} ({s.seeds} seeds)" for n, s in spread.items())
    return FrontRow(
        key=point.key,
        marks=marks,
        read=f"{point.read_step} of {step}",
        cells=[metric_text(name, point.metrics.get(name)) for name in front_metrics(study)],
        values=[value_text(point.params[key]) if key in point.params else "" for key in study.searched],
        seeds=seeds,
        export=f"python -m results.export {source} --pick trial:{point.trial}{read} --out {shlex.quote(str(folder))}",
        train=export(study, [point], Layout(folder))[0].command,
    )


def metric_text(name: str, value: float | None) -> str:
    """Returns a metric as tables show it."""
    if value is None:
        return ""
    return f"{value:.2f}" if name == "accuracy" else short(value)


def metric_label(name: str) -> str:
    """Returns a metric's name in words."""
    return METRICS[name].label


def _front_hash(study: StudyResult) -> str:
    rows = [[point.trial, point.read_step, *study.values(point)] for point in study.front()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _ordered(study: StudyResult, trial: TrialResult) -> dict[str, Any]:
    """The trial's values in the order of the space."""
    return {key: trial.params[key] for key in study.searched if key in trial.params}


def _listed(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(f"t{number:04d}" for number in numbers[:MOST_FAILURES])
    return shown + (f" and {len(numbers) - MOST_FAILURES} more" if len(numbers) > MOST_FAILURES else "")


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
