"""The log of reads of the test set."""

from __future__ import annotations

import json
from pathlib import Path

from trainers.measurement.test_reads import log_test_read


def test_each_read_is_a_line_with_time_weights_and_metrics(tmp_path: Path) -> None:
    for accuracy in (1.0, 2.0):
        path = log_test_read(tmp_path / "new", Path("w.pt"), "digits", {"accuracy": accuracy})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [1.0, 2.0]
    assert {line["weights"] for line in lines} == {"w.pt"}
    assert all("T" in line["time"] for line in lines)
