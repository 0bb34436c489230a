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
"""Seconds that tidying up may take after Ctrl-C or SIGTERM."""


_ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; raised wherever the main thread is, so nothing may rely on its not being raised."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def signals() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise Interrupted; outside they are as they were."""
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    catch_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def catch_signals() -> None:
    """Makes Ctrl-C and SIGTERM raise Interrupted, once; a second one, or ten seconds of tidying up, end the process.

    Call it again after starting a library that takes the signals for itself.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for again in _ENDING:
            signal.signal(again, lambda n, f: os._exit(128 + n))
        timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()
        _deferral.timer = timer
        if _deferral.active:
            _deferral.number = number
        else:
            raise Interrupted(number)

    for number in _ENDING:
        signal.signal(number, interrupt)


@dataclass
class _Deferral:
    active: bool = False
    number: int | None = None
    timer: threading.Timer | None = None


_deferral = _Deferral()


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, an interruption waits until `check` is called: for code in which no exception may be raised anywhere."""
    _deferral.active, _deferral.number = True, None
    try:
        yield
    finally:
        _deferral.active = False
    check()


def cancel_forced_exit() -> None:
    """Takes back that the process ends ten seconds after an interruption: for callers that live on, as notebooks do."""
    if _deferral.timer is not None:
        _deferral.timer.cancel()
        _deferral.timer = None


def check() -> None:
    """Raises Interrupted when an interruption is waiting."""
    number, _deferral.number = _deferral.number, None
    if number is not None:
        raise Interrupted(number)
