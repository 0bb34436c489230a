"""Data of the report's table of all trials, from which the page makes rows, commands and train files.

Values that all trials share are stored once, so that 1,000 trials take some 400 kB.
"""

from __future__ import annotations

from typing import Any

from results import train_file
from results.analysis.front import highlighted_trials
from results.charts.style import round_number
from results.metrics import ALL_METRICS, METRICS, REQUESTED_METRICS, format_metric
from results.reporting.tables import front_metrics
from results.study import FrontPoint, StudyResult, TrialResult


def trial_data(study: StudyResult, source: str) -> dict[str, Any]:
    """Returns columns, shared values and one record for each trial; `source` names the study on a command line."""
    shown = front_metrics(study)
    others = [name for name in METRICS if name not in shown and any(name in trial.metrics for trial in study.trials)]
    configs = {trial.number: _texts(trial) for trial in study.trials}
    common = _common(list(configs.values()))
    labels = _labels(study)
    metrics = [*shown, *others]
    rows = []
    for trial in study.trials:
        row = _row(study, trial, metrics) | {"config": _difference(configs[trial.number], common)}
        row |= {"labels": labels.get(trial.number, [])}
        rows.append({key: value for key, value in row.items() if value not in (None, "", [], {})})
    return {
        "source": source,
        "folder": f"configs/{study.name}",
        "metrics": [{"name": name, "label": ALL_METRICS[name].label} for name in metrics],
        "numShown": len(shown),
        "keys": list(study.searched),
        "epochs": study.epochs,
        "common": common,
        "order": train_file.ordered({key: None for config in configs.values() for key in config}),
        "rows": rows,
    }


def failure_text(trial: TrialResult) -> str:
    """Returns why a trial failed, or why something other than a rung stopped it."""
    if trial.state == "failed":
        return f"{trial.failure_class or 'error'}: {trial.failure_reason or 'no reason given'}"
    return trial.stop_reason or ""


def _row(study: StudyResult, trial: TrialResult, metrics: list[str]) -> dict[str, Any]:
    own = next((row for row in trial.read_outs if row["read_step"] == trial.read_step), {})
    values = {**trial.metrics, **{name: own[name] for name in REQUESTED_METRICS if name in own}}
    return {
        "trial": trial.number,
        "state": trial.state,
        "epochs": trial.num_epochs,
        "metrics": [round_number(values.get(name)) for name in metrics] if values else [],
        "inactive": [key for key in study.searched if key not in trial.params],
        "reason": failure_text(trial),
        "duration_s": round_number(trial.duration_s),
        "readStep": trial.read_step,
        "file": str(train_file.path(trial.config)),
        "readOuts": [_read_out(point, list(study.objectives)) for point in trial.points()] if trial.read_outs else [],
    }


def _read_out(point: FrontPoint, names: list[str]) -> str:
    """Returns the objectives of a read-out as text, such as `1: accuracy 90.10 %, spike_rate 0.12`."""
    values = ", ".join(f"{name} {format_metric(name, point.metrics[name])}" for name in names if name in point.metrics)
    return f"{point.exit or point.read_step}: {values}"


def _labels(study: StudyResult) -> dict[int, list[str]]:
    """Returns `front` for the front's trials, and the names of the highlighted ones."""
    found = {point.trial: ["front"] for point in study.front()}
    for number, text in highlighted_trials(study).items():
        found.setdefault(number, []).extend(text.split(", "))
    return found


def _texts(trial: TrialResult) -> dict[str, str]:
    """Returns the trial's train file: its keys and values as text."""
    config = train_file.read_out_config(trial.config, trial.read_step)
    return {key: train_file.scalar(config[key]) for key in train_file.ordered(config)}


def _common(configs: list[dict[str, str]]) -> dict[str, str]:
    first, *others = configs or [{}]
    return {key: text for key, text in first.items() if all(config.get(key) == text for config in others)}


def _difference(config: dict[str, str], common: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in config.items() if key not in common}
