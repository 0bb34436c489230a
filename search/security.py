"""What is made sure of before a search starts; docs/security.md says why."""

from __future__ import annotations

import ipaddress
import re
from importlib import metadata

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
