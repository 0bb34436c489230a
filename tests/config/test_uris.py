from __future__ import annotations

from pathlib import Path

import pytest

from config import uris


@pytest.mark.parametrize(
    "uri", ["sqlite:///a.db", "http://localhost:5000", "https://host", "postgresql://host/name", "databricks://profile"]
)
def test_a_tracking_uri_is_accepted_unchanged(uri: str) -> None:
    assert uris.check_tracking(uri) == uri


@pytest.mark.parametrize("uri", ["mlruns", "ftp://host", "http://", "http://host:99999", "sqlite://", "http://a b"])
def test_another_tracking_uri_is_refused_with_the_allowed_forms(uri: str) -> None:
    with pytest.raises(ValueError, match="must be a URI, sqlite:///FILE"):
        uris.check_tracking(uri)


def test_a_password_in_the_address_of_a_database_or_store_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a password"):
        uris.check_database("postgresql://me:secret@host/name")
    with pytest.raises(ValueError, match="holds a password"):
        uris.check_file_system("s3://bucket/folder?secret=x")


def test_the_uri_of_an_sqlite_file_escapes_special_characters() -> None:
    assert uris.sqlite(Path("/a/50%?.db")) == "sqlite:////a/50%25%3F.db"
