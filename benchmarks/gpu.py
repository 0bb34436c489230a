"""What a first GPU should show in under eight minutes: `python -m benchmarks.gpu --json F --budget 440`.

Each part has a time limit and an entry in the file, written as soon as it is there; docs/gpu.md explains them. `--null`
runs on the null GPU of the tests, which computes nothing, and counts launches, waits of the host and memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMITS_S = {
    "env": 30,
    "neurons": 90,
    "models": 100,
    "trains": 60,
    "kernels": 30,
    "step": 110,
    "trainer": 70,
    "fused_groups": 60,
    "memory": 40,
    "failures": 50,
    "processes": 70,
}
"""The parts in their order, with their time limits in seconds."""
COUNTS = "counts"
COUNTS_LIMIT_S = 300


class Late(Exception):
    """Raised in a part that exceeds its limit."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file, after each part")
    parser.add_argument("--budget", type=float, default=440.0, metavar="S", help="seconds for all parts (default 440)")
    parser.add_argument(
        "--parts", nargs="+", choices=[*LIMITS_S, "all"], default=None, help="default: all; none with --null"
    )
    parser.add_argument("--null", action="store_true", help="count on the null GPU; needs a C compiler, but no GPU")
    chosen = parser.parse_args(arguments)
    if chosen.null and "NULL_GPU" not in os.environ:
        _restart_on_null_gpu(sys.argv[1:] if arguments is None else list(arguments))
    parts = chosen.parts or ([] if chosen.null else ["all"])
    names = [name for name in LIMITS_S if name in parts or "all" in parts]
    sys.exit(0 if Report(chosen.json, chosen.budget).run(names, is_null=chosen.null) else 1)


def _restart_on_null_gpu(arguments: list[str]) -> None:
    """Replaces this process by one on the null GPU, which must be loaded before PyTorch."""
    from tests.support.null_gpu import build

    if (reason := build.obstacle()) is not None:
        sys.exit(f"--null: {reason}")
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    os.execve(sys.executable, command, {**build.environment(), "PYTHONPATH": os.getcwd()})


class Report:
    """The figures of all parts so far, in a file."""

    def __init__(self, path: str | None, budget_s: float) -> None:
        self.path = path
        self.ending = time.monotonic() + budget_s
        self.figures: dict[str, Any] = {}

    def run(self, names: Sequence[str], *, is_null: bool) -> bool:
        """Runs the parts as far as the budget reaches. Returns whether none failed."""
        from trainers.diagnostics.memory import use_expandable_segments

        use_expandable_segments()
        if is_null:
            self._run_counts()
        else:
            self._require_gpu()
        from benchmarks import gpu_parts

        for name in names:
            self._run(name, getattr(gpu_parts, name), LIMITS_S[name])
        return not any("error" in part for part in self.figures.values() if isinstance(part, dict))

    def _run_counts(self) -> None:
        from tests.support.null_gpu.checks import accept_any_result

        accept_any_result()

        def count(found: dict[str, Any]) -> None:
            from benchmarks import gpu_counts

            found |= gpu_counts.count()

        self._run(COUNTS, count, COUNTS_LIMIT_S)
        self.figures |= {name: value for name, value in self.figures[COUNTS].items() if name not in ("error", "took_s")}
        self._write()

    def _require_gpu(self) -> None:
        import torch

        from benchmarks import report

        if not torch.cuda.is_available():
            sys.exit("benchmarks.gpu needs an NVIDIA GPU; with --null it counts on the null GPU")
        self.figures["machine"] = report.machine()

    def _run(self, name: str, work: Callable[[dict[str, Any]], None], limit_s: float) -> None:
        """Runs one part; its entry has what it found before an error or the limit."""
        found: dict[str, Any] = {}
        self.figures[name] = found
        started = time.monotonic()
        try:
            with limited(min(limit_s, self.ending - started)):
                work(found)
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"[:600]
            traceback.print_exc(limit=-3)
        found["took_s"] = round(time.monotonic() - started, 1)
        print(name, json.dumps(found), flush=True)
        self._write()
        self._release()

    def _write(self) -> None:
        if self.path is not None:
            Path(self.path).write_text(json.dumps(self.figures, indent=1) + "\n")

    def _release(self) -> None:
        import torch

        gc.collect()
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            print(f"the CUDA context is lost: {error}", file=sys.stderr)


@contextmanager
def limited(limit_s: float) -> Iterator[None]:
    """Raises Late inside the context after so many seconds."""

    def end(*signals: object) -> None:
        raise Late(f"over {limit_s:.0f} s")

    if limit_s <= 1:
        raise Late("the budget is spent")
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
