"""What a search says at its end: the front, where everything lies, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from config.uris import redact
from results.folder import study_location
from results.metrics import format_metric, format_value
from results.study import StudyResult
from search.storage.study import Study

SHOWN = ("accuracy", "spike_rate", "synops", "energy_mj")
MOST_ROWS = 20


def show(study: Study, folder: Path, uri: str, missing: str | None) -> None:
    """Prints the front, the places and the next commands; `missing` says what MLflow lacks."""
    result = study.result()
    states = Counter(trial.state for trial in result.trials)
    counted = ", ".join(f"{states[state]} {state}" for state in ("complete", "stopped", "failed") if states[state])
    print(f"\n{len(result.trials)} trials: {counted}; {study.epochs_spent()} epochs trained")
    for line in _front(result):
        print(line)
    print()
    print(f"front      {folder / 'front.csv'}, {folder / 'front.png'}")
    print(f"report     {folder / 'report.html'}")
    print(f"study      {redact(str(study_location(folder)))}")
    print(f"MLflow     {uri}")
    if missing is not None:
        print(missing)
    print("\nNext:")
    print(f"  mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(uri)}")
    knee = result.knee()
    if knee is None:
        return
    config = result.trial(knee.trial).config
    family = str(config["model"]).split("_")[0]
    print(f"  python -m results.export {shlex.quote(str(folder))} --pick knee --out configs/")
    print(f"  python -m trainers.run --config configs/{family}/{config['dataset']}.yml")


def _front(result: StudyResult) -> Iterator[str]:
    """Yields the front's table: measured columns first, then the searched values in one text."""
    front, knee = result.front(), result.knee()
    shown = [*result.objectives, *(name for name in SHOWN if name not in result.objectives)]
    rows = [["trial", "read", *shown, "config"]]
    for point in front[:MOST_ROWS]:
        metrics = [format_metric(name, point.metrics[name]) for name in shown]
        values = " ".join(f"{key}={format_value(value)}" for key, value in point.params.items())
        rows.append([point.key, f"T={point.read_step}", *metrics, values + (" <- knee" if point == knee else "")])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    yield f"the front: {len(front)} points" + (f", the first {MOST_ROWS} of them" if len(front) > MOST_ROWS else "")
    for row in rows:
        yield "  " + "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])


def repeated_failures(study: Study) -> str:
    """Returns what is said when the search stopped because trial after trial failed alike."""
    failed = [
        trial
        for trial in study.result().trials
        if f"{trial.failure_class}: {trial.failure_reason}" == study.repeated_failure()
    ]
    config = " ".join(f"{key}={format_value(value)}" for key, value in failed[0].params.items())
    return (
        f"the last trials all failed in the same way, so the search stopped. {failed[0].key}: {study.repeated_failure()}\n"
        f"config     {config}\n"
        f"log        {study.folder / 'events.jsonl'}"
    )


def no_success(result: StudyResult) -> str:
    """Returns what is said when no trial reached full fidelity."""
    kinds = Counter(trial.failure_class for trial in result.trials if trial.failure_class)
    first = next((trial for trial in result.trials if trial.failure_class), None)
    text = "no trial succeeded: " + (
        ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) or "none ran to the end"
    )
    return text if first is None else f"{text}. {first.key}: {first.failure_class}: {first.failure_reason}"
