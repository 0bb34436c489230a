from __future__ import annotations

import pytest

from results.metrics import format_number, format_param, format_params


@pytest.mark.parametrize(
    ("value", "text"), [(1680840.6, "1.68 M"), (0.17863545, "0.1786"), (96.0, "96"), (-2e9, "-2 G"), (12345, "12.3 k")]
)
def test_large_numbers_have_a_unit_prefix(value: float, text: str) -> None:
    assert format_number(value) == text


def test_values_of_a_config_are_one_line() -> None:
    assert (
        format_params({"tau": 1.74358, "depths": [2, 6], "attn_layer": "SSA"}) == "tau=1.744 depths=2-6 attn_layer=SSA"
    )
    assert format_param(None) == "None"
