"""The messages in docs/troubleshooting.md, which must be those of the code."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split("## Trials that fail")[0]
ROWS = [line for line in PAGE.splitlines() if line.startswith(("| `", "`"))]
MESSAGES = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row.split(" | ")[0].split("`: ")[0] + "`")]
FILLED_IN = r"\.\.\.|\(|\d+(\.\d+)?|'[^']*'|postgresql://|\b(tau|node_type|mine|cifar-10-batches-py|CPU|Ray|process)\b"
"""Placeholders in an example for text that the user will see."""
OTHERS = {os.strerror(errno.ENOSPC), "database or disk is full", "database is locked"}
"""Messages of the system and of SQLite that ours pass on."""


def code() -> str:
    """Returns the packages' text, with adjacent string literals joined."""
    files = (
        path for name in ("config", "models", "trainers", "search", "results") for path in (ROOT / name).rglob("*.py")
    )
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.fixture(scope="module")
def source() -> str:
    return code()


def test_the_page_lists_messages() -> None:
    assert len(MESSAGES) > 25


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_in_the_code(message: str, source: str) -> None:
    fixed = max(re.sub(FILLED_IN, "\n", message).splitlines(), key=len).strip(" ;:,)")
    assert len(fixed) >= 5
    assert message in OTHERS or fixed in source


def test_sqlite_reports_a_locked_database_in_these_words(tmp_path: Path) -> None:
    one, other = (sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None) for _ in range(2))
    one.execute("begin exclusive")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        other.execute("begin exclusive")
    one.close()
    other.close()
