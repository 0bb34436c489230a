"""Progress of a running search: a live view in a terminal, one line that updates in a notebook, and one plain line per
trial in a file or pipe."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live

from results.analysis.front import hypervolume
from results.metrics import format_metric, format_params
from results.study import TrialResult
from search.algorithm.trial import ALIVE
from search.display import dashboard, progress_line
from search.display.dashboard import Dashboard
from search.display.progress_line import ProgressLine
from search.storage.study import Study

REFRESH_S = 0.5
MAX_RENDER_SHARE = 0.02
"""Share of the time that rendering may take; a slow view is refreshed less often."""


@dataclass
class LiveView:
    """Shows a study. `update` is called with the number of each trial that changed, `tick` regularly."""

    study: Study
    slots: int | None = None
    console: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False))
    _live: Live | None = None
    _progress: ProgressLine | None = None
    _next_refresh: float = 0.0
    _printed: set[tuple[int, int]] = field(default_factory=set)
    _front_size: int = 0
    _hypervolumes: list[float] = field(default_factory=list)

    def __enter__(self) -> LiveView:
        self._printed = {
            (trial.number, trial.epoch) for trial in self.study.trials.values() if trial.state != "running"
        }
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        elif self.console.is_jupyter:
            self._progress = ProgressLine()
        else:
            return self
        ended = [trial.number for trial in self.study.started() if trial.state not in ALIVE]
        self._hypervolumes = dashboard.hypervolume_history(self.study.result(), ended)
        self.tick()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._progress is not None:
            self._refresh()
            self._progress.end()

    def update(self, number: int) -> None:
        """Updates the view after a trial started, reported, paused or ended."""
        trial = self.study.trials[number]
        if trial.state != "running" and (number, trial.epoch) not in self._printed:
            self._printed.add((number, trial.epoch))
            if trial.state not in ALIVE:
                self._front_size = len(self.study.front_result.front())
                self._hypervolumes.append(hypervolume(self.study.front_result))
            if self._live is None and self._progress is None:
                self.print_line(self._line(self.study.trial_result(number)))
        self.tick()

    def tick(self) -> None:
        """Refreshes the view, at most twice a second and in a small share of the time."""
        now = time.monotonic()
        if (self._live is None and self._progress is None) or now < self._next_refresh:
            return
        self._refresh()
        render_s = time.monotonic() - now
        self._next_refresh = now + max(REFRESH_S, render_s / MAX_RENDER_SHARE)

    def print_line(self, text: str) -> None:
        """Prints a line above the view."""
        if self._progress is not None:
            self._progress.print_above(text)
        else:
            self.console.print(text, soft_wrap=True, markup=False)

    def _refresh(self) -> None:
        shown = self._dashboard()
        if self._live is not None:
            self._live.update(dashboard.render(shown), refresh=True)
        elif self._progress is not None:
            self._progress.show(progress_line.text(shown))

    def _dashboard(self) -> Dashboard:
        running = self.study.scheduler.running
        batches = {number: trial.batch for number, trial in running.items() if trial.batch is not None}
        elapsed_s = 3600 * self.study.hours()
        return Dashboard(self.study.result(), elapsed_s, self._hypervolumes, self.slots, batches=batches)

    def _line(self, trial: TrialResult) -> str:
        """Returns one line on a trial that paused or ended."""
        if trial.state == "failed":
            return f"{trial.key}  failed    {trial.failure_class}: {dashboard.first_line(trial)}"
        measured = (name for name in self.study.space.objectives if name in trial.metrics)
        values = "  ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in measured)
        epochs = f"epoch {trial.num_epochs}/{self.study.space.budget.epochs}"
        latest = self._hypervolumes[-1] if self._hypervolumes else 0.0
        front = f"front {self._front_size}, hypervolume {dashboard.format_hypervolume(self.study.front_result, latest)}"
        parts = [trial.key, f"{trial.state:<8}", epochs, values, front, f"({format_params(trial.params)})"]
        return "  ".join(part for part in parts if part)
