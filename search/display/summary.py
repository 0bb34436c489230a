"""The end of a search: the front, the paths of all results, and the next commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from config.uris import redact
from results.folder import study_location
from results.metrics import format_metric, format_params
from results.study import StudyResult
from search.storage import event_log
from search.storage.study import Study

COSTS = ("accuracy", "spike_rate", "synops", "energy_mj")
MAX_ROWS = 20


def print_summary(study: Study, folder: Path, uri: str, missing: str | None) -> None:
    """Prints the front, the paths and the next commands; `missing` is the message on data that MLflow lacks."""
    result = study.result()
    states = Counter(trial.state for trial in result.trials)
    counts = ", ".join(f"{states[state]} {state}" for state in ("complete", "stopped", "failed") if states[state])
    print(f"\n{len(result.trials)} trials: {counts}; {study.epochs_spent()} epochs trained")
    print(*_front(result), sep="\n")
    print(f"\nfront      {folder / 'front.csv'}, {folder / 'front.png'}")
    print(f"report     {folder / 'report.html'}")
    print(f"study      {redact(str(study_location(folder)))}")
    print(f"MLflow     {uri}")
    if missing is not None:
        print(missing)
    print(f"\nNext:\n  mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(uri)}")
    if (knee := result.knee()) is not None:
        config = result.trial(knee.trial).config
        family = str(config["model"]).split("_")[0]
        print(f"  python -m results.export {shlex.quote(str(folder))} --pick knee --out configs/")
        print(f"  python -m trainers.run --config configs/{family}/{config['dataset']}.yml")


def _front(result: StudyResult) -> Iterator[str]:
    """Yields the front's table: measured columns, then the searched values as one text."""
    front, knee = result.front(), result.knee()
    columns = list(dict.fromkeys((*result.objectives, *COSTS)))
    rows = [["trial", "read", *columns, "config"]]
    for point in front[:MAX_ROWS]:
        metrics = [format_metric(name, point.metrics[name]) for name in columns]
        values = format_params(point.params) + " <- knee" * (point == knee)
        rows.append([point.key, f"T={point.read_step}", *metrics, values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield f"the front: {len(front)} points" + (f", the first {MAX_ROWS} of them" if len(front) > MAX_ROWS else "")
    for row in rows:
        yield "  " + "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])


def repeated_failures(study: Study) -> str:
    """Returns the message of a search that stopped because the last trials all failed in the same way."""
    reason = study.repeated_failure()
    first = next(t for t in study.result().trials if f"{t.failure_class}: {t.failure_reason}" == reason)
    return (
        f"the last trials all failed in the same way, so the search stopped. {first.key}: {reason}\n"
        f"config     {format_params(first.params)}\n"
        f"log        {study.folder / event_log.NAME}"
    )


def no_success(result: StudyResult) -> str:
    """Returns the message of a search in which no trial reached full fidelity."""
    failed = [trial for trial in result.trials if trial.failure_class]
    counts = Counter(trial.failure_class for trial in failed).most_common()
    text = "no trial succeeded: " + (", ".join(f"{n} {name}" for name, n in counts) or "none ran to the end")
    return f"{text}. {failed[0].key}: {failed[0].failure_class}: {failed[0].failure_reason}" if failed else text
