"""Addresses of stores and servers: which are taken, and how they are shown without their credentials."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
FORMS = "sqlite:///FILE, http://HOST:PORT, https://HOST or postgresql://HOST/NAME"

_USER = re.compile(r"(?<=://)[^\s'\"]*@")
_SECRET = re.compile(r"://[^/@]*:[^/]*@")
_DATABASE = re.compile(r"(postgresql|mysql|mariadb|sqlite)(\+\w+)?://\S+$")
_FILES = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs)://\S+$")
_QUERY = re.compile(r"([?&](?:\w*password|passwd|pwd|token|secret|key)=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns a text whose URIs name no user, password or token."""
    return _QUERY.sub(r"\1***", _USER.sub("***@", text))


def without_secrets(uri: str) -> str:
    """Returns an address as it may be written down: without secrets, but with the user whom a database asks for."""
    return uri if _DATABASE.match(uri) and not _SECRET.search(uri) and not _QUERY.search(uri) else redact(uri)


def check_database(uri: str) -> str:
    """Returns the address of a study's database as it is. Raises ValueError with what is allowed."""
    _refuse_secret(uri, "PGPASSWORD or ~/.pgpass")
    if not _DATABASE.match(uri):
        raise ValueError(f"must be the address of a database, as postgresql://USER@HOST/NAME (got {redact(uri)!r})")
    return uri


def check_file_system(uri: str) -> str:
    """Returns the address of a file system as it is. Raises ValueError with what is allowed."""
    _refuse_secret(uri, "AWS_ACCESS_KEY_ID and the like")
    if not is_file_system(uri):
        raise ValueError(f"must be a place for files, as s3://BUCKET/FOLDER or file:///FOLDER (got {redact(uri)!r})")
    return uri


def is_file_system(uri: str) -> bool:
    """Returns whether an address is one of files."""
    return _FILES.match(uri) is not None


def _refuse_secret(uri: str, instead: str) -> None:
    if _SECRET.search(uri) or _QUERY.search(uri):
        raise ValueError(f"holds a password, which would be written into the study; use {instead}")


def check_tracking(uri: str) -> str:
    """Returns an MLflow tracking URI as it is. Raises ValueError with what is allowed."""
    try:
        parts = urlsplit(uri)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"must be a URI, {FORMS} (got {redact(uri)!r})") from None
    scheme = parts.scheme.split("+")[0]
    needs_host = scheme in ("http", "https", "postgresql", "mysql", "mssql")
    named = bool(parts.hostname) if needs_host else scheme == "databricks" or parts.path.strip("/") != ""
    if scheme not in SCHEMES or not named or not port_is_right or re.search(r"\s", uri):
        raise ValueError(f"must be a URI, {FORMS} (got {redact(uri)!r})")
    return uri
