"""Optimizers of other libraries as trial schedulers for the simulator, each in an environment of its library.

`NEPS_PYTHON` and `SYNE_TUNE_PYTHON` name the Python of these environments, since both need other versions than this
project:

    python -m venv ~/neps && ~/neps/bin/pip install neural-pipeline-search==0.17.0
    python -m venv ~/syne_tune && ~/syne_tune/bin/pip install syne-tune==0.16.0
    NEPS_PYTHON=~/neps/bin/python SYNE_TUNE_PYTHON=~/syne_tune/bin/python \\
        python -m benchmarks.search_quality --tables FOLDER --policies ours neps_moasha neps_primo syne_tune_moasha

They draw their own first configs. Where a library proposes nothing until a running trial has ended, a worker waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from config.distributions import Float, Integer
from config.errors import ConfigError
from search.algorithm.trial import Assignment, Decision
from search.simulation.simulator import CurveTable
from search.space import objectives
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

SCRIPT = Path(__file__).with_name("peer_process.py")
PACKAGES = {"neps": "neural-pipeline-search", "syne_tune": "syne-tune"}
"""Packages of the libraries."""


class Peer:
    """Trial scheduler that passes every call to an optimizer in another process. Raises ConfigError if it cannot."""

    def __init__(self, library: str, optimizer: str, table: CurveTable, run: int) -> None:
        self.space = table.space
        self.library, self.process = library, start(library)
        weakref.finalize(self, _close, self.process)
        values = {name: count for name, (count, _) in grid(self.space).items() if count > 1}
        self.constants = {name: 0 for name in grid(self.space) if name not in values}
        question = {
            "sizes": values,
            "ordered": [name for name, (_, is_ordered) in grid(self.space).items() if is_ordered],
            "epochs": table.epochs,
            "num_objectives": len(self.space.objectives),
            "seed": run,
        }
        self._call(library, optimizer, question)

    def suggest(self) -> Assignment | None:
        job = self._call("suggest")
        if job is None:
            return None
        number, positions, epoch = job
        return Assignment(number, self.space.suggest(Positions({**self.constants, **positions})), epoch)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        values = objectives.objective_vector(self.space, report.metrics, minimise=True)
        decision: Decision = self._call("on_result", number, report.epoch, values)
        return decision

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        self._call("on_error", number)

    def _call(self, *request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line or '{"error": "its process ended"}')
        if "error" in answer:
            raise ConfigError(f"{self.library}: {request[0]} must succeed (got {answer['error'].strip()})")
        return answer["result"]


class Positions:
    """Suggester that takes each parameter's value by its position in the list of its values."""

    def __init__(self, positions: Mapping[str, int]) -> None:
        self.positions = positions

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[self.positions[name]]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * self.positions[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise TypeError(f"{name} is continuous, and a table holds no grid of continuous values")


def grid(space: Space) -> dict[str, tuple[int, bool]]:
    """Returns the number of values of each parameter, conditional ones included, and whether they are ordered."""
    found: dict[str, tuple[int, bool]] = {}
    for parameter in space.parameters:
        distribution = parameter.distribution
        if isinstance(distribution, Float):
            raise ConfigError(f"{parameter.name}: a table must hold a grid of values (got a continuous key)")
        if isinstance(distribution, Integer):
            found[parameter.name] = (len(distribution.values()), True)
            continue
        is_ordered = all(isinstance(option, int | float) for option in distribution.options)
        found[parameter.name] = (len(distribution.options), is_ordered)
    return found


def start(library: str) -> subprocess.Popen[str]:
    """Returns the process of a library. Raises ConfigError if its environment is not set or has no Python."""
    variable = f"{library.upper()}_PYTHON"
    python = os.environ.get(variable, "")
    remedy = f"Install {PACKAGES[library]} in a virtual environment and set {variable} to its Python"
    try:
        return subprocess.Popen(
            [python, "-I", str(SCRIPT)],  # isolated, so that no module of this folder hides one of the library
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        raise ConfigError(f"{variable}: it must be the path of a Python (got {python!r}). {remedy}") from None


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # the process may have ended before it read a request
                stream.close()
    process.wait()


MakePeer = Callable[[CurveTable, int], Peer]


def _peer(library: str, optimizer: str) -> MakePeer:
    return lambda table, run: Peer(library, optimizer, table, run)


PEERS: dict[str, MakePeer] = {
    "neps_moasha": _peer("neps", "moasha"),
    "neps_primo": _peer("neps", "primo"),
    "syne_tune_moasha": _peer("syne_tune", "moasha"),
    "syne_tune_morea": _peer("syne_tune", "morea"),
}
"""Factories of the peers by name, for a table and a run."""
