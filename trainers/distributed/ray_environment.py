"""Local Ray: no dashboard, and a token that other users cannot read."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray


def start(**options: Any) -> None:
    """Starts Ray with token authentication; `options` go to `ray.init`."""
    os.environ.pop("RAY_AUTH_MODE", None)  # unset, a local Ray uses the token
    keep_token_private()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)


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
