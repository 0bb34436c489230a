"""Control requests to a study from another terminal: files in its folder, handled between two steps of Tune's loop.

A request is one file. The driver carries it out and replaces it by a reply, which the sender reads and deletes.
Requests sent while no driver runs are handled at the next start, except requests to stop the search.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from config import interrupts
from config.errors import ConfigError
from config.files import write_atomic
from search.algorithm.trial import ALIVE
from search.storage import lock

if TYPE_CHECKING:
    from search.storage.study import Study

FOLDER = "orders"
POLL_S = 1.0
REPLY_S = 10.0
"""Seconds that a sender waits for a reply; a driver that starts or ends sends none."""
MAX_REPLY_AGE_S = 3600.0
"""Seconds after which an unread reply is deleted."""
USER_STOP = "stopped by the user"


@dataclass(frozen=True)
class ControlRequest:
    """A request to a study; `trial` belongs to stop_trial, `values` of the searched keys belong to add."""

    action: Literal["stop", "stop_trial", "add"]
    trial: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def send(folder: Path, request: ControlRequest) -> Path:
    """Writes a request for the driver of a study and returns its file."""
    path = folder / FOLDER / f"{time.time_ns():020d}-{os.getpid()}.json"
    write_atomic(path, json.dumps({"kind": request.action, "trial": request.trial, "values": dict(request.values)}))
    return path


def send_and_wait(folder: Path, request: ControlRequest) -> str:
    """Sends a request and returns the reply, or a sentence on when it will be handled."""
    path = send(folder, request)
    if lock.holder(folder) is None:
        return "no search runs there; the request is handled when the study is started again"
    return wait_for_reply(path) or "no reply yet; the driver handles the request later"


def wait_for_reply(path: Path, timeout_s: float = REPLY_S) -> str | None:
    """Returns the driver's reply to a request and deletes it; None if there is no reply after `timeout_s` seconds."""
    reply, deadline = path.with_suffix(".answer"), time.monotonic() + timeout_s
    while not reply.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    text = reply.read_text(encoding="utf-8")
    reply.unlink(missing_ok=True)
    return text


@dataclass
class RequestHandler:
    """Handles the requests to one study while its driver runs; `on_change` is called with each trial it stopped."""

    study: Study
    print_line: Callable[[str], None] = print
    on_change: Callable[[int], None] = lambda number: None
    _next_poll: float = 0.0

    def process_leftover(self) -> None:
        """Handles the requests sent while no driver ran; a request to stop the search is obsolete by now."""
        for path, request in self._pending():
            self._reply(path, self._handle(request))
        for reply in (self.study.folder / FOLDER).glob("*.answer"):
            if time.time() - reply.stat().st_mtime > MAX_REPLY_AGE_S:
                reply.unlink(missing_ok=True)

    def poll(self) -> None:
        """Handles new requests, at most once a second. Raises Interrupted on a request to stop the search."""
        if (now := time.monotonic()) < self._next_poll:
            return
        self._next_poll = now + POLL_S
        for path, request in self._pending():
            if request is not None and request.action == "stop":
                self._reply(path, "the search stops")
                raise interrupts.Interrupted(signal.SIGINT)
            self._reply(path, self._handle(request))

    def _pending(self) -> Iterator[tuple[Path, ControlRequest | None]]:
        """Yields the requests in the order in which they were sent, and None for an invalid file."""
        for path in sorted((self.study.folder / FOLDER).glob("*.json")):
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                yield path, ControlRequest(stored["kind"], stored["trial"], dict(stored["values"]))
            except (OSError, ValueError, KeyError, TypeError):
                yield path, None

    def _handle(self, request: ControlRequest | None) -> str:
        """Carries out a request and returns the reply."""
        match request:
            case ControlRequest("stop"):
                return "the search had ended already"
            case ControlRequest("stop_trial", int(number)):
                return self._stop_trial(number)
            case ControlRequest("add", values=values):
                return self._add(values)
        return "unknown request"

    def _stop_trial(self, number: int) -> str:
        trial = self.study.trials.get(number)
        if trial is None:
            return f"there is no trial {number}; nothing was stopped"
        if trial.state not in ALIVE:
            return f"t{number:04d} has ended already ({trial.state}); nothing was stopped"
        self.study.stop(number, USER_STOP)
        self.on_change(number)
        return f"t{number:04d} is stopped after epoch {trial.epoch}"

    def _add(self, values: Mapping[str, Any]) -> str:
        try:
            existing = self.study.enqueue(values)
        except (ConfigError, TypeError) as error:
            return f"not added: {error}"
        if existing is not None:
            return f"not added: t{existing:04d} has these values"
        is_next = self.study.scheduler.can_start_new()
        return "it runs next" if is_next else "the budget is spent; it runs when a larger one is given"

    def _reply(self, path: Path, text: str) -> None:
        self.print_line(f"request: {text}")
        with suppress(OSError):  # a full disk is no reason to end the search
            write_atomic(path.with_suffix(".answer"), text)
            path.unlink(missing_ok=True)
