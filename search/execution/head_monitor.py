"""Notices that the cluster's head is lost, and ends the driver before Ray does so without a word.

The calls of Ray that the driver waits in may hang for a minute then, so that this is for a thread of its own. Ending at
once is what a kill does, which the study is made for.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from config import cli

POLL_S = 5.0
"""Seconds between two looks, and the most that one takes."""
MAX_MISSED = 5
"""Looks in a row that find no head; fewer than Ray itself waits for, a minute."""


@contextmanager
def monitored(address: str, again: str) -> Iterator[None]:
    """Inside, the driver ends with exit code 4 once the head at `address` is lost; `again` is how to go on."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(address, again, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(address: str, again: str, over: threading.Event) -> None:
    missed = 0
    while missed < MAX_MISSED:
        if over.wait(POLL_S):
            return
        missed = 0 if is_listening(address) else missed + 1
    text = f"the head of the Ray cluster at {address} is lost; nothing else is. To go on: {again}"
    print(f"\n{text}", file=sys.stderr, flush=True)
    os._exit(cli.ENVIRONMENT)


def is_listening(address: str) -> bool:
    """Returns whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), POLL_S).close()
    except OSError:
        return False
    return True
