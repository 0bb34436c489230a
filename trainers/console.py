"""Console output and files of a single training; imports no torch."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from config.files import write_atomic
from trainers.config import TrainConfig

if TYPE_CHECKING:
    from trainers.epoch_metrics import EpochMetrics
    from trainers.mlflow_store import Tracker

SHOWN = ("accuracy", "loss", "spike_rate", "synops", "energy_mj")


class ConsoleProgress:
    """Prints a line per epoch with speed and time left, writes the metrics to files, and optionally to MLflow.

    `metrics.csv` has a row per epoch; `steps.json`, `layers.json` and, with an exit rule, `exits.json` hold the
    read-outs, layers and exit points of the last one.
    """

    def __init__(self, config: TrainConfig, folder: Path, tracker: Tracker | None = None) -> None:
        self.epochs, self.folder, self.tracker = config.epochs, folder, tracker
        self.last = 0
        self.exits: list[dict[str, Any]] = []
        self._first: int | None = None
        self._started = time.monotonic()
        self._line_start = "\r\033[K" if sys.stdout.isatty() else ""

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.tracker is not None:
            self.tracker.end("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def on_epoch(self, report: EpochMetrics) -> None:
        """Shows and writes an epoch; when a training is resumed, the last finished one too."""
        if self._first is None:
            self._first = report.epoch - 1
        self.last = report.epoch
        self._append({"epoch": report.epoch, **report.metrics})
        write_atomic(self.folder / "steps.json", json.dumps(report.read_outs, indent=1) + "\n")
        write_atomic(self.folder / "layers.json", json.dumps(report.layers, indent=1) + "\n")
        self.exits = report.exits
        if self.exits:
            write_atomic(self.folder / "exits.json", json.dumps(self.exits, indent=1) + "\n")
        if self.tracker is not None:
            self.tracker.log_epoch(report.epoch, report.metrics)
        shown = [f"{name} {report.metrics[name]:.5g}" for name in SHOWN if name in report.metrics]
        speed = f"{report.metrics['images_per_s']:.0f} images/s"
        parts = [f"{self._line_start}epoch {report.epoch}/{self.epochs}", *shown, speed, self._time_left(self._first)]
        print("  ".join(parts), flush=True)

    def on_batch(self, batch: int, batches: int) -> None:
        """Shows the progress within an epoch, on a terminal only."""
        if self._line_start:
            text = f"{self._line_start}epoch {self.last + 1}/{self.epochs}  batch {batch}/{batches}"
            print(text, end="", flush=True)

    def _time_left(self, first: int) -> str:
        seconds = (time.monotonic() - self._started) / (self.last - first) * (self.epochs - self.last)
        return f"{seconds / 60:.0f} min left" if seconds > 120 else f"{seconds:.0f} s left"

    def _append(self, row: dict[str, Any]) -> None:
        """Writes the row of an epoch; rows of this and later epochs, from before a resume, are dropped."""
        path, rows = self.folder / "metrics.csv", []
        if path.exists():
            with path.open(newline="") as file:
                rows = [line for line in csv.DictReader(file) if int(line["epoch"]) < row["epoch"]]
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, list(row), restval="")
        writer.writeheader()
        writer.writerows([*rows, {key: repr(value) for key, value in row.items()}])
        write_atomic(path, content.getvalue())


def exit_line(point: Mapping[str, Any]) -> str:
    """Returns an exit point as a line: `confidence 0.93: steps 2.1  accuracy 88.2  ...`."""
    thresholds = point["exit_threshold"]
    text = ", ".join(f"{value:g}" for value in (thresholds if isinstance(thresholds, list) else [thresholds]))
    shown = [f"{name} {point[name]:.5g}" for name in ("steps", *SHOWN)]
    return f"{point['exit_rule']} {text}: {'  '.join(shown)}"
