"""A search watched from inside, for `benchmarks.overhead`: `python -m benchmarks.watched FIGURES.json SPACE.yml ...`.

What it notes: the seconds of each of our calls in Tune's loop, the driver's CPU, its memory as trials come and go.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search import driver, run
from search.tracking import mlflow_uploader

_seconds: dict[str, list[float]] = {}
_asked: list[tuple[float, float]] = []
"""At each trial asked for: the time, and the driver's memory in MiB."""

_tracking_s: list[float] = []
_steps: list[float] = [0.0]
_steps_cpu: list[float] = [0.0]
"""Seconds of all our calls in each step of the loop, and the CPU seconds among them; the last one is under way."""


def main(path: str, arguments: list[str]) -> int:
    """Runs the search, and writes what was seen."""
    work, execute = mlflow_uploader.MlflowUploader._work, driver._execute

    def timed_work(*given: Any) -> None:
        work(*given)
        _tracking_s.append(time.thread_time())

    def watched_execute(*given: Any) -> None:
        watch_all()
        execute(*given)

    mlflow_uploader.MlflowUploader._work, driver._execute = timed_work, watched_execute  # type: ignore[assignment,method-assign]
    code = run.main(arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": {**_seconds, "step": _steps, "step_cpu": _steps_cpu},
        "asked": _asked,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "tracking_cpu_s": sum(_tracking_s),
    }
    Path(path).write_text(json.dumps(figures))
    return code


def watch_all() -> None:
    """Watches whatever of ours Tune's loop waits for."""
    from search.execution import fault_tolerance, tuner  # the search imports it while Ray starts

    watch(tuner.RaySearcher, "suggest")
    watch(tuner.RaySearcher, "on_trial_complete")
    watch(tuner.RayScheduler, "on_trial_result")
    watch(fault_tolerance.StallDetector, "on_step_end")
    watch(tuner.StepHook, "on_step_end")


def watch(owner: type, name: str) -> None:
    """Notes how long each call of a method takes."""
    method: Callable[..., Any] = getattr(owner, name)
    found = _seconds.setdefault(name, [])

    def watched(*arguments: Any, **keys: Any) -> Any:
        started, cpu = time.perf_counter(), time.thread_time()
        result = method(*arguments, **keys)
        found.append(time.perf_counter() - started)
        _steps[-1] += found[-1]
        _steps_cpu[-1] += time.thread_time() - cpu
        if owner.__name__ == "_Between":
            _steps.append(0.0)
            _steps_cpu.append(0.0)
        if name == "suggest" and isinstance(result, dict):
            _asked.append((time.time(), memory_mib()))
        return result

    setattr(owner, name, watched)


def memory_mib() -> float:
    """Returns the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2:])
    gc.freeze()  # as the search itself does
    sys.exit(code)
