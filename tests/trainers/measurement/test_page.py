"""The report of a measurement."""

from __future__ import annotations

from trainers.measurement.page import page
from trainers.measurement.table import Measured


def test_text_of_a_file_is_escaped_and_the_largest_layer_has_a_full_bar() -> None:
    layers = [{"name": "<b>", "kind": "Conv", "synops": 5.0}, {"name": "other", "kind": "Conv", "synops": 10.0}]
    measured = Measured({}, {}, [{"read_step": 1, "accuracy": 50.0}], layers)
    text = page("<script>x.pth", {"weights": "a&b"}, measured, {"name": "total", "synops": 15.0})
    assert "<script>" not in text
    assert "<b>" not in text
    assert "a&amp;b" in text
    assert "--share: 100.0%" in text
    assert "--share: 50.0%" in text
    assert text.count('class="total"') == 1
