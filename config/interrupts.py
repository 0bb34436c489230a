"""Ctrl-C and SIGTERM as an exception in the main thread, deferrable around code that must not be interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

GRACE_S = 10.0
"""Seconds for cleaning up after Ctrl-C or SIGTERM."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM, raised at any point of the main thread."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def signals() -> Iterator[None]:
    """Context in which Ctrl-C and SIGTERM raise Interrupted; restores the previous handlers."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    catch_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def catch_signals() -> None:
    """Makes Ctrl-C and SIGTERM raise Interrupted once; a second signal, or ten seconds of cleaning up, end the process.

    Call it again after starting a library that installs handlers.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, lambda n, f: os._exit(128 + n))
        timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()
        _deferral.timer = timer
        if _deferral.active:
            _deferral.number = number
        else:
            raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


@dataclass
class _Deferral:
    active: bool = False
    number: int | None = None
    timer: threading.Timer | None = None


_deferral = _Deferral()


@contextmanager
def deferred() -> Iterator[None]:
    """Context in which an interruption is deferred until `check`, for code that no exception may interrupt."""
    _deferral.active, _deferral.number = True, None
    try:
        yield
    finally:
        _deferral.active = False
    check()


def cancel_forced_exit() -> None:
    """Cancels the forced exit after an interruption, for callers that survive it, such as notebooks."""
    if _deferral.timer is not None:
        _deferral.timer.cancel()
        _deferral.timer = None


def check() -> None:
    """Raises Interrupted if an interruption is deferred."""
    number, _deferral.number = _deferral.number, None
    if number is not None:
        raise Interrupted(number)
