"""Messages between the driver and its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialTask:
    """One trial to run: its number, its train file, and where its checkpoints are.

    With an address `kept` they are kept there, and the folder is one of its worker's own.
    """

    number: int
    config: dict[str, Any]
    folder: str
    store_uri: str | None = None
