"""Comparison of studies: the common reference point, repeats that differ in their seeds alone, differing settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.analysis.front import reference_point
from results.metrics import ResultsError
from results.study import StudyResult

Studies = Mapping[str, StudyResult]
"""Studies by unique labels."""

MAPPINGS = ("fixed", "objectives", "space", "constraints", "budget", "sampler", "scheduler", "resources")
"""Keys of a space file that hold mappings, whose entries are settings of their own."""
SEEDS = ("study", "seed", "fixed.seed", "base.seed")
MACHINE = ("concurrency", "tracking_uri", "storage", "fuse")
NOT_SET = "\u2013"


def label_studies(folders: Sequence[str], studies: Sequence[StudyResult]) -> dict[str, StudyResult]:
    """Returns the studies by their names, or by their folders if names repeat. Raises ResultsError for a repeat."""
    paths = [Path(folder).resolve() for folder in folders]
    for position, path in enumerate(paths):
        if path in paths[:position]:
            raise ResultsError(f"{folders[position]}: is given twice; name each study once")
    names = [study.name for study in studies]
    labels = names if len(set(names)) == len(names) else [str(Path(folder)) for folder in folders]
    return dict(zip(labels, studies, strict=True))


def check_comparable(studies: Studies) -> None:
    """Raises ResultsError if the studies have different objectives."""
    goals = {label: dict(study.objectives) for label, study in studies.items()}
    first, wanted = next(iter(goals.items()))
    for label, found in goals.items():
        if found != wanted:
            raise ResultsError(
                f"{label}: studies must have the same objectives to be compared (got {_list_goals(found)}; "
                f"{first} has {_list_goals(wanted)}). Compare studies with the same objectives"
            )


def common_reference(studies: Studies) -> dict[str, float]:
    """Returns the reference point of all hypervolumes: for each objective the worst of the studies' own."""
    found = [reference_point(study) for study in studies.values()]
    goals = next(iter(studies.values())).objectives
    return {
        name: (min if goal == "maximize" else max)(reference[name] for reference in found)
        for name, goal in goals.items()
    }


def settings_of(study: StudyResult) -> dict[str, str]:
    """Returns the settings of a study as text: its space file, base, epochs, data set and versions."""
    space: Mapping[str, Any] = study.attrs.get("space") or {}
    rows: dict[str, Any] = {}
    for key, value in space.items():
        if key in MAPPINGS and isinstance(value, Mapping):
            rows |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            rows[key] = value
    rows["seed"] = study.attrs.get("seed")
    rows["budget.epochs"] = study.epochs
    rows |= {f"base.{key}": value for key, value in (study.attrs.get("base") or {}).items()}
    rows["dataset"] = next((trial.config["dataset"] for trial in study.trials if "dataset" in trial.config), None)
    rows |= {f"versions.{name}": version for name, version in (study.attrs.get("versions") or {}).items()}
    return {key: _text(value) for key, value in rows.items() if value is not None}


def differing_settings(studies: Studies) -> dict[str, list[str]]:
    """Returns the settings that are not the same in all studies: by key, one text for each study."""
    found = [settings_of(study) for study in studies.values()]
    keys = dict.fromkeys(key for rows in found for key in rows)
    table = {key: [rows.get(key, NOT_SET) for rows in found] for key in keys if key != "study"}
    return {key: row for key, row in table.items() if len(set(row)) > 1}


def repeats(studies: Studies) -> list[dict[str, StudyResult]]:
    """Returns groups of two or more studies that differ in nothing but seeds and machine."""
    groups: dict[str, dict[str, StudyResult]] = {}
    for label, study in studies.items():
        rows = {key: text for key, text in settings_of(study).items() if key not in (*SEEDS, *MACHINE)}
        kept = {key: text for key, text in rows.items() if not key.startswith(("resources.", "versions."))}
        groups.setdefault(json.dumps(kept, sort_keys=True), {})[label] = study
    return [group for group in groups.values() if len(group) > 1]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list_goals(goals: Mapping[str, str]) -> str:
    return ", ".join(f"{goal} {name}" for name, goal in goals.items())
