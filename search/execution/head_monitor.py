"""Watch on the cluster's head node: a driver whose head is lost ends at once.

Ray's calls may hang for a minute then, so a thread polls the head's port. The driver is ended as by a kill, after which
a study can always resume.
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
"""Seconds between two attempts to connect, and the timeout of one."""
MAX_MISSED = 5
"""Failed attempts in a row until the head is lost: less time than Ray's own minute."""


@contextmanager
def monitored(address: str, resume_command: str) -> Iterator[None]:
    """Ends the process with exit code 4 if the head at `address` is lost within the block."""
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(address, resume_command, is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _watch(address: str, resume_command: str, is_over: threading.Event) -> None:
    missed = 0
    while missed < MAX_MISSED:
        if is_over.wait(POLL_S):
            return
        missed = 0 if is_listening(address) else missed + 1
    text = f"the head of the Ray cluster at {address} is lost; the study is not. To resume: {resume_command}"
    print(f"\n{text}", file=sys.stderr, flush=True)
    os._exit(cli.ENVIRONMENT)


def is_listening(address: str) -> bool:
    """Returns whether a TCP server listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), POLL_S).close()
    except OSError:
        return False
    return True
