"""URIs of databases, file systems and MLflow stores: validation, and display without credentials."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
FORMS = "sqlite:///FILE, http://HOST:PORT, https://HOST or postgresql://HOST/NAME"

_USER = re.compile(r"(?<=://)[^\s'\"]*@")
_SECRET = re.compile(r"://[^/@]*:[^/]*@")
_DATABASE = re.compile(r"(postgresql|mysql|mariadb|sqlite)(\+\w+)?://\S+$")
_FILES = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs)://\S+$")
_QUERY = re.compile(r"([?&](?:\w*password|passwd|pwd|token|secret|key)=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns a text without the users, passwords and tokens in its URIs."""
    return _QUERY.sub(r"\1***", _USER.sub("***@", text))


def without_secrets(uri: str) -> str:
    """Returns a URI that may be stored: without secrets, but with the user name that a database needs."""
    return uri if _DATABASE.match(uri) and not _has_secret(uri) else redact(uri)


def without_user(uri: str) -> str:
    """Returns the URI of a server without its user and password, as a browser opens it."""
    return _USER.sub("", uri)


def sqlite(path: Path) -> str:
    """Returns the URI of an SQLite file, as SQLAlchemy and MLflow read it."""
    return f"sqlite:///{str(path.absolute()).replace('%', '%25').replace('?', '%3F')}"


def check_database(uri: str) -> str:
    """Returns the URI of a study's database unchanged. Raises ValueError with the allowed forms."""
    return _check(
        uri, _DATABASE, "the address of a database, such as postgresql://USER@HOST/NAME", "PGPASSWORD or ~/.pgpass"
    )


def check_file_system(uri: str) -> str:
    """Returns the URI of a file system unchanged. Raises ValueError with the allowed forms."""
    return _check(
        uri, _FILES, "the URI of a file system, such as s3://BUCKET/FOLDER or file:///FOLDER", "AWS_ACCESS_KEY_ID etc."
    )


def is_file_system(uri: str) -> bool:
    """Returns whether a URI is that of a file system."""
    return _FILES.match(uri) is not None


def _has_secret(uri: str) -> bool:
    return bool(_SECRET.search(uri) or _QUERY.search(uri))


def _check(uri: str, pattern: re.Pattern[str], form: str, instead: str) -> str:
    if _has_secret(uri):
        raise ValueError(f"holds a password, which would be written into the study; use {instead}")
    if not pattern.match(uri):
        raise ValueError(f"must be {form} (got {redact(uri)!r})")
    return uri


def check_tracking(uri: str) -> str:
    """Returns an MLflow tracking URI unchanged. Raises ValueError with the allowed forms."""
    if not _is_tracking(uri):
        raise ValueError(f"must be a URI, {FORMS} (got {redact(uri)!r})")
    return uri


def _is_tracking(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        has_valid_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    scheme = parts.scheme.split("+")[0]
    needs_host = scheme in ("http", "https", "postgresql", "mysql", "mssql")
    is_named = bool(parts.hostname) if needs_host else scheme == "databricks" or parts.path.strip("/") != ""
    return scheme in SCHEMES and is_named and has_valid_port and not re.search(r"\s", uri)
