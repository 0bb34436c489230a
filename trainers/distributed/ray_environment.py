"""Starts a Ray of one's own on this machine: without a dashboard, and with a token that nobody else can read."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray


def start(**options: Any) -> None:
    """Starts Ray with the token on; `options` go to `ray.init`."""
    os.environ.pop("RAY_AUTH_MODE", None)  # unset, Ray turns the token on for a Ray of one's own
    keep_token_private()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)


def keep_token_private() -> None:
    """Makes the file of Ray's token where there is none, and lets nobody else read it; Ray's own would be readable."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # a home that cannot be written: Ray says so itself
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
