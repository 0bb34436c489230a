from __future__ import annotations

import pytest

from results.charts.style import fitted_axis, round_number, subsample


@pytest.mark.parametrize(("value", "text"), [(1 / 3, 0.333333), (2.0, 2), (float("nan"), None), (None, None)])
def test_numbers_have_six_digits(value: float | None, text: float | None) -> None:
    assert round_number(value) == text


def test_far_references_do_not_squeeze_the_view() -> None:
    near, far = fitted_axis("accuracy", [80.0, 90.0], [95.0]), fitted_axis("accuracy", [80.0, 90.0], [195.0])
    assert near["range"][1] > 95
    assert far["range"][1] < 95
    assert fitted_axis("synops", [1.0, 1000.0])["type"] == "log"


def test_a_subsample_holds_the_required_items() -> None:
    items = [[number] for number in range(100)]
    sample = subsample(items, 10, [items[3]])
    assert len(sample) == 11
    assert items[3] in sample
