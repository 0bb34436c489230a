"""Watch on the start of the first worker: if none starts, a search says so, with the reason from Ray's logs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ray

from config import cli
from config.cli import CommandError

REPORT_S, GIVE_UP_S = 60.0, 300.0
"""Seconds without a worker until a message, and until the command ends. On a cluster it waits for free resources."""
LOGS = ("raylet.err", "worker*.err", "runtime_env_setup*.log", "raylet.out")
"""Ray's log files that may hold the reason, the likeliest first."""
MAX_CHARS = 300

_PROBLEM = re.compile(r"^bash: |\b\w*(Error|Exception)\b|not found|[Dd]enied|No such file|have not registered")


class WorkerStart:
    """The time until the first worker starts. `show` prints a message."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._is_over = self._is_reported = False
        self._since: float | None = None

    def end(self) -> None:
        """Ends the watch: a worker has started."""
        self._is_over = True

    def poll(self, now: float | None = None) -> None:
        """Reports once that no worker has started; `now` is in seconds. Raises CommandError after GIVE_UP_S."""
        now = time.monotonic() if now is None else now
        self._since = now if self._since is None else self._since
        if self._is_over or now - self._since < REPORT_S:
            return
        logs = local_logs()
        if logs is not None and now - self._since >= GIVE_UP_S:
            raise CommandError(cli.ENVIRONMENT, _message(GIVE_UP_S, logs))
        if not self._is_reported:
            self._is_reported = True
            self._show(_cluster_message() if logs is None else _message(REPORT_S, logs))


def local_logs() -> Path | None:
    """Returns the folder of Ray's logs if this process started Ray, else None."""
    node = ray._private.worker._global_node
    return Path(node.get_logs_dir_path()) if node is not None and node.is_head() else None


def start_problem(logs: Path) -> str | None:
    """Returns the line of Ray's logs that says why no worker starts, None if no line does."""
    found = (line for pattern in LOGS for path in sorted(logs.glob(pattern)) for line in _lines(path))
    return next((line[:MAX_CHARS] for line in found if _PROBLEM.search(line)), None)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line.strip() for line in file)


def _message(seconds: float, logs: Path) -> str:
    reason = start_problem(logs) or "Ray gives no reason"
    return f"no worker has started within {seconds:.0f} s: {reason}. Ray's logs: {logs}"


def _cluster_message() -> str:
    free, total = ray.available_resources(), ray.cluster_resources()
    shares = ", ".join(f"{free.get(name, 0):g} of {total[name]:g} {name}" for name in ("CPU", "GPU") if total.get(name))
    return f"no worker has started within {REPORT_S:.0f} s: {shares or 'no CPU'} of the cluster are free"
