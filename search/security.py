"""What is made sure of before a search starts; docs/security.md says why."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from contextlib import suppress
from importlib import metadata
from pathlib import Path

FLOORS = {"ray": (2, 52), "mlflow": (3, 8), "torch": (2, 6)}
"""The first versions without the known holes through which others can run code: CVE-2025-62593 (Ray), CVE-2026-2033
and older ones (MLflow), CVE-2025-32434 (torch.load)."""


def too_old() -> str | None:
    """Returns the sentence for installed versions that may not be used, or None."""
    found = {name: metadata.version(name) for name in FLOORS}
    old = [
        f"{name} {version} has known security holes, {'.'.join(map(str, FLOORS[name]))} or newer is needed"
        for name, version in found.items()
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < FLOORS[name]
    ]
    return f"{'; '.join(old)}. Set up the environment again: make clean test" if old else None


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine, out of reach of others."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


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
