"""Tables and texts of the report: summary, front, rungs, failures, settings."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from results.analysis.edges import failure_regions
from results.analysis.front import highlighted_points, plot_axes
from results.analysis.history import rungs, total_epochs
from results.analysis.references import published
from results.export import Layout, export
from results.metrics import METRICS, format_number, format_param, format_params
from results.study import FrontPoint, StudyResult, TrialResult, TrialStatus

MAX_ROWS = 100
MAX_EXAMPLES = 10
TABLE_METRICS = ("accuracy", "spike_rate", "synops", "energy_mj", "params_m")


@dataclass(frozen=True)
class FrontRow:
    """A point of the front: its key, labels, metrics and values as text, and the commands for it."""

    key: str
    labels: str
    read: str
    metrics: list[str]
    values: list[str]
    seeds: str
    export: str
    train: str


@dataclass(frozen=True)
class FailureGroup:
    """The failures of one class: their number, their regions of the space, and (key, reason, values) of the first."""

    failure_class: str
    count: int
    regions: str
    examples: list[tuple[str, str, str]]


def front_metrics(study: StudyResult) -> list[str]:
    """Returns the metrics of the front's table, the objectives first."""
    return list(dict.fromkeys([*study.objectives, *TABLE_METRICS]))


def front_rows(study: StudyResult, source: str) -> list[FrontRow]:
    """Returns the front's table; `source` names the study on a command line."""
    labels: dict[tuple[int, int], list[str]] = {}
    for label, point in highlighted_points(study).items():
        labels.setdefault((point.trial, point.read_step), []).append(label)
    front = study.front()[:MAX_ROWS]
    return [_front_row(study, point, source, labels.get((point.trial, point.read_step), [])) for point in front]


def summary(study: StudyResult) -> list[tuple[str, str]]:
    """Returns (number, description) of trials, highlighted points, front size, epochs and search time."""
    states = Counter(trial.state for trial in study.trials)
    shown: list[TrialStatus] = ["complete", "stopped", "failed", "running"]
    if states["paused"]:
        shown.append("paused")
    counts = ", ".join(f"{states[state]} {state}" for state in shown)
    found = [(str(len(study.trials)), f"trials: {counts}")]
    metrics = dict.fromkeys(reversed(plot_axes(study)))
    for label, point in highlighted_points(study).items():
        test = {"test accuracy": point.test["accuracy"].mean} if "accuracy" in point.test else {}
        values = {name: point.metrics[name] for name in metrics} | test
        numbers = ", ".join(f"{name} {format_number(value)}" for name, value in values.items())
        found.append((point.key, f"{label}: {numbers}"))
    found.append((str(len(study.front())), f"points on the front, of {len(study.points())} candidates"))
    epochs, full = total_epochs(study), len(study.trials) * study.epochs
    saved = f"; {100 * (1 - epochs / full):.0f}\u00a0% saved by stopping and failing early" if full else ""
    found.append((str(epochs), f"epochs trained{saved}"))
    hours = study.attrs.get("hours")
    return [*found, (_format_hours(float(hours)), "search time")] if hours else found


def reference_rows(study: StudyResult) -> list[tuple[str, str, str, str]]:
    """Returns published results on the study's data set, best first: model, accuracy, energy, source."""
    references = sorted(published(study), key=lambda reference: -reference.metrics["accuracy"])
    rows = []
    for reference in references:
        energy = reference.metrics.get("energy_mj")
        accuracy = f"{reference.metrics['accuracy']:.2f}"
        rows.append((reference.name, accuracy, "" if energy is None else f"{energy:.3g}", reference.source))
    return rows


def rung_rows(study: StudyResult) -> list[tuple[int, int, int, str]]:
    """Returns for each rung: its epoch, the trials that reached it, those stopped at it, and the first of these."""
    return [(rung.epoch, len(rung.reached), len(rung.stopped), _list_trials(rung.stopped)) for rung in rungs(study)]


def failure_groups(study: StudyResult) -> list[FailureGroup]:
    """Returns the failures by class, the most frequent first."""
    found = []
    for failure_class, trials in sorted(study.failures().items(), key=lambda item: (-len(item[1]), item[0])):
        examples = [(t.key, t.failure_reason or "", _format_values(study, t)) for t in trials[:MAX_EXAMPLES]]
        regions = "; ".join(map(str, failure_regions(study, failure_class)[:3]))
        found.append(FailureGroup(failure_class, len(trials), regions, examples))
    return found


def settings(study: StudyResult) -> dict[str, str]:
    """Returns the study's settings, one line each; those that are not set are left out."""
    attrs = study.attrs
    space = json.dumps(attrs.get("space") or {}, sort_keys=True)
    front = json.dumps([[point.trial, point.read_step, *study.values(point)] for point in study.front()])
    seeds = sorted({trial.config["seed"] for trial in study.trials if "seed" in trial.config})
    rows = {
        "study": study.name,
        "objectives": ", ".join(f"{direction} {name}" for name, direction in study.objectives.items()),
        "constraints": json.dumps(study.constraints) if study.constraints else "none",
        "full training": f"{study.epochs} epochs",
        "refused before training": str(study.num_infeasible) if study.num_infeasible else "",
        "seed of the search": str(attrs.get("seed", "")),
        "seed of the trainings": ", ".join(map(str, seeds[:MAX_EXAMPLES])),
        "hours used": _format_hours(float(attrs["hours"])) if attrs.get("hours") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in (attrs.get("versions") or {}).items()),
        "SHA-256 of the space": hashlib.sha256(space.encode()).hexdigest(),
        "SHA-256 of the front": hashlib.sha256(front.encode()).hexdigest(),
    }
    return {name: value for name, value in rows.items() if value}


def space_text(study: StudyResult) -> str:
    """Returns the study's copy of its space file."""
    space = study.attrs.get("space")
    return str(yaml.safe_dump(space, sort_keys=False, allow_unicode=True, width=100)) if space else ""


def hover_texts(study: StudyResult) -> dict[int, str]:
    """Returns the hover text of each trial: its state, epochs, timesteps and searched values."""
    return {
        trial.number: f"{trial.key} {trial.failure_class or trial.state}, {trial.num_epochs} of {study.epochs} epochs, "
        f"T={trial.config.get('step', '?')}\n{_format_values(study, trial)}"
        for trial in study.trials
    }


def format_cell(name: str, value: float | None) -> str:
    """Returns a metric as tables show it."""
    if value is None:
        return ""
    return f"{value:.2f}" if name == "accuracy" else format_number(value)


def _front_row(study: StudyResult, point: FrontPoint, source: str, labels: Sequence[str]) -> FrontRow:
    config = study.trial(point.trial).config
    step = config.get("step")
    is_early = isinstance(step, int) and point.read_step < step
    folder = Path("configs") / study.name / (f"{point.key}-r{point.read_step}" if is_early else point.key)
    option = "" if point.read_step == config.get("read_step") else f" --read-step {point.read_step}"
    return FrontRow(
        key=point.key,
        labels=", ".join(labels),
        read=f"{point.read_step} of {step}",
        metrics=[format_cell(name, point.metrics.get(name)) for name in front_metrics(study)],
        values=[format_param(point.params[key]) if key in point.params else "" for key in study.searched],
        seeds=point.describe_seeds(METRICS),
        export=f"python -m results.export {source} --pick trial:{point.trial}{option} --out {shlex.quote(str(folder))}",
        train=export(study, [point], Layout(folder))[0].command,
    )


def _format_values(study: StudyResult, trial: TrialResult) -> str:
    """Returns the trial's searched values in the order of the space."""
    values: dict[str, Any] = {key: trial.params[key] for key in study.searched if key in trial.params}
    return format_params(values)


def _list_trials(numbers: Sequence[int]) -> str:
    shown = ", ".join(f"t{number:04d}" for number in numbers[:MAX_EXAMPLES])
    return shown + (f" and {len(numbers) - MAX_EXAMPLES} more" if len(numbers) > MAX_EXAMPLES else "")


def _format_hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
