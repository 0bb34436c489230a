"""events.jsonl: every decision of a search, in order, one JSON object a line; no clock and no speed in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from results.files import write_atomic


class EventLog:
    """Appends decisions to a file, each once, and mends a file that a killed driver left with half a line."""

    def __init__(self, path: Path) -> None:
        self._known: set[tuple[str, int, int | None, str | None]] = set()
        if path.exists():
            self._read(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, trial: int, **facts: Any) -> None:
        """Appends an event, unless the log has it already: a trial has one of each, or one an epoch or class."""
        key = (event, trial, facts.get("epoch"), facts.get("kind"))
        if key not in self._known:
            self._known.add(key)
            self._file.write(json.dumps({"event": event, "trial": trial, **facts}) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _read(self, path: Path) -> None:
        whole = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                event = json.loads(line)
            except ValueError:
                break
            if not line.endswith("\n"):
                break
            whole.append(line)
            self._known.add((event["event"], event["trial"], event.get("epoch"), event.get("kind")))
        text = "".join(whole)
        if path.stat().st_size != len(text.encode()):
            write_atomic(path, text)
