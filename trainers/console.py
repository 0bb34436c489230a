"""What a single training says of itself: a line an epoch, and the files of its folder. No torch here."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trainers.config import TrainConfig

if TYPE_CHECKING:
    from trainers.epoch_metrics import EpochMetrics
    from trainers.mlflow_store import Tracker

SHOWN = ("accuracy", "loss", "spike_rate", "synops", "energy_mj")


class ConsoleProgress:
    """Prints a line an epoch with speed and time left, and writes what was measured; to MLflow too where asked.

    `metrics.csv` has a row an epoch, `steps.json` the read-outs and `layers.json` the layers of the last one.
    """

    def __init__(self, config: TrainConfig, folder: Path, tracker: Tracker | None = None) -> None:
        self.epochs = config.epochs
        self.folder = folder
        self.tracker = tracker
        self.last = 0
        self._first: int | None = None
        self._started = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.tracker is not None:
            self.tracker.end("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def on_epoch(self, report: EpochMetrics) -> None:
        """Told after each epoch, and of the last finished one when a training is resumed."""
        if self._first is None:
            self._first = report.epoch - 1
        self.last = report.epoch
        self._append({"epoch": report.epoch, **report.metrics})
        _write(self.folder / "steps.json", json.dumps(report.read_outs, indent=1))
        _write(self.folder / "layers.json", json.dumps(report.layers, indent=1))
        if self.tracker is not None:
            self.tracker.log_epoch(report.epoch, report.metrics)
        shown = "  ".join(f"{name} {report.metrics[name]:.5g}" for name in SHOWN if name in report.metrics)
        speed = f"{report.metrics['images_per_s']:.0f} images/s"
        print(
            f"{self._clear()}epoch {report.epoch}/{self.epochs}  {shown}  {speed}  {self._time_left(report.epoch)}",
            flush=True,
        )

    def on_batch(self, done: int, batches: int) -> None:
        """Told after some batches; shown on a terminal only."""
        if self._terminal:
            print(f"{self._clear()}epoch {self.last + 1}/{self.epochs}  batch {done}/{batches}", end="", flush=True)

    def _clear(self) -> str:
        return "\r\033[K" if self._terminal else ""

    def _time_left(self, epoch: int) -> str:
        assert self._first is not None
        seconds = (time.monotonic() - self._started) / (epoch - self._first) * (self.epochs - epoch)
        return f"{seconds / 60:.0f} min left" if seconds > 120 else f"{seconds:.0f} s left"

    def _append(self, row: dict[str, Any]) -> None:
        path, old = self.folder / "metrics.csv", []
        if path.exists():
            with path.open(newline="") as file:
                old = [line for line in csv.DictReader(file) if int(line["epoch"]) < row["epoch"]]
        partial = path.with_suffix(".tmp")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), restval="")
            writer.writeheader()
            writer.writerows([*old, {key: repr(value) for key, value in row.items()}])
        partial.replace(path)


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(text + "\n")
    partial.replace(path)
