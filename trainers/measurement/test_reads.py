"""Log of the reads of the test set, beside the trainings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEST_LOG = "test-reads.jsonl"


def log_test_read(folder: Path, weights: Path, dataset: str, metrics: Mapping[str, Any]) -> Path:
    """Appends a line to the log in a folder, which is made if necessary; returns the log's path."""
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "weights": str(weights), "dataset": dataset, **metrics}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TEST_LOG).open("a") as file:
        file.write(json.dumps(entry) + "\n")
    return folder / TEST_LOG
