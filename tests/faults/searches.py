"""A search that `benchmarks.faults` starts, observes, disturbs and restarts, and the costs of its faults."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import results
from tests.support.faulty_trainer import read_log
from tests.support.mlflow_proxies import logged_counts

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
TIMEOUT_S = 600.0
"""Timeout in seconds of a search without the expected progress."""
MACHINE_METRICS = ("images_per_s", "peak_mem_gib")
"""Metrics of the machine, not of the model."""


class SearchTimeoutError(RuntimeError):
    """A search did not make the expected progress."""


@dataclass
class Search:
    """One search in a separate folder; `real` trains digits, else epochs only take time."""

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
    def output_file(self) -> Path:
        return self.folder / "output"

    @property
    def store(self) -> Path:
        return self.folder / "runs" / "mlflow.db"

    def start(self, **environment: str) -> None:
        """Starts the driver as `process`; its output goes to `output_file`."""
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
        everything = {**os.environ, **self.environment_variables(), **environment}
        with self.output_file.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, *self.options], env=everything, stdout=file, stderr=subprocess.STDOUT
            )

    def environment_variables(self) -> dict[str, str]:
        """Returns the variables of the trainings, and those that keep Ray's files here and its timeouts long."""
        trainers = {"FAULTY_LOG": str(self.folder / "trainings.jsonl"), "FAULTY": json.dumps(self.fault)}
        trainers |= {"STUB_LOG": os.devnull, "STUB_EPOCH_S": str(EPOCH_S), "OMP_NUM_THREADS": "1"}
        ray = {"RAY_TMPDIR": str(self.folder.parent), "RAY_raylet_start_wait_time_s": "120", "RAY_worker_niceness": "0"}
        return {**trainers, **ray}

    def end(self) -> int:
        """Waits until the driver ends, and returns its exit code."""
        assert self.process is not None
        code = self.process.wait(TIMEOUT_S)
        return self.end() if self._restarted() else code

    def _restarted(self) -> bool:
        """Restarts a driver that ended because Ray started too slowly: a busy machine is not one of the faults."""
        if "Ray could not be started here" not in self.output():
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

    def output(self) -> str:
        return self.output_file.read_text()

    def events(self, what: str) -> list[dict[str, Any]]:
        """Returns the log of the trainings: each `start`, `epoch` or `fault`."""
        return [event for event in read_log(self.folder / "trainings.jsonl") if event["what"] == what]

    def wait(self, condition: Callable[[], Any]) -> None:
        """Waits until a condition holds or the driver has ended. Raises SearchTimeoutError."""
        deadline = time.monotonic() + TIMEOUT_S
        assert self.process is not None
        while not condition() and (self.process.poll() is None or self._restarted()):
            if time.monotonic() > deadline:
                raise SearchTimeoutError(f"{self.folder.name}: {self.output()}")
            time.sleep(0.02)

    def wait_for_epochs(self, count: int) -> None:
        self.wait(lambda: len(self.events("epoch")) >= count)

    def result(self) -> results.StudyResult | None:
        """Returns the study in the database, or None if there is none yet."""
        try:
            return results.load(self.study)
        except results.ResultsError:
            return None

    def table(self) -> list[Any]:
        """Returns all trials with their states and metrics, except those of the machine."""
        found = self.result()
        return [
            (
                trial.number,
                trial.state,
                trial.failure_class,
                trial.params,
                [{key: value for key, value in epoch.items() if key not in MACHINE_METRICS} for epoch in trial.epochs],
            )
            for trial in (found.trials if found else ())
        ]


@dataclass
class FaultCosts:
    """What faults cost a search: compares its trials before each fault with those at its end."""

    search: Search
    ended_trials: list[results.TrialResult] = field(default_factory=list)
    faults: list[tuple[set[str], int]] = field(default_factory=list)
    """At each fault: the trials that were running, and the length of the log."""

    def record_fault(self) -> None:
        """Records the trials at a fault, after it."""
        found = self.search.result()
        trials = found.trials if found else ()
        self.ended_trials += [trial for trial in trials if trial.state in ("complete", "stopped", "failed")]
        alive = (trial for trial in trials if trial.state in ("running", "paused"))
        running = {trial.key for trial in alive if trial.num_epochs not in trial.pauses}  # not those paused at a rung
        self.faults.append((running, len(self._log())))

    def lost(self) -> int:
        """Returns the number of ended trials that are missing or have changed."""
        found = self.search.result()
        now = {} if found is None else {trial.number: trial for trial in found.trials}
        return len({trial.number for trial in self.ended_trials if now.get(trial.number) != trial})

    def repeated(self) -> int:
        """Returns the number of trials that were trained after their end, or that have more than one number."""
        ended = {trial.key: trial.num_epochs for trial in self.ended_trials}
        trained = [(event["trial"], event["epoch"]) for event in self._log() if event["what"] == "epoch"]
        return len({trial for trial, epoch in trained if epoch > ended.get(trial, 99)} | self._logged_twice())

    def epochs_lost(self) -> int:
        """Returns the most epochs that a running trial had to repeat after a fault, including the current one."""
        return max(self._epoch_losses(), default=0)

    def _log(self) -> list[dict[str, Any]]:
        return read_log(self.search.folder / "trainings.jsonl")

    def _logged_twice(self) -> set[str]:
        """Returns the trials that the study's log has more than once as started or as ended."""
        lines = (self.search.study / "events.jsonl").read_text().splitlines()
        events = [event for event in map(json.loads, lines) if event["event"] in ("ask", "finish", "fail")]
        counts = Counter((event["event"] == "ask", event["trial"]) for event in events)
        return {f"t{number:04d}" for (_, number), count in counts.items() if count > 1}

    def _epoch_losses(self) -> Iterator[int]:
        log = self._log()
        for running, position in self.faults:
            for trial in running:
                own = [(i, event) for i, event in enumerate(log) if event["trial"] == trial]
                start = next((i for i, event in own if i >= position and event["what"] == "start"), None)
                reached = [event["epoch"] + 1 for i, event in own if start is not None and i < start]
                if start is not None and reached:
                    yield max(reached) - log[start]["epoch"]

    def row(self, recover_s: list[float], **others: Any) -> dict[str, Any]:
        """Returns the columns that all rows have."""
        return {
            "times": len(self.faults),
            "lost": self.lost(),
            "repeated": self.repeated(),
            "recover_s": round(statistics.median(recover_s), 2) if recover_s else None,
            "max_epochs_lost": self.epochs_lost(),
            **others,
        }

    def runs_match(self, store: Path | None = None) -> bool:
        """Returns whether MLflow has one run of each trial, and each epoch once."""
        found = self.search.result()
        assert found is not None
        runs, metrics = logged_counts(store or self.search.store, found.attrs["id"])
        epochs = {(str(trial.number), epoch) for trial in found.trials for epoch in range(1, trial.num_epochs + 1)}
        once = {str(trial.number): 1 for trial in found.trials}
        logged_epochs = {(trial, step) for trial, _, step in metrics}
        differences = {
            "runs": sorted(runs.items() ^ once.items()),
            "epochs": sorted(logged_epochs ^ epochs),
            "metrics logged twice": [name for name, count in metrics.items() if count > 1],
        }
        if any(differences.values()):
            print(
                f"{self.search.folder.name}: MLflow and the study differ: {differences}\n{self.search.output()[-500:]}"
            )
        return not any(differences.values())
