"""Local Ray: no dashboard, a token that other users cannot read, and paths of all kinds."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import ray

from config import cli
from config.cli import CommandError

MAX_SOCKET_BYTES = 107
"""Longest path of a Unix socket."""


def start(**options: Any) -> None:
    """Starts Ray with token authentication; `options` go to `ray.init`.

    Raises CommandError if the folder for temporary files has too long a path for Ray's sockets.
    """
    check_temporary_folder()
    os.environ.pop("RAY_AUTH_MODE", None)  # unset, a local Ray uses the token
    keep_token_private()
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        runtime_env=interpreter() or None, **options,
    )  # fmt: skip


def interpreter() -> dict[str, Any]:
    """Returns the runtime environment that names this Python, empty if Ray's own finds it.

    Ray 2.60 passes the path of the interpreter to bash without quotes, so that a space or a bracket in it ends the
    start of every worker that has a runtime environment, and Tune's actors have one.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def check_temporary_folder() -> None:
    """Raises CommandError with the remedy if Ray's sockets would have paths that are too long."""
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    folder = "/tmp" if variable is None else os.environ[variable]
    session = f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
    length = len(os.fsencode(os.path.join(folder, "ray", session, "sockets", "plasma_store")))
    if length > MAX_SOCKET_BYTES:
        most = len(os.fsencode(folder)) - (length - MAX_SOCKET_BYTES)
        raise CommandError(
            cli.ENVIRONMENT,
            f"{variable}: must be a path of at most {most} bytes, as Ray creates its sockets under it (got {folder}). "
            f"Set RAY_TMPDIR to a short folder, such as RAY_TMPDIR=/tmp",
        )


def keep_token_private() -> None:
    """Creates Ray's token file if missing, and makes it private; the file that Ray creates is readable by others."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # if the home cannot be written, Ray raises an error itself
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
