"""Tables and texts of the report: summary, front, rungs, failures, settings."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from results import train_file
from results.analysis.edges import failure_regions
from results.analysis.front import highlighted_points, plot_axes, requested_metrics
from results.analysis.history import rungs, total_epochs
from results.analysis.references import published
from results.analysis.seed_statistics import study_front_shares
from results.metrics import METRICS, counted, format_number, format_param, format_params
from results.study import FrontPoint, StudyResult, TrialResult, TrialStatus
from results.study.seeds import ReadOut, Spread, Spreads, spread

MAX_ROWS = 100
MAX_EXAMPLES = 10
RARE: tuple[TrialStatus, ...] = ("running", "paused")
"""States that are named only if a trial is in them."""
TABLE_METRICS = ("accuracy", "spike_rate", "synops", "energy_mj", "params_m")


@dataclass(frozen=True)
class FrontRow:
    """A point of the front: its key, labels, metrics and values as text, and the commands for it."""

    key: str
    labels: list[str]
    read: str
    metrics: list[str]
    values: list[str]
    seeds: str
    export: str
    train: str


@dataclass(frozen=True)
class ConfigRow:
    """A config over its seeds: its first trial, its values, the number of trainings, and metrics as text."""

    key: str
    values: list[str]
    seeds: int
    failed: int
    metrics: list[str]


@dataclass(frozen=True)
class RungRow:
    """A rung: its epoch, the numbers of trials that reached it and that were stopped at it, and the first of these."""

    epoch: int
    reached: int
    stopped: int
    first: list[str]


@dataclass(frozen=True)
class FailureGroup:
    """The failures of one class: their number, their regions of the space, and (key, reason, values) of the first."""

    failure_class: str
    count: int
    regions: str
    examples: list[tuple[str, str, str]]


def front_metrics(study: StudyResult) -> list[str]:
    """Returns the metrics of the front's table, the objectives first."""
    return list(dict.fromkeys([*study.objectives, *TABLE_METRICS, *requested_metrics(study)]))


def front_rows(study: StudyResult, source: str) -> list[FrontRow]:
    """Returns the front's table; `source` names the study on a command line."""
    labels: dict[ReadOut, list[str]] = {}
    for label, point in highlighted_points(study).items():
        labels.setdefault(point.read_out, []).append(label)
    front = study.front()[:MAX_ROWS]
    shares = study_front_shares(study)
    rows = [_front_row(study, point, source, labels.get(point.read_out, [])) for point in front]
    return [
        replace(row, seeds=f"{row.seeds}{_share_text(shares.get(point.read_out))}")
        for row, point in zip(rows, front, strict=True)
    ]


def _share_text(share: float | None) -> str:
    return "" if share is None else f"; on the front in {100 * share:.0f}\u00a0% of the resamples of the seeds"


def config_rows(study: StudyResult) -> list[ConfigRow]:
    """Returns means and deviations of the configs that the search trained with several seeds, the best first."""
    objective, goal = next(iter(study.objectives.items()))
    groups = [(group, study.repeats.failed.get(number, 0)) for number, group in study.repeats.trainings.items()]
    rows = [(group, failed, _config_spreads(study, group)) for group, failed in groups]
    sign = -1.0 if goal == "maximize" else 1.0
    rows.sort(key=lambda row: (sign * row[2][objective].mean if objective in row[2] else math.inf, row[0][0].number))
    return [_config_row(study, *row) for row in rows[:MAX_ROWS]]


def _config_spreads(study: StudyResult, group: Sequence[TrialResult]) -> Spreads:
    values = {name: [t.metrics[name] for t in group if name in t.metrics] for name in front_metrics(study)}
    return {name: spread(found) for name, found in values.items() if found}


def _config_row(study: StudyResult, group: Sequence[TrialResult], failed: int, found: Spreads) -> ConfigRow:
    first = group[0]
    return ConfigRow(
        key=first.key,
        values=[format_param(first.params[key]) if key in first.params else "" for key in study.searched],
        seeds=len(group),
        failed=failed,
        metrics=[_format_spread(name, found.get(name)) for name in front_metrics(study)],
    )


def _format_spread(name: str, found: Spread | None) -> str:
    if found is None:
        return ""
    mean = format_cell(name, found.mean)
    return f"{mean} \u00b1 {found.deviation:.2g}" if found.seeds > 1 and found.deviation else mean


def summary(study: StudyResult) -> list[tuple[str, str]]:
    """Returns (number, description) of trials, highlighted points, front size, epochs and search time."""
    states = Counter(trial.state for trial in study.trials)
    shown: list[TrialStatus] = ["complete", "stopped", "failed"]
    shown += [state for state in RARE if states[state]]
    counts = ", ".join(f"{states[state]} {state}" for state in shown)
    noun = "trial" if len(study.trials) == 1 else "trials"
    found = [(str(len(study.trials)), f"{noun}: {counts}")]
    metrics = dict.fromkeys(reversed(plot_axes(study)))
    for label, point in highlighted_points(study).items():
        test = {"test accuracy": point.test["accuracy"].mean} if "accuracy" in point.test else {}
        values = {name: point.metrics[name] for name in metrics} | test
        numbers = ", ".join(f"{name} {format_number(value)}" for name, value in values.items())
        found.append((point.key, f"{label}: {numbers}"))
    front, candidates = len(study.front()), counted(len(study.points()), "candidate")
    found.append((str(front), f"{'point' if front == 1 else 'points'} on the front, of {candidates}"))
    epochs, full = total_epochs(study), len(study.trials) * study.epochs
    saved = f"; {100 * (1 - epochs / full):.0f}\u00a0% saved by stopping and failing early" if full else ""
    found.append((str(epochs), f"{'epoch' if epochs == 1 else 'epochs'} trained{saved}"))
    hours = study.attrs.get("hours")
    return [*found, (format_hours(float(hours)), "search time")] if hours else found


def reference_rows(study: StudyResult) -> list[tuple[str, str, str, str]]:
    """Returns published results on the study's data set, best first: model, accuracy, energy, source."""
    references = sorted(published(study), key=lambda reference: -reference.metrics["accuracy"])
    rows = []
    for reference in references:
        energy = reference.metrics.get("energy_mj")
        accuracy = f"{reference.metrics['accuracy']:.2f}"
        rows.append((reference.name, accuracy, "" if energy is None else f"{energy:.3g}", reference.source))
    return rows


def rung_rows(study: StudyResult) -> list[RungRow]:
    """Returns the rungs, lowest first, with the keys of the first trials stopped at them."""
    return [
        RungRow(rung.epoch, len(rung.reached), len(rung.stopped), [f"t{n:04d}" for n in rung.stopped[:MAX_EXAMPLES]])
        for rung in rungs(study)
    ]


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
    front = json.dumps([[*_front_key(point), *study.values(point)] for point in study.front()])
    seeds = sorted({trial.config["seed"] for trial in study.trials if "seed" in trial.config})
    rows = {
        "study": study.name,
        "objectives": ", ".join(f"{direction} {name}" for name, direction in study.objectives.items()),
        "constraints": json.dumps(study.constraints) if study.constraints else "none",
        "full training": counted(study.epochs, "epoch"),
        "refused before training": str(study.num_infeasible) if study.num_infeasible else "",
        "seed of the search": str(attrs.get("seed", "")),
        "seed of the trainings": ", ".join(map(str, seeds[:MAX_EXAMPLES])),
        "hours used": format_hours(float(attrs["hours"])) if attrs.get("hours") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in (attrs.get("versions") or {}).items()),
        "SHA-256 of the space": hashlib.sha256(space.encode()).hexdigest(),
        "SHA-256 of the front": hashlib.sha256(front.encode()).hexdigest(),
    }
    return {name: value for name, value in rows.items() if value}


def space_text(study: StudyResult) -> str:
    """Returns the study's copy of its space file."""
    space = study.attrs.get("space")
    return str(yaml.safe_dump(space, sort_keys=False, allow_unicode=True, width=100)) if space else ""


def format_cell(name: str, value: float | None) -> str:
    """Returns a metric as tables show it."""
    if value is None:
        return ""
    return f"{value:.2f}" if name in ("accuracy", "accuracy_int8") else format_number(value)


def _front_row(study: StudyResult, point: FrontPoint, source: str, labels: list[str]) -> FrontRow:
    config = study.trial(point.trial).config
    step = config.get("step")
    is_early = isinstance(step, int) and point.read_step < step
    suffix = f"-r{point.read_step}" if is_early else f"-e{point.exit_number}" if point.exit else ""
    folder = Path("configs") / study.name / f"{point.key}{suffix}"
    option = "" if point.read_step == config.get("read_step") else f" --read-step {point.read_step}"
    option = f" --exit {point.exit_number}" if point.exit else option
    return FrontRow(
        key=point.key,
        labels=labels,
        read=f"{point.read} of {step}",
        metrics=[format_cell(name, point.metrics.get(name)) for name in front_metrics(study)],
        values=[format_param(point.params[key]) if key in point.params else "" for key in study.searched],
        seeds=point.describe_seeds(METRICS),
        export=f"python -m results.export {source} --pick trial:{point.trial}{option} --out {shlex.quote(str(folder))}",
        train=train_file.command([folder / train_file.path(config)]),
    )


def _front_key(point: FrontPoint) -> list[int]:
    return [point.trial, point.read_step, *([point.exit_number] if point.exit else [])]


def _format_values(study: StudyResult, trial: TrialResult) -> str:
    """Returns the trial's searched values in the order of the space."""
    values: dict[str, Any] = {key: trial.params[key] for key in study.searched if key in trial.params}
    return format_params(values)


def format_hours(hours: float) -> str:
    """Returns a time as `1.5 h`, below an hour in minutes."""
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
