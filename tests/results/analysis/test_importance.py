from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest

from results.analysis.importance import FRONT, best_share, importances
from results.from_optuna import study_from_optuna


def optunas_own(study: Any, target: Any) -> dict[str, float]:
    """Returns Optuna's importances of the stored study, with the parts of a shared key added up."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share(len(study.trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=evaluator, target=target)
    added: dict[str, float] = {}
    for name, share in found.items():
        key = name.rpartition(".")[2]
        added[key] = added.get(key, 0.0) + share
    return added


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "target"),
    [("accuracy", lambda t: -t.values[0]), ("spike_rate", lambda t: t.values[1]), (FRONT, None)],
)
def test_importance_equals_optunas(make_search: Any, seed: int, name: str, target: Any) -> None:
    study = make_search(80, seed=seed)
    found = importances(study_from_optuna(study), epoch=9)
    assert found.num_trials == 80
    assert found.shares[name] == pytest.approx(optunas_own(study, target), rel=1e-9)


def test_the_keys_with_an_effect_come_first(make_search: Any) -> None:
    found = importances(study_from_optuna(make_search(120)))
    assert max(found.shares["accuracy"], key=found.shares["accuracy"].__getitem__) == "lr"
    assert max(found.shares["spike_rate"], key=found.shares["spike_rate"].__getitem__) == "alpha"
    assert set(found.order()[:2]) == {"lr", "alpha"}


def test_shares_of_a_target_add_up_to_one(make_search: Any) -> None:
    for shares in importances(study_from_optuna(make_search(60, full=0.2))).shares.values():
        assert sum(shares.values()) == pytest.approx(1.0)


def test_a_single_objective_has_no_front_target(make_search: Any) -> None:
    study = study_from_optuna(make_search(30, objectives={"accuracy": "maximize"}))
    assert list(importances(study).shares) == ["accuracy"]


def test_few_trials_give_no_importance(make_search: Any) -> None:
    assert importances(study_from_optuna(make_search(9))).shares == {}
    assert importances(study_from_optuna(make_search(0))).num_trials == 0


def test_the_front_of_last_read_outs_equals_optunas(make_search: Any) -> None:
    study = make_search(60, full=0.5)
    ours = study_from_optuna(study)
    last = tuple(dataclasses.replace(trial, read_outs=trial.read_outs[-1:]) for trial in ours.trials)
    front = dataclasses.replace(ours, trials=last).front()
    assert {point.trial for point in front} == {trial.number for trial in study.best_trials}
