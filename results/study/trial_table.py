"""Columns and rows of two tables: all trials, as in `StudyResult.to_dataframe` and `trials.csv`, and all configs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results.metrics import METRICS
from results.study.seeds import spread
from results.study.trial import TrialResult

FIRST_METRICS = ("accuracy", "spike_rate", "spikes", "synops", "energy_mj")
FIRST = ("trial", "state", "epochs")
LAST = ("failure_class", "failure_reason", "stop_reason", "duration_s", "source")


def columns(keys: Iterable[str]) -> list[str]:
    """Returns the columns, with those of the train-file keys; a key that another column has (epochs) is left out."""
    return list(dict.fromkeys([*FIRST, *FIRST_METRICS, *METRICS, *keys, *LAST]))


def row(trial: TrialResult, names: Sequence[str], searched: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a trial; a searched key that is not active in it has none. Lists become tuples."""
    fixed = {key: value for key, value in trial.config.items() if key not in searched}
    found = {
        **{key: tuple(value) if isinstance(value, list) else value for key, value in {**fixed, **trial.params}.items()},
        **trial.metrics,
        **{name: getattr(trial, name) for name in LAST},
        "trial": trial.number,
        "state": trial.state,
        "epochs": trial.num_epochs,
    }
    return {name: found.get(name) for name in names}


def config_columns(keys: Iterable[str]) -> list[str]:
    """Returns the columns of the table of configs: each metric's mean, and its standard deviation as `NAME_std`."""
    metrics = dict.fromkeys([*FIRST_METRICS, *METRICS])
    return list(
        dict.fromkeys(["trial", "seeds", "failed", *keys, *(c for name in metrics for c in (name, f"{name}_std"))])
    )


def config_row(trainings: Sequence[TrialResult], failed: int, names: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a config from its full trainings; the deviation of a single one is missing."""
    first = trainings[0]
    found: dict[str, Any] = {"trial": first.number, "seeds": len(trainings), "failed": failed}
    for name in dict.fromkeys([*FIRST_METRICS, *METRICS]):
        values = [trial.metrics[name] for trial in trainings if name in trial.metrics]
        if values:
            over_seeds = spread(values)
            found[name] = over_seeds.mean
            found[f"{name}_std"] = over_seeds.deviation if over_seeds.seeds > 1 else None
    params = {key: tuple(value) if isinstance(value, list) else value for key, value in first.params.items()}
    return {name: {**params, **found}.get(name) for name in names}


def to_csv(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Returns CSV with all digits of floats, so that they read back equal; missing values stay blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cell(one[name]) for name in names] for one in rows)
    return text.getvalue()


def cell(value: object) -> str:
    """Returns a value as CSV holds it: lists as `[1, 2]`."""
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(list(value) if isinstance(value, tuple) else value)
