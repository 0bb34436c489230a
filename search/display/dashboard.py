"""The view of a search, running or ended, that the live display and `search.status` render."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis.front import hypervolume
from results.analysis.history import total_epochs
from results.analysis.timeline import PEAK_PARALLEL, has_times, trained_s
from results.keys import space_size
from results.metrics import counted, format_metric, format_params, product_unit
from results.study import FrontPoint, StudyResult, TrialResult
from results.study.constraints import empty_front
from search.algorithm import forecast
from search.algorithm.forecast import TrialProgress
from search.display import terminal_plots
from search.storage.study_metadata import FINISHED_BUDGET, search_end

PLOT_WIDTH, PLOT_HEIGHT = 56, 8
CURVE_WIDTH = 28
NO_DRIVER = "none; the command that started the search resumes it"
MAX_FAILURES = 3
"""Classes of failure that are shown with a reason."""
MAX_RUNNING = 3
"""Running trials that are shown."""


@dataclass(frozen=True)
class Dashboard:
    """A search at one moment: `hypervolumes` after some of the ended trials, `slots` for parallel trials.

    `batches` holds the epoch, the batch and the number of batches of running trials that reported from within an epoch;
    `now` are seconds since 1970.
    """

    result: StudyResult
    elapsed_s: float
    hypervolumes: Sequence[float] = ()
    slots: int | None = None
    driver: str | None = None
    batches: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    now: float = field(default_factory=time.time)

    @cached_property
    def front(self) -> list[FrontPoint]:
        return self.result.front()

    @cached_property
    def states(self) -> Counter[str]:
        return Counter(trial.state for trial in self.result.trials)

    @property
    def budget(self) -> Mapping[str, Any]:
        return (self.result.attrs.get("space") or {}).get("budget") or {}

    @cached_property
    def num_configs(self) -> float:
        """Returns the number of configs in the space."""
        return space_size(self.result)

    @property
    def has_ended(self) -> bool:
        """Returns whether the budget is spent, so that at most the first fronts are still trained to the end."""
        return bool(self.budget) and self.result.attrs.get(FINISHED_BUDGET) == search_end(self.result.attrs["space"])

    @property
    def epochs_trained(self) -> int:
        return total_epochs(self.result)


def hypervolume_history(result: StudyResult, ended: Sequence[int], count: int = CURVE_WIDTH) -> list[float]:
    """Returns the hypervolume at up to `count` moments, given the trials in the order in which they ended."""
    result = result.unconfirmed()
    by_number = {trial.number: trial for trial in result.trials}
    trials = tuple(by_number[number] for number in ended if number in by_number)
    sizes = terminal_plots.thinned(range(1, len(trials) + 1), count)
    return [hypervolume(replace(result, trials=trials[:size])) for size in sizes]


def render(dashboard: Dashboard) -> RenderableType:
    """Returns the view for a terminal of 80 columns or more."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    for name, text in rows(dashboard):
        table.add_row(name, Text(text))
    return Group(Text(f"study {dashboard.result.name}", style="bold underline"), table, *plot(dashboard))


def rows(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Yields the rows of the table, each with its name."""
    if dashboard.driver is not None:
        yield "driver", dashboard.driver
    yield "trials", _trials(dashboard)
    if dashboard.num_configs < (trials := dashboard.budget.get("trials") or 0):
        yield "space", f"{dashboard.num_configs:.0f} configs, so no more of the {trials} trials run"
    if dashboard.slots:
        busy = min(dashboard.states["running"], dashboard.slots)
        yield "workers", f"{terminal_plots.bar(busy / dashboard.slots, 10)} {busy} of {dashboard.slots} busy"
    yield from _running(dashboard)
    yield "best accuracy", _best(dashboard.result, "accuracy", max)
    yield "lowest spike rate", _best(dashboard.result, "spike_rate", min)
    yield "front", counted(len(dashboard.front), "point")
    if (empty := empty_front(dashboard.result)) is not None:
        yield from zip(("no candidate", "nearest"), empty, strict=True)
    latest = dashboard.hypervolumes[-1] if dashboard.hypervolumes else 0.0
    curve = terminal_plots.sparkline(dashboard.hypervolumes, CURVE_WIDTH)
    yield "hypervolume", f"{format_hypervolume(dashboard.result, latest)}  {curve}".rstrip()
    saved = sum(dashboard.result.epochs - trial.num_epochs for trial in dashboard.result.select("stopped"))
    yield "epochs", f"{dashboard.epochs_trained} trained, {saved} saved by stopping"
    yield "time", f"{clock(dashboard.elapsed_s)} so far, {_remaining(dashboard)}"
    failed = [trial for trial in dashboard.result.trials if trial.failure_class]
    for failure_class, count in Counter(trial.failure_class for trial in failed).most_common(MAX_FAILURES):
        first = next(trial for trial in failed if trial.failure_class == failure_class)
        yield f"{count} x {failure_class}", f"{first.key}: {first_line(first)}"


def plot(dashboard: Dashboard) -> Iterator[Text]:
    """Yields the lines of the front's plot: the first objective over the second one."""
    names, points = list(dashboard.result.objectives), dashboard.result.points()
    if len(names) < 2 or not points:
        return
    up, right = names[0], names[1]
    coordinates = [(point.metrics[right], point.metrics[up]) for point in points]
    front = [(point.metrics[right], point.metrics[up]) for point in dashboard.front]
    lines = terminal_plots.scatter(coordinates, front, PLOT_WIDTH, PLOT_HEIGHT)
    top, bottom = (format_metric(up, end(y for _, y in coordinates)) for end in (max, min))
    first, last = (format_metric(right, end(x for x, _ in coordinates)) for end in (min, max))
    width = max(len(top), len(bottom))
    labels = [top, *[""] * (PLOT_HEIGHT - 2), bottom]
    for label, line in zip(labels, lines, strict=True):
        yield Text(f"{label:>{width}} │{line}", no_wrap=True)
    title = f"{up} over {right}, ● on the front"
    yield Text(f"{'':>{width}} └{'─' * PLOT_WIDTH}", no_wrap=True)
    yield Text(f"{'':>{width}}  {first}{title:^{PLOT_WIDTH - len(first) - len(last)}}{last}", no_wrap=True)


def _trials(dashboard: Dashboard) -> str:
    states = (state for state in ("running", "paused", "complete", "stopped", "failed") if dashboard.states[state])
    text = f"{len(dashboard.result.trials)}"
    if total := dashboard.budget.get("trials"):
        text += f" of {total}"
    if counts := ", ".join(f"{dashboard.states[state]} {state}" for state in states):
        text += f": {counts}"
    return text + (f"; {dashboard.result.num_infeasible} refused" if dashboard.result.num_infeasible else "")


def format_hypervolume(result: StudyResult, volume: float) -> str:
    """Returns a hypervolume with its unit."""
    return f"{volume:.4g} {product_unit(result.objectives)}"


def _best(result: StudyResult, metric: str, better: Callable[..., FrontPoint]) -> str:
    """Returns the best value of a metric on the front, and its trial.

    Without a front, it is that of the last epochs of the trials that did not fail, with their epochs.
    """
    front = result.front()
    points = front or [trial.point() for trial in result.trials if trial.state != "failed"]
    measured = [point for point in points if metric in point.metrics]
    if not measured:
        return "-"
    best = better(measured, key=lambda point: point.metrics[metric])
    epochs = "" if front else f" after {counted(result.trial(best.trial).num_epochs, 'epoch')}"
    return f"{format_metric(metric, best.metrics[metric])} ({best.key}{epochs})"


def _running(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Yields a row for each of the first running trials: its epoch, its batch if known, and its config."""
    running = dashboard.result.select("running") if dashboard.driver != NO_DRIVER else ()
    for trial in running[:MAX_RUNNING]:
        text = f"epoch {min(trial.num_epochs + 1, dashboard.result.epochs)}/{dashboard.result.epochs}"
        if (batch := _batch(dashboard, trial)) is not None:
            text += f", batch {batch[0]}/{batch[1]}"
        yield trial.key, f"{text}  {format_params(trial.params)}"
    if len(running) > MAX_RUNNING:
        yield "", f"and {len(running) - MAX_RUNNING} more"


def _batch(dashboard: Dashboard, trial: TrialResult) -> tuple[int, int] | None:
    """Returns the batches of a trial's current epoch so far, and of all; None if it has not reported any."""
    epoch, batch, batches = dashboard.batches.get(trial.number, (0, 0, 0))
    return (batch, batches) if epoch == trial.num_epochs + 1 else None


def trial_progress(dashboard: Dashboard, trial: TrialResult) -> TrialProgress:
    """Returns the epochs of a trial, the current one in part, and the seconds that they took."""
    epochs, seconds = float(trial.num_epochs), trained_s(trial)
    batch, batches = _batch(dashboard, trial) or (0, 0)
    is_running = trial.state == "running"
    if is_running and not epochs and trial.started is not None:
        seconds = min(dashboard.now - trial.started, dashboard.elapsed_s)
        epochs = batch / batches if batch else 0.0
    elif is_running and epochs and batch:
        seconds *= (epochs + batch / batches) / epochs
        epochs += batch / batches
    return TrialProgress(epochs, max(seconds, 0.0), trial.state, trial.seed_of is not None)


def _remaining(dashboard: Dashboard) -> str:
    """Returns the time that the rest of the search takes by its plan, at the pace of its trials."""
    trials = dashboard.budget.get("trials")
    trials = trials and min(trials, dashboard.num_configs)
    num_ended = len(dashboard.result.trials) - dashboard.states["running"] - dashboard.states["paused"]
    if not dashboard.states["running"] and (dashboard.has_ended or (trials and num_ended >= trials)):
        return "no trials remain"
    if dashboard.has_ended and dashboard.epochs_trained:
        unfinished = [trial for trial in dashboard.result.trials if trial.state in ("running", "paused")]
        epochs = sum(dashboard.result.epochs - trial.num_epochs for trial in unfinished)
        return f"at most {clock(dashboard.elapsed_s / dashboard.epochs_trained * epochs)} left"
    left_s = seconds_left(dashboard)
    return "time left unknown" if left_s is None else f"about {clock(left_s)} left"


def seconds_left(dashboard: Dashboard) -> float | None:
    """Returns the forecast of the remaining time; None before the first epoch."""
    result = dashboard.result
    plan = forecast.stored_plan(result.attrs.get("space") or {}, dashboard.num_configs)
    if plan is None or not has_times(result):
        return None
    slots = dashboard.slots or int(result.attrs.get(PEAK_PARALLEL) or 0) or dashboard.states["running"]
    progress = [trial_progress(dashboard, trial) for trial in result.trials]
    return forecast.seconds_left(plan, progress, dashboard.elapsed_s, slots)


def waiting_trials(result: StudyResult, command: str) -> str | None:
    """Returns how many trials wait on the first fronts of a search that has ended, and the command that trains them."""
    waiting = result.waiting()
    if not waiting:
        return None
    epochs = counted(sum(result.epochs - trial.num_epochs for trial in waiting), "epoch")
    verb, them = ("waits", "it") if len(waiting) == 1 else ("wait", "them")
    trials = counted(len(waiting), "trial")
    return f"{trials} of the first fronts {verb}: {command} trains {them} (at most {epochs})"


def first_line(trial: TrialResult) -> str:
    """Returns the first line of a failed trial's reason."""
    return (trial.failure_reason or "").partition("\n")[0]


def clock(seconds: float) -> str:
    """Returns a time as 2:05 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
