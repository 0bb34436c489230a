from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from results import ResultsError, StudyResult
from results.analysis.comparison import (
    NOT_SET,
    check_comparable,
    common_reference,
    differing_settings,
    label_studies,
    repeats,
)

Make = Callable[..., StudyResult]


@pytest.fixture
def make(make_study: Make) -> Make:
    """Builds a study of a space file with some values changed; `base` and `versions` are the study's attributes."""

    def build(seed: int = 0, points: Any = ((90.0, 0.1),), base: Any = None, versions: Any = None, **space: Any) -> Any:
        raw = {
            "study": f"s{seed}",
            "space": {"tau": {"uniform": [1, 2]}},
            "seed": seed,
            "budget": {"trials": 5},
            **space,
        }
        attrs = {"space": raw, "seed": seed, "base": base or {"lr": 0.1}, "versions": versions or {}}
        return dataclasses.replace(make_study(points, **attrs), name=raw["study"])

    return build


def test_studies_are_labelled_by_name_or_by_folder_if_names_repeat(make: Make) -> None:
    assert list(label_studies(["runs/a", "runs/b"], [make(1), make(2)])) == ["s1", "s2"]
    assert list(label_studies(["runs/a/", "old/a"], [make(1), make(1)])) == ["runs/a", "old/a"]
    with pytest.raises(ResultsError, match=r"runs/\.\./runs/a: is given twice; name each study once"):
        label_studies(["runs/a", "runs/../runs/a"], [make(1), make(1)])


def test_studies_with_different_objectives_cannot_be_compared(make: Make) -> None:
    other = dataclasses.replace(make(1), objectives={"accuracy": "maximize", "synops": "minimize"})
    with pytest.raises(ResultsError, match=r"b: studies must have the same objectives to be compared \(got max"):
        check_comparable({"a": make(0), "b": other})
    turned = dataclasses.replace(make(1), objectives={"spike_rate": "minimize", "accuracy": "maximize"})
    check_comparable({"a": make(0), "b": turned})


def test_the_common_reference_point_is_the_worst_of_all(make_study: Make) -> None:
    goals = {"accuracy": "maximize", "synops": "minimize"}
    few, many = make_study([(90.0, 0.1)], objectives=goals), make_study([(90.0, 0.3)], objectives=goals)
    reference = common_reference({"few": few, "many": many})
    assert reference["accuracy"] == 10
    assert reference["synops"] == many.points()[0].metrics["synops"] > few.points()[0].metrics["synops"]


def test_settings_that_differ_are_listed_key_by_key(make: Make) -> None:
    first = make(0, sampler={"name": "tpe"}, base={"lr": 0.1, "opt": "sgd"}, versions={"torch": "2.11"})
    second = make(1, sampler={"name": "gp", "noise": True}, base={"lr": 0.2, "opt": "sgd"}, versions={"torch": "2.12"})
    assert differing_settings({"a": first, "b": second}) == {
        "seed": ["0", "1"],
        "sampler.name": ["tpe", "gp"],
        "sampler.noise": [NOT_SET, "true"],
        "base.lr": ["0.1", "0.2"],
        "versions.torch": ["2.11", "2.12"],
    }


def test_studies_that_differ_in_seeds_and_machine_alone_are_repeats(make: Make) -> None:
    studies = {
        "a0": make(0, concurrency=1, resources={"cpu": 1}, base={"lr": 0.1, "seed": 1}),
        "a1": make(1, concurrency=8, resources={"gpu": 1}, base={"lr": 0.1, "seed": 2}, versions={"torch": "3"}),
        "b0": make(0, budget={"trials": 6}),
        "c0": make(0, space={"tau": {"uniform": [1, 3]}}),
        "c1": make(4, space={"tau": {"uniform": [1, 3]}}, fixed={"seed": 9}),
    }
    assert [list(group) for group in repeats(studies)] == [["a0", "a1"], ["c0", "c1"]]
    assert repeats({"a0": studies["a0"], "b0": studies["b0"]}) == []
