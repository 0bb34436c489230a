"""What a search says at its end: the front, where everything lies, and what to type next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from results.study import StudyResult
from search.progress import format_metric, format_value
from search.study import Study

SHOWN = ("accuracy", "spike_rate", "synops", "energy_mj")
MOST_ROWS = 20


def show(study: Study, folder: Path, uri: str, tracking_problem: str | None) -> None:
    """Prints the front, the places and the next commands."""
    result, console = study.result(), Console(highlight=False)
    states = Counter(trial.state for trial in result.trials)
    counted = ", ".join(f"{states[state]} {state}" for state in ("complete", "stopped", "failed") if states[state])
    console.print(f"\n{len(result.trials)} trials: {counted}; {study.epochs_spent()} epochs trained")
    console.print(_front(result))
    console.print(f"front      {folder / 'front.csv'}, {folder / 'front.png'}", soft_wrap=True)
    console.print(f"study      {folder / 'study.db'}", soft_wrap=True)
    console.print(f"MLflow     {uri}", soft_wrap=True)
    if tracking_problem is not None:
        console.print(f"MLflow was not written to the end: {tracking_problem}", soft_wrap=True)
    console.print("\nNext:")
    console.print(f"  mlflow ui --backend-store-uri {uri}", soft_wrap=True)
    console.print(f"  python -m results.export {folder} --pick knee --out configs/", soft_wrap=True)
    knee = result.knee()
    if knee is not None:
        config = result.trial(knee.trial).config
        family = str(config["model"]).split("_")[0]
        console.print(f"  python -m trainers.run --config configs/{family}/{config['dataset']}.yml", soft_wrap=True)


def _front(result: StudyResult) -> Table:
    front, knee = result.front(), result.knee()
    shown = [*result.objectives, *(name for name in SHOWN if name not in result.objectives)]
    table = Table(
        title=f"the front: {len(front)} points" + (f", the first {MOST_ROWS}" if len(front) > MOST_ROWS else "")
    )
    for name in ("trial", "read step", *shown, *result.searched):
        table.add_column(name, justify="right", overflow="fold")
    for point in front[:MOST_ROWS]:
        mark = " knee" if knee is not None and point == knee else ""
        metrics = [format_metric(name, point.metrics[name]) for name in shown]
        values = [format_value(point.params.get(key, "")) for key in result.searched]
        table.add_row(f"{point.key}{mark}", str(point.read_step), *metrics, *values)
    return table


def repeated_failures(study: Study) -> str:
    """Returns what is said when the search stopped because trial after trial failed alike."""
    failed = max((trial for trial in study.result().trials if trial.state == "failed"), key=lambda trial: trial.number)
    return f"the last trials all failed in the same way, so the search stopped. {failed.key}: {study.broken()}"


def no_success(result: StudyResult) -> str:
    """Returns what is said when no trial reached full fidelity."""
    kinds = Counter(trial.failure_class for trial in result.trials if trial.failure_class)
    first = next((trial for trial in result.trials if trial.failure_class), None)
    text = "no trial succeeded: " + (
        ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) or "none ran to the end"
    )
    return text if first is None else f"{text}. {first.key}: {first.failure_class}: {first.failure_reason}"
