"""The view of a search, under way or ended: what the live display and `search.status` both draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis.front import hypervolume
from results.metrics import format_metric
from results.study import FrontPoint, StudyResult, TrialResult
from search.display import terminal_plots

PLOT_WIDTH, PLOT_HEIGHT = 56, 9
CURVE_WIDTH = 40
MOST_FAILURES = 3
"""Classes of failure that are shown with a reason."""


@dataclass(frozen=True)
class Dashboard:
    """A search at one moment. `volumes` are the hypervolumes after one trial after the other, thinned out.

    `trials` are those shown as of now; `result` may be older, as fronts change only when a trial ends. `slots` are
    the trials that run at a time, where a driver said so.
    """

    result: StudyResult
    elapsed_s: float
    volumes: Sequence[float] = ()
    slots: int | None = None
    driver: str | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def front(self) -> list[FrontPoint]:
        return self.result.front()

    @cached_property
    def states(self) -> Counter[str]:
        return Counter(trial.state for trial in self.result.trials)

    @property
    def ended(self) -> int:
        return len(self.result.trials) - self.states["running"] - self.states["paused"]

    @property
    def epochs(self) -> int:
        """Returns the epochs trained by all trials together."""
        return sum(len(trial.epochs) for trial in self.result.trials)

    @property
    def saved(self) -> int:
        """Returns the epochs that stopped trials were spared."""
        return sum(self.result.epochs - trial.num_epochs for trial in self.result.select("stopped"))


def budget_of(result: StudyResult) -> dict[str, Any]:
    """Returns the budget of a study as its space file has it."""
    return dict((result.attrs.get("space") or {}).get("budget") or {})


def hypervolume_history(result: StudyResult, order: Sequence[int], count: int = CURVE_WIDTH) -> list[float]:
    """Returns the hypervolume at up to `count` moments, given the trials in the order in which they ended."""
    place = {number: i for i, number in enumerate(order)}
    found = []
    for last in terminal_plots.thinned(range(len(order)), count):
        trials = tuple(trial for trial in result.trials if place.get(trial.number, len(order)) <= last)
        found.append(hypervolume(replace(result, trials=trials)))
    return found


def render(board: Dashboard) -> RenderableType:
    """Returns the view for a terminal of 80 columns or more."""
    facts = Table.grid(padding=(0, 2), expand=True)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    for name, text in rows(board):
        facts.add_row(name, Text(text))
    return Group(Text(f"study {board.result.name}", style="bold underline"), facts, *plot(board))


def rows(board: Dashboard) -> Iterator[tuple[str, str]]:
    """Yields the facts, each with its name."""
    if board.driver is not None:
        yield "driver", board.driver
    yield "trials", _trials(board)
    if board.slots:
        busy = min(board.states["running"], board.slots)
        yield "workers", f"{terminal_plots.bar(busy / board.slots, 10)} {busy} of {board.slots} busy"
    yield "best accuracy", _extreme(board.result, "accuracy", max)
    yield "lowest spike rate", _extreme(board.result, "spike_rate", min)
    yield "front", f"{len(board.front)} point" + ("" if len(board.front) == 1 else "s")
    volume = board.volumes[-1] if board.volumes else 0.0
    yield "hypervolume", f"{volume:.4g}  {terminal_plots.sparkline(board.volumes, CURVE_WIDTH)}".rstrip()
    yield "epochs", f"{board.epochs} trained, {board.saved} saved by stopping"
    yield "time", f"{clock(board.elapsed_s)} so far, {_left(board)}"
    yield from _failures(board.result)


def plot(board: Dashboard) -> Iterator[Text]:
    """Yields the lines of the front's plot: the second objective to the right, the first one up."""
    names = list(board.result.objectives)
    if len(names) < 2 or not board.result.points():
        return
    up, right = names[0], names[1]
    every = [(point.metrics[right], point.metrics[up]) for point in board.result.points()]
    front = [(point.metrics[right], point.metrics[up]) for point in board.front]
    tops = [format_metric(up, max(y for _, y in every)), format_metric(up, min(y for _, y in every))]
    width = max(map(len, tops))
    lines = terminal_plots.scatter(every, front, PLOT_WIDTH, PLOT_HEIGHT)
    for i, line in enumerate(lines):
        label = tops[0] if i == 0 else tops[1] if i == len(lines) - 1 else ""
        yield Text(f"{label:>{width}} │{line}", no_wrap=True)
    low, high = (format_metric(right, end(x for x, _ in every)) for end in (min, max))
    yield Text(f"{'':>{width}} └{'─' * PLOT_WIDTH}", no_wrap=True)
    title = f"{up} over {right}, ● on the front"
    yield Text(f"{'':>{width}}  {low}{title:^{PLOT_WIDTH - len(low) - len(high)}}{high}", no_wrap=True)


def _trials(board: Dashboard) -> str:
    total = board.budget.get("trials")
    counted = ", ".join(
        f"{board.states[s]} {s}" for s in ("running", "paused", "complete", "stopped", "failed") if board.states[s]
    )
    of = f" of {total}" if total else ""
    refused = f"; {board.result.num_infeasible} refused" if board.result.num_infeasible else ""
    return f"{len(board.result.trials)}{of}" + (f": {counted}" if counted else "") + refused


def _extreme(result: StudyResult, metric: str, better: Any) -> str:
    """Returns the best value of a metric at the last epoch of a trial that did not fail, and whose it is."""
    last = [(t.metrics[metric], t.number) for t in result.trials if t.state != "failed" and metric in t.metrics]
    if not last:
        return "-"
    value, number = better(last)
    return f"{format_metric(metric, value)} (t{number:04d})"


def _left(board: Dashboard) -> str:
    """Returns what is left of the budget, and the time that it may take at the pace so far."""
    trials, hours = board.budget.get("trials"), board.budget.get("hours")
    if not board.states["running"] and (trials and board.ended >= trials):
        return "none left to start"
    guesses = []
    if trials and board.ended:
        guesses.append(board.elapsed_s / board.ended * max(trials - board.ended, 0))
    if (total := board.budget.get("epochs_total")) and board.epochs:
        guesses.append(board.elapsed_s / board.epochs * max(total - board.epochs, 0))
    if hours:
        guesses.append(max(3600 * hours - board.elapsed_s, 0.0))
    return f"about {clock(min(guesses))} left" if guesses else "time left unknown"


def _failures(result: StudyResult) -> Iterator[tuple[str, str]]:
    """Yields the classes of failure, the most frequent first, each with the first reason."""
    failed = [trial for trial in result.trials if trial.failure_class]
    for kind, count in Counter(trial.failure_class for trial in failed).most_common(MOST_FAILURES):
        first = next(trial for trial in failed if trial.failure_class == kind)
        yield f"{count} x {kind}", f"{first.key}: {first_line(first)}"


def first_line(trial: TrialResult) -> str:
    """Returns the first line of a failed trial's reason."""
    return ((trial.failure_reason or "").splitlines() or [""])[0]


def clock(seconds: float) -> str:
    """Returns a time as 2:05 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
