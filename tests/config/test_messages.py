from __future__ import annotations

import pytest

from config.messages import abbreviated, root_cause, unknown_key


def test_an_unknown_key_names_the_nearest_key_or_the_few_known_ones_or_the_page() -> None:
    assert unknown_key("epoch", ["epochs", "lr"]) == "unknown key. Did you mean epochs?"
    assert unknown_key("xyz", ["epochs", "lr"]) == "unknown key. Known: epochs, lr"
    assert unknown_key("xyz", map(str, range(20))) == "unknown key. All are listed in docs/train-file.md"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), ("a", "'a'"), ([1, True, "x"], "[1, true, x]"), ({"a": None}, "{a: null}"), ("5", "'5'")],
)
def test_a_value_is_shown_as_in_yaml(value: object, text: str) -> None:
    assert abbreviated(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(abbreviated("x" * 200)) == 83


def test_the_root_cause_is_the_first_line_of_the_first_error() -> None:
    error = ValueError("later")
    error.__cause__ = OSError("disk full\nat /tmp")
    assert root_cause(error) == "disk full"
