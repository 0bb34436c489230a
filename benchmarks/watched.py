"""A search measured from inside, for `benchmarks.overhead`: `python -m benchmarks.watched FIGURES.json SPACE.yml ...`.

Measured are the seconds of each of our calls in Tune's loop, the driver's CPU time, and its memory at each suggestion.
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
_suggested: list[tuple[float, float]] = []
"""At each suggestion: the time, and the driver's memory in MiB."""

_tracking_s: list[float] = []
_steps: list[float] = [0.0]
_steps_cpu: list[float] = [0.0]
"""Seconds of all our calls in each step of the loop, and CPU seconds among them; the last step is not complete."""


def main(path: str, arguments: list[str]) -> int:
    """Runs the search, and writes the measurements."""
    upload, run_trials = mlflow_uploader.MlflowUploader._run, driver._Callbacks.run_trials

    def timed_upload(*given: Any) -> None:
        upload(*given)
        _tracking_s.append(time.thread_time())

    def watched_run_trials(*given: Any) -> None:
        watch_all()
        run_trials(*given)

    mlflow_uploader.MlflowUploader._run = timed_upload  # type: ignore[assignment,method-assign]
    driver._Callbacks.run_trials = watched_run_trials  # type: ignore[assignment,method-assign]
    code = run.main(arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": {**_seconds, "step": _steps, "step_cpu": _steps_cpu},
        "suggested": _suggested,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "tracking_cpu_s": sum(_tracking_s),
    }
    Path(path).write_text(json.dumps(figures))
    return code


def watch_all() -> None:
    """Measures all our calls that block Tune's loop."""
    from search.execution import fault_tolerance, ray_scheduler, ray_searcher, tuner  # imported while Ray starts

    watch(ray_searcher.RaySearcher, "suggest")
    watch(ray_searcher.RaySearcher, "on_trial_complete")
    watch(ray_scheduler.RayScheduler, "on_trial_result")
    watch(fault_tolerance.RestartPolicy, "on_step_end")
    watch(tuner.StepHook, "on_step_end", ends_step=True)


def watch(owner: type, name: str, *, ends_step: bool = False) -> None:
    """Measures the duration of each call of a method."""
    method: Callable[..., Any] = getattr(owner, name)
    durations = _seconds.setdefault(name, [])

    def watched(*arguments: Any, **keys: Any) -> Any:
        started, cpu = time.perf_counter(), time.thread_time()
        result = method(*arguments, **keys)
        durations.append(time.perf_counter() - started)
        _steps[-1] += durations[-1]
        _steps_cpu[-1] += time.thread_time() - cpu
        if ends_step:
            _steps.append(0.0)
            _steps_cpu.append(0.0)
        if name == "suggest" and isinstance(result, dict):
            _suggested.append((time.time(), memory_mib()))
        return result

    setattr(owner, name, watched)


def memory_mib() -> float:
    """Returns the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2:])
    gc.freeze()  # as in search.run
    sys.exit(code)
