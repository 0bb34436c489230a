from __future__ import annotations

import pytest

from config.errors import ConfigError
from search.space import checks


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("tau", 2.0, None),
        ("tau", 0.5, "must be > 1.0 (got 0.5)"),
        ("step", 1.5, "must be a whole number (got 1.5)"),
        ("dataset", "digits", None),
        ("epochs", 3, "set budget.epochs"),
        ("tao", 2.0, "unknown key. Did you mean tau?"),
    ],
)
def test_a_value_is_checked_against_the_rule_of_its_key(key: str, value: object, text: str | None) -> None:
    assert checks.value_problem(key, value) == text


@pytest.mark.parametrize("key", [*checks.NOT_SEARCHED, "tao"])
def test_some_keys_cannot_be_searched(key: str) -> None:
    checks.searchable("tau")
    with pytest.raises(ConfigError):
        checks.searchable(key)
