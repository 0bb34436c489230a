"""What a running search shows: a live view in a terminal, one plain line a trial in a file or pipe."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from types import TracebackType

from rich.console import Console
from rich.live import Live

from results.metrics import format_metric, format_value
from results.study import TrialResult
from search.algorithm.trial import ALIVE
from search.display import dashboard
from search.display.dashboard import Dashboard
from search.storage.study import Study

REFRESH_S = 0.5
SHARE = 0.02
"""The most that drawing may take of the time; a view that is slow to draw is drawn less often."""


@dataclass
class LiveView:
    """Follows a study; `update` is called with the number of each trial that changed, `tick` now and then."""

    study: Study
    slots: int | None = None
    console: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False))
    _live: Live | None = None
    _due: float = 0.0
    _printed: set[tuple[int, int]] = field(default_factory=set)
    _front: int = 0
    _volumes: list[float] = field(default_factory=list)

    def __enter__(self) -> LiveView:
        ended = [
            r.number for r in self.study.trials.values() if r.state not in ALIVE and r.failure_class != "infeasible"
        ]
        self._printed = {(r.number, r.epoch) for r in self.study.trials.values() if r.state != "running"}
        if self.console.is_terminal:
            self._volumes = dashboard.hypervolume_history(self.study.result(), ended)
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
            self.tick()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, number: int) -> None:
        """Takes note of a trial that started, reported, waits or ended."""
        record = self.study.trials[number]
        if record.state != "running" and (number, record.epoch) not in self._printed:
            self._printed.add((number, record.epoch))
            if record.state not in ALIVE:
                self._front = len(self.study.leading.front())
                self._volumes.append(self.study.hypervolume())
            if self._live is None:
                self.console.print(self._line(self.study.trial_result(number)), soft_wrap=True, markup=False)
        self.tick()

    def tick(self) -> None:
        """Draws the view anew, at most twice a second and in a small share of the time."""
        now = time.monotonic()
        if self._live is None or now < self._due:
            return
        self._live.update(dashboard.render(self._dashboard()), refresh=True)
        took = time.monotonic() - now
        self._due = now + max(REFRESH_S, took / SHARE)

    def print_line(self, text: str) -> None:
        """Prints a line above the view."""
        self.console.print(text, soft_wrap=True, markup=False)

    def _dashboard(self) -> Dashboard:
        result = self.study.result()
        refused = len(self.study.trials) - len(result.trials)
        shown = replace(result, num_infeasible=refused)
        budget = self.study.space.budget.model_dump(exclude_none=True)
        return Dashboard(shown, 3600 * self.study.hours(), self._volumes, self.slots, None, budget)

    def _line(self, trial: TrialResult) -> str:
        """Returns one line on a trial that ended."""
        if trial.state == "failed":
            return f"{trial.key}  failed    {trial.failure_class}: {dashboard.first_line(trial)}"
        measured = (name for name in self.study.space.objectives if name in trial.metrics)
        values = "  ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in measured)
        epochs = f"epoch {trial.num_epochs}/{self.study.space.budget.epochs}"
        searched = " ".join(f"{key}={format_value(value)}" for key, value in trial.params.items())
        front = f"front {self._front}, hypervolume {self._volumes[-1] if self._volumes else 0.0:.4g}"
        parts = [trial.key, f"{trial.state:<8}", epochs, values, front, f"({searched})"]
        return "  ".join(part for part in parts if part)
