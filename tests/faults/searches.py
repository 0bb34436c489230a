"""A search that `benchmarks.faults` starts, watches, strikes and starts again, and what the strikes have cost it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import results
from tests.support.faulty_trainer import notes
from tests.support.mlflow_proxies import logged

SPACE = """
study: faults
base: spikformer/digits
fixed: {distort: false, embed_dim: 16, depths: 1}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 3.0]}
budget: {trials: 6, epochs: 9}
scheduler: {grace_epochs: 1, reduction_factor: 3}
concurrency: 2
"""
EPOCH_S = 0.05
PATIENCE_S = 600.0
"""Seconds after which a search that does not come so far is given up."""
MEASURED = ("images_per_s", "peak_mem_gib")
"""Metrics that tell of the machine and not of the model."""


class TooLateError(RuntimeError):
    """A search did not come so far."""


@dataclass
class Search:
    """One search in a folder of its own; `real` trains digits, else epochs only take time."""

    folder: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] = field(default_factory=dict)
    real: bool = False
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    started: float = 0.0

    @property
    def study(self) -> Path:
        return self.folder / "runs" / "faults"

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "mlflow.db"

    def start(self, **environment: str) -> None:
        """Starts the driver, which is then in `process`; what it says is in the file `said`."""
        self.environment = environment
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "space.yml").write_text(SPACE)
        command = [sys.executable, "-m", "search.run", str(self.folder / "space.yml"), "--out", str(self.study.parent)]
        for key, value in self.overrides.items():
            command += ["--set", f"{key}={value}"]
        for name in (
            ("tests.support.faulty_trainer",)
            if self.real
            else ("tests.support.stub_trainer", "tests.support.faulty_trainer")
        ):
            command += ["--import", name]
        self.started = time.time()
        everything = {**os.environ, **self.variables(), **environment}
        with (self.folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                [*command, *self.options], env=everything, stdout=said, stderr=subprocess.STDOUT
            )

    def variables(self) -> dict[str, str]:
        """Returns what trainings read from their environment, and what keeps Ray's files with ours and patient."""
        told = {"FAULTY_LOG": str(self.folder / "notes.jsonl"), "FAULTY": json.dumps(self.fault)}
        told |= {"STUB_LOG": os.devnull, "STUB_EPOCH_S": str(EPOCH_S), "OMP_NUM_THREADS": "1"}
        ray = {"RAY_TMPDIR": str(self.folder.parent), "RAY_raylet_start_wait_time_s": "120", "RAY_worker_niceness": "0"}
        return {**told, **ray}

    def end(self) -> int:
        """Waits until the driver ends, and returns its exit code."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        return self.end() if self._started_again() else code

    def _started_again(self) -> bool:
        """Starts a driver again that ended because Ray did not start in time: a busy machine is none of the faults."""
        if "Ray could not be started here" not in self.said():
            return False
        self.start(**self.environment)
        return True

    def run(self, **environment: str) -> int:
        """Starts the driver and waits until it ends."""
        self.start(**environment)
        return self.end()

    def kill(self) -> bool:
        """Kills the driver; returns whether it was still alive."""
        assert self.process is not None
        is_alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        return is_alive

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def notes(self, what: str) -> list[dict[str, Any]]:
        """Returns what the trainings noted: each `start`, `epoch` or `fault`."""
        return [note for note in notes(self.folder / "notes.jsonl") if note["what"] == what]

    def wait(self, condition: Callable[[], Any]) -> None:
        """Waits until something is so, or the driver has ended. Raises TooLateError."""
        deadline = time.monotonic() + PATIENCE_S
        assert self.process is not None
        while not condition() and (self.process.poll() is None or self._started_again()):
            if time.monotonic() > deadline:
                raise TooLateError(f"{self.folder.name}: {self.said()}")
            time.sleep(0.02)

    def wait_for_epochs(self, count: int) -> None:
        self.wait(lambda: len(self.notes("epoch")) >= count)

    def result(self) -> results.StudyResult | None:
        """Returns the study as its database has it; None where there is none yet."""
        try:
            return results.load(self.study)
        except results.ResultsError:
            return None

    def table(self) -> list[Any]:
        """Returns all that the trials measured and became, without what tells of the machine."""
        found = self.result()
        return [
            (
                trial.number,
                trial.state,
                trial.failure_class,
                trial.params,
                [{key: value for key, value in epoch.items() if key not in MEASURED} for epoch in trial.epochs],
            )
            for trial in (found.trials if found else ())
        ]


@dataclass
class Toll:
    """What strikes cost a search: compares what it had before each with what it has at its end."""

    search: Search
    had: list[results.TrialResult] = field(default_factory=list)
    struck: list[tuple[set[str], int]] = field(default_factory=list)
    """At each strike: the trials that were running, and the notes until then."""

    def note(self) -> None:
        """Notes what there is at a strike, after it."""
        found = self.search.result()
        trials = found.trials if found else ()
        self.had += [trial for trial in trials if trial.state in ("complete", "stopped", "failed")]
        lines = notes(self.search.folder / "notes.jsonl")
        self.struck.append(({trial.key for trial in trials if trial.state == "running"}, len(lines)))

    def lost(self) -> int:
        """Returns the trials that had ended and are not there as they were."""
        found = self.search.result()
        now = {} if found is None else {trial.number: trial for trial in found.trials}
        return len({trial.number for trial in self.had if now.get(trial.number) != trial})

    def repeated(self) -> int:
        """Returns the trials that were trained again after they had ended, and those with more than one number."""
        ended = {trial.key: trial.num_epochs for trial in self.had}
        lines = notes(self.search.folder / "notes.jsonl")
        again = {
            note["trial"] for note in lines if note["what"] == "epoch" and note["epoch"] > ended.get(note["trial"], 99)
        }
        return len(again | self._twice())

    def epochs_lost(self) -> int:
        """Returns the most epochs that a running trial had to begin again after a strike, the one under way counted."""
        return max((lost for lost in self._losses()), default=0)

    def _twice(self) -> set[str]:
        """Returns the trials that the log of decisions has more than once as begun or as ended."""
        events = [json.loads(line) for line in (self.search.study / "events.jsonl").read_text().splitlines()]
        seen = [
            (e["event"] in ("finish", "fail"), e["trial"]) for e in events if e["event"] in ("ask", "finish", "fail")
        ]
        return {f"t{number:04d}" for place, (kind, number) in enumerate(seen) if (kind, number) in seen[:place]}

    def _losses(self) -> Iterator[int]:
        lines = notes(self.search.folder / "notes.jsonl")
        for running, position in self.struck:
            for trial in running:
                own = [(place, note) for place, note in enumerate(lines) if note["trial"] == trial]
                start = next((p for p, note in own if p >= position and note["what"] == "start"), None)
                begun = [note["epoch"] + 1 for p, note in own if start is not None and p < start]
                if start is not None and begun:
                    yield max(begun) - lines[start]["epoch"]

    def row(self, recover_s: list[float], **others: Any) -> dict[str, Any]:
        """Returns what every fault's row has."""
        return {
            "times": len(self.struck),
            "lost": self.lost(),
            "repeated": self.repeated(),
            "recover_s": round(statistics.median(recover_s), 2) if recover_s else None,
            "max_epochs_lost": self.epochs_lost(),
            **others,
        }

    def runs_match(self, store: Path | None = None) -> bool:
        """Returns whether MLflow has one run for each trial that was started, and each epoch once."""
        found = self.search.result()
        assert found is not None
        runs, metrics = logged(store or self.search.store, found.attrs["id"])
        epochs = {(str(trial.number), epoch) for trial in found.trials for epoch in range(1, trial.num_epochs + 1)}
        once = {str(trial.number): 1 for trial in found.trials}
        logged_epochs = {(trial, step) for trial, _, step in metrics}
        differences = {
            "runs": sorted(runs.items() ^ once.items()),
            "epochs": sorted(logged_epochs ^ epochs),
            "metrics logged twice": [name for name, count in metrics.items() if count > 1],
        }
        if any(differences.values()):
            print(f"{self.search.folder.name}: MLflow and the study differ: {differences}\n{self.search.said()[-500:]}")
        return not any(differences.values())
