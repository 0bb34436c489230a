"""Orders to a study from another terminal: files in its `orders/` folder, taken between two steps of Tune's loop.

An order is one file, written whole. The driver acts on it, then replaces it by an answer of the same name, which the
sender reads and removes. Orders that meet no driver are taken at the next start; but for that to end the search.
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
from typing import Any, Literal

from config import interrupts
from config.errors import ConfigError
from config.files import write_atomic
from search.algorithm.trial import ALIVE
from search.storage.study import Study

FOLDER = "orders"
POLL_S = 1.0
ANSWER_S = 10.0
"""Seconds that a sender waits for an answer; a driver that is starting or ending gives none."""

KEPT_S = 3600.0
"""Seconds after which an answer that nobody read is removed."""

USER_NOTE = "stopped by the user"

Kind = Literal["stop", "stop_trial", "add"]


@dataclass(frozen=True)
class ControlRequest:
    """What somebody wants of a study; `trial` is for stop_trial, `values` of the searched keys are for add."""

    kind: Kind
    trial: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def send(folder: Path, order: ControlRequest) -> Path:
    """Leaves an order for the study's driver, and returns the file that holds it."""
    path = folder / FOLDER / f"{time.time_ns():020d}-{os.getpid()}.json"
    write_atomic(path, json.dumps({"kind": order.kind, "trial": order.trial, "values": dict(order.values)}))
    return path


def wait_for_reply(path: Path, timeout_s: float = ANSWER_S) -> str | None:
    """Returns what the driver answered to an order, waiting for it for a while; None where it did not."""
    reply, deadline = path.with_suffix(".answer"), time.monotonic() + timeout_s
    while True:
        if reply.exists():
            text = reply.read_text(encoding="utf-8")
            reply.unlink(missing_ok=True)
            return text
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


@dataclass
class RequestHandler:
    """Takes the orders of one study while its driver runs."""

    study: Study
    say: Callable[[str], None] = print
    on_change: Callable[[int], None] = lambda number: None
    """Told the number of a trial that an order ended."""
    _due: float = 0.0

    def process_leftover(self) -> None:
        """Acts on what was left while no driver ran; an order to end the search is out of date by now."""
        for path, order in self._waiting():
            ended = "the search had ended already"
            self._reply(path, ended if order is not None and order.kind == "stop" else self._act(order))
        for reply in (self.study.folder / FOLDER).glob("*.answer"):
            if time.time() - reply.stat().st_mtime > KEPT_S:
                reply.unlink(missing_ok=True)

    def poll(self) -> None:
        """Acts on what has come in, at most once a second. Raises Interrupted on an order to end the search."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + POLL_S
        for path, order in self._waiting():
            if order is not None and order.kind == "stop":
                self._reply(path, "the search ends")
                raise interrupts.Interrupted(signal.SIGINT)
            self._reply(path, self._act(order))

    def _waiting(self) -> Iterator[tuple[Path, ControlRequest | None]]:
        """Yields the orders in the order in which they were sent; None for a file that is none."""
        for path in sorted((self.study.folder / FOLDER).glob("*.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                yield path, ControlRequest(data["kind"], data["trial"], dict(data["values"]))
            except (OSError, ValueError, KeyError, TypeError):
                yield path, None

    def _act(self, order: ControlRequest | None) -> str:
        """Does what an order asks, and returns what came of it."""
        if order is not None and order.kind == "stop_trial" and isinstance(order.trial, int):
            return self._stop_trial(order.trial)
        if order is not None and order.kind == "add":
            return self._add(order.values)
        return "no order that is known here"

    def _stop_trial(self, number: int) -> str:
        record = self.study.trials.get(number)
        if record is None:
            return f"there is no trial {number}; nothing was stopped"
        if record.state not in ALIVE:
            return f"t{number:04d} has ended already ({record.state}); nothing was stopped"
        self.study.stop(number, USER_NOTE)
        self.on_change(number)
        return f"t{number:04d} is stopped after epoch {max(record.epochs, default=0)}"

    def _add(self, values: Mapping[str, Any]) -> str:
        try:
            known = self.study.enqueue(values)
        except (ConfigError, TypeError) as error:
            return f"not taken: {error}"
        if known is not None:
            return f"not taken: t{known:04d} has these values"
        return (
            "it runs next"
            if self.study.scheduler.can_start_new()
            else "the budget is spent; it runs when a larger one is given"
        )

    def _reply(self, path: Path, text: str) -> None:
        self.say(f"order taken: {text}")
        with suppress(OSError):  # a full disk is no reason to end the search
            write_atomic(path.with_suffix(".answer"), text)
            path.unlink(missing_ok=True)
