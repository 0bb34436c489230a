from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from results import StudyResult
from results.analysis.edges import edges, failure_regions

Make = Callable[..., StudyResult]
RATES = [(90.0, 0.3), (85.0, 0.2), (80.0, 0.1)]


def with_values(make_study: Make, domain: dict[str, Any], *values: Any) -> StudyResult:
    """Returns a study in which every trial is on the front, with these values of one key."""
    study = make_study(*[[pair] for pair in RATES], searched=["x"], space={"space": {"x": domain}})
    trials = [dataclasses.replace(t, params={"x": v}) for t, v in zip(study.trials, values, strict=True)]
    return dataclasses.replace(study, trials=tuple(trials))


@pytest.mark.parametrize(
    ("domain", "values", "end"),
    [
        ({"uniform": [0, 1]}, (0.99, 0.98, 0.5), "high"),
        ({"log_uniform": [1e-4, 1e-2]}, (1.1e-4, 1e-4, 5e-3), "low"),
        ({"int": [1, 6]}, (6, 6, 3), "high"),
        ({"choice": [1, 2, 4]}, (1, 1, 2), "low"),
        ({"choice": [4, 2, 1]}, (1, 1, 2), "low"),
    ],
)
def test_best_values_at_an_end_are_reported(make_study: Make, domain: dict[str, Any], values: Any, end: str) -> None:
    (edge,) = edges(with_values(make_study, domain, *values))
    assert (edge.key, edge.end, edge.count, edge.total) == ("x", end, 2, 3)
    assert "Widen it there" in str(edge)


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        ({"uniform": [0, 1]}, (0.99, 0.5, 0.5)),
        ({"int": [1, 2]}, (1, 1, 1)),
        ({"choice": [1, 2]}, (1, 1, 1)),
        ({"choice": ["a", "b", "c"]}, ("a", "a", "a")),
        ({"int": [1, 6]}, (2, 3, 4)),
    ],
)
def test_best_values_inside_the_range_are_not_reported(make_study: Make, domain: dict[str, Any], values: Any) -> None:
    assert edges(with_values(make_study, domain, *values)) == []


def test_an_empty_front_has_no_edge(make_study: Make) -> None:
    assert edges(make_study()) == []


def test_failures_that_crowd_at_one_end_name_the_key(make_study: Make) -> None:
    study = make_study(*[[(90.0, 0.1)]] * 8, searched=["x"], space={"space": {"x": {"uniform": [0, 1]}}})
    trials = [dataclasses.replace(t, params={"x": t.number / 8}) for t in study.trials]
    bad = [dataclasses.replace(t, state="failed", failure_class="silent") for t in trials[5:]]
    (region,) = failure_regions(dataclasses.replace(study, trials=(*trials[:5], *bad)), "silent")
    assert str(region) == "high x (median 0.75; of the other trials 0.25)"
    assert failure_regions(dataclasses.replace(study, trials=(*trials[:6], *bad[1:])), "silent") == []
