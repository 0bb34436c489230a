from __future__ import annotations

from collections.abc import Callable

import pytest

from config.errors import ConfigError
from search.space import checks
from search.space.space import Space


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


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("space.seed={int: [0, 9]}", r"seeds: must be 1 in a space with the key seed.*got 3"),
        ("budget={epochs: 9, epochs_total: 26}", r"seeds x budget.epochs <= budget.epochs_total.*3 x 9.*26"),
    ],
)
def test_seeds_exclude_a_searched_seed_and_a_budget_below_one_config(
    read_space: Callable[..., Space], override: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_space("seeds=3", override)
    read_space("seeds=1", override)
