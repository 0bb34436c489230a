"""The end of a search: the front, the paths of all results, and the next commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from config.uris import redact, without_secrets, without_user
from results.analysis.history import total_epochs
from results.export import Layout, export
from results.folder import study_location
from results.metrics import counted, format_metric, format_params
from results.study import StudyResult, TrialStatus
from results.study.constraints import empty_front
from search.display.dashboard import waiting_trials
from search.storage import event_log
from search.storage.study import Study

if TYPE_CHECKING:
    from search.space.space import Space

COSTS = ("accuracy", "spike_rate", "synops", "energy_mj")
ENDED: tuple[TrialStatus, ...] = ("complete", "stopped", "failed", "paused")
"""States of the trials of a search that has ended; the paused ones may be trained further."""
MAX_ROWS = 20


def print_summary(study: Study, uri: str, missing: str | None, finish_command: str) -> None:
    """Prints the front, the paths and the next commands; `missing` is the message on data that MLflow lacks."""
    result, folder = study.result().interrupted(), study.folder
    states = Counter(trial.state for trial in result.trials)
    counts = ", ".join(f"{states[state]} {state}" for state in ENDED if states[state])
    trials, epochs = counted(len(result.trials), "trial"), counted(total_epochs(result), "epoch")
    print(f"\n{trials}: {counts}; {epochs} trained")
    if (reason := unused_trials(study)) is not None:
        print(reason)
    print(*_front(result), sep="\n")
    if (waiting := waiting_trials(result, finish_command)) is not None:
        print(waiting)
    print(f"\nfront      {folder / 'front.csv'}, {folder / 'front.png'}")
    print(f"trials     {folder / 'trials.csv'}")
    print(f"report     {folder / 'report.html'}")
    print(f"study      {redact(str(study_location(folder)))}")
    print(f"MLflow     {redact(uri)}")
    if missing is not None:
        print(missing)
    print("\nNext:", *(f"  {line}" for line in next_steps(result, folder, uri)), sep="\n")


def next_steps(result: StudyResult, folder: Path, uri: str) -> list[str]:
    """Returns how to open MLflow, and the commands that export and retrain the knee, in a folder of its study."""
    is_server, is_database = uri.startswith(("http://", "https://")), "://" in uri and not uri.startswith("databricks")
    lines = [f"open {without_user(uri)} in a browser: experiment {result.name}"] if is_server else []
    if is_database and not is_server:
        lines.append(f"mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(without_secrets(uri))}")
    if (knee := result.knee()) is not None:
        layout = Layout(folder / "configs" / knee.key)
        option = f"--pick knee --out {shlex.quote(str(layout.folder))}"
        lines.append(f"python -m results.export {shlex.quote(str(folder))} {option}")
        lines.append(export(result, [knee], layout)[0].command)
    return lines


def small_space(space: Space) -> str | None:
    """Returns the message on a space with fewer configs than the budget has trials."""
    size, trials = space.size(), space.budget.trials
    if trials is None or size >= trials:
        return None
    return f"the space has {size:.0f} config{'s' * (size != 1)}, so at most {size:.0f} of {trials} trials run"


def unused_trials(study: Study) -> str | None:
    """Returns why a search that has ended started fewer trials than its budget has."""
    budget, size = study.space.budget, study.space.size()
    num_started = sum(trial.seed_of is None for trial in study.started())
    if budget.trials is None or num_started >= budget.trials or study.repeated_failure() is not None:
        return None
    is_exhausted = study.scheduler.budget.space_exhausted
    if study.may_continue:
        reason = "the search goes on without --finish"
    elif is_exhausted and len(study.trials) >= size:
        num_refused = len(study.trials) - len(study.started())
        refused = f", {num_refused} of which were refused" if num_refused else ""
        reason = f"all {size:.0f} configs of the space have been tried{refused}"
    elif is_exhausted:
        reason = "all further suggestions were refused"
    else:
        limits = {"epochs": budget.epochs_total, "hours": budget.hours}
        named = " or ".join(f"{value:g} {name}" for name, value in limits.items() if value)
        reason = f"the budget of {named} does not cover more"
    return f"{num_started} of {budget.trials} trials: {reason}"


def _front(result: StudyResult) -> Iterator[str]:
    """Yields the front's table: measured columns, then the searched values as one text."""
    front, knee = result.front(), result.knee()
    columns = list(dict.fromkeys((*result.objectives, *COSTS)))
    rows = [["trial", "read", *columns, "config"]]
    for point in front[:MAX_ROWS]:
        metrics = [format_metric(name, point.metrics[name]) for name in columns]
        values = format_params(point.params) + " <- knee" * (point == knee)
        rows.append([point.key, f"T={point.read}", *metrics, values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield f"the front: {counted(len(front), 'point')}" + (
        f", the first {MAX_ROWS} of them" if len(front) > MAX_ROWS else ""
    )
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
    """Returns the message of a search without a front: no trial reached full fidelity, or none is a candidate."""
    if (empty := empty_front(result)) is not None:
        problem, point = empty
        return f"no trial succeeded: {problem}. The nearest is {point}"
    failed = [trial for trial in result.trials if trial.failure_class]
    counts = Counter(trial.failure_class for trial in failed).most_common()
    text = "no trial succeeded: " + (", ".join(f"{n} {name}" for name, n in counts) or "none ran to the end")
    return f"{text}. {failed[0].key}: {failed[0].failure_class}: {failed[0].failure_reason}" if failed else text
