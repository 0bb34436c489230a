"""Addresses of stores and servers, shown without their credentials."""

from __future__ import annotations

import re
from pathlib import Path

_USER = re.compile(r"(?<=://)[^\s'\"]*@")
_QUERY = re.compile(r"([?&](?:\w*password|passwd|pwd|token|secret|key)=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns a text whose URIs name no user, password or token, as config.uris does, which we may not import."""
    return _QUERY.sub(r"\1***", _USER.sub("***@", text))


def sqlite(path: Path) -> str:
    """Returns the address of an SQLite file, as SQLAlchemy and MLflow read it."""
    return f"sqlite:///{str(path.absolute()).replace('%', '%25').replace('?', '%3F')}"
