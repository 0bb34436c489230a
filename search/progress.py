"""What a running search shows: a live table in a terminal, one plain line a trial in a file or pipe."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from results.study import TrialResult
from search.study import Study

REFRESH_S = 0.5


@dataclass
class Progress:
    """Follows a study; `update` is called with the number of each trial that changed."""

    study: Study
    console: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False))
    _live: Live | None = None
    _started: float = field(default_factory=time.monotonic)
    _drawn: float = 0.0
    _told: set[int] = field(default_factory=set)
    _epochs_before: int = 0
    _front: int = 0
    _volume: float = 0.0

    def __enter__(self) -> Progress:
        self._epochs_before = self.study.epochs_spent()
        self._told = {r.number for r in self.study.records.values() if r.state != "running"}
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, number: int) -> None:
        record = self.study.records[number]
        if record.state != "running" and number not in self._told:
            self._told.add(number)
            result = self.study.result()
            self._front, self._volume = len(result.front()), self.study.hypervolume()
            if self._live is None:
                self.console.print(self._line(self.study.trial_result(number)), soft_wrap=True)
        if self._live is not None and time.monotonic() - self._drawn > REFRESH_S:
            self._drawn = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def _line(self, trial: TrialResult) -> str:
        """Returns one line on a trial that ended."""
        if trial.state == "failed":
            reason = (trial.failure_reason or "").splitlines()[0]
            return f"{trial.key}  failed    {trial.failure_class}: {reason}"
        values = "  ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in self.study.space.objectives)
        epochs = f"epoch {trial.num_epochs}/{self.study.space.budget.epochs}"
        searched = " ".join(f"{key}={format_value(value)}" for key, value in trial.params.items())
        front = f"front {self._front}, hypervolume {self._volume:.4g}"
        return f"{trial.key}  {trial.state:<8}  {epochs}  {values}  {front}  [{searched}]".replace("[", "(").replace(
            "]", ")"
        )

    def _table(self) -> Table:
        budget = self.study.space.budget
        started = self.study.started()
        states = Counter(record.state for record in started)
        refused = len(self.study.records) - len(started)
        table = Table(title=f"study {self.study.space.study}", show_header=False, min_width=60)
        of = f" of {budget.trials}" if budget.trials else ""
        parts = [f"{states[s]} {s}" for s in ("running", "complete", "stopped", "failed") if states[s]]
        table.add_row("trials", f"{len(started)}{of}: {', '.join(parts)}" + (f"; {refused} refused" if refused else ""))
        table.add_row("best accuracy", self._best())
        table.add_row("front", f"{self._front} points, hypervolume {self._volume:.4g}")
        spent = self.study.epochs_spent()
        full = len(started) * budget.epochs
        table.add_row("epochs", f"{spent} trained, {full - spent} saved by stopping" if full > spent else f"{spent}")
        table.add_row("time", f"{_clock(time.monotonic() - self._started)} so far, {self._left()}")
        return table

    def _best(self) -> str:
        accuracies = [
            (max(record.epochs.items())[1]["accuracy"], record.number)
            for record in self.study.started()
            if record.epochs and record.state != "failed" and "accuracy" in max(record.epochs.items())[1]
        ]
        if not accuracies:
            return "-"
        accuracy, number = max(accuracies)
        return f"{accuracy:.2f} % (t{number:04d})"

    def _left(self) -> str:
        """Returns an estimate of the time left, from the trials that ended so far."""
        budget, done = self.study.space.budget, len(self._told)
        elapsed = time.monotonic() - self._started
        if budget.trials is None or done == 0:
            return "time left unknown"
        return f"about {_clock(elapsed / done * max(budget.trials - done, 0))} left"


def format_metric(name: str, value: float) -> str:
    """Returns a metric as people read it."""
    return f"{value:.2f} %" if name == "accuracy" else f"{value:.4g}"


def format_value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
