from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from results import StudyResult, hypervolume
from results.analysis.history import comparison_epoch, hypervolume_curve, rungs, total_epochs, trials_at_epoch
from results.from_optuna import study_from_optuna

Make = Callable[..., StudyResult]


@pytest.mark.parametrize(
    "scheduler",
    [
        None,
        {"name": "none"},
        {"name": "moasha", "grace_epochs": 2},
        {"name": "moasha", "grace_epochs": 1, "reduction_factor": 2},
    ],
)
def test_rungs_are_those_of_the_search(make_study: Make, scheduler: dict[str, Any] | None) -> None:
    from search.space.reader import load

    pairs = [f"scheduler.{key}={value}" for key, value in (scheduler or {}).items()]
    space = load("spaces/quickstart.yml", pairs)
    study = StudyResult("s", {"accuracy": "maximize"}, (), space.budget.epochs, attrs={"space": dict(space.raw)})
    assert [rung.epoch for rung in rungs(study)] == space.rung_epochs()


def test_a_rung_holds_the_trials_that_reached_it_and_those_stopped_at_it(make_search: Any) -> None:
    study = study_from_optuna(make_search(60, full=0.3))
    for rung in rungs(study):
        for number in rung.reached:
            assert study.trial(number).num_epochs >= rung.epoch
        assert {t.number for t in study.select("stopped") if t.num_epochs == rung.epoch} == set(rung.stopped)
    assert sum(len(rung.stopped) for rung in rungs(study)) == len(study.select("stopped"))


def test_the_hypervolume_rises_to_that_of_the_study(make_search: Any) -> None:
    study = study_from_optuna(make_search(40, full=0.5))
    spent, _, volumes = zip(*hypervolume_curve(study), strict=True)
    assert list(volumes) == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolume(study), rel=1e-12)
    assert spent[-1] == total_epochs(study)


def test_an_empty_study_has_no_hypervolume(make_study: Make) -> None:
    assert hypervolume_curve(make_study()) == [(0, None, 0.0)]


def test_trials_are_compared_at_the_highest_epoch_that_enough_reached(make_search: Any) -> None:
    study = study_from_optuna(make_search(80, full=0.1))
    level = comparison_epoch(study)
    assert level < study.epochs
    assert len(trials_at_epoch(study, level)) >= 20
    assert comparison_epoch(study, min_trials=1) == study.epochs
    assert comparison_epoch(study, min_trials=1000) == 1
