"""Failure probabilities and expected epochs by training stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.algorithm.failure_model import FailureModel, TrainingStage, training_stages
from search.algorithm.trial import Suggestion, Trial

LEVELS = (1, 3, 9)
GRID = [list(place) for place in itertools.product((0.0, 0.5, 1.0), (0.0, 1.0), (0.0, 1.0))]


def stages_of(fails_at: Callable[[list[float]], int | None], places: list[list[float]] = GRID) -> list[TrainingStage]:
    """The stages of trials at these places, each failing in a stage or in none; its one metric is its first key."""
    found = []
    for place in places:
        failed = fails_at(place)
        last = len(LEVELS) - 1 if failed is None else failed
        found += [TrainingStage(place, i, (place[0],) if i else (), i == failed) for i in range(last + 1)]
    return found


def survival(rows: list[TrainingStage], *stages: TrainingStage) -> tuple[list[float], list[float]]:
    model = FailureModel(LEVELS, 3, 1)
    model.fit(rows)
    alive, epochs = model.survival(stages)
    return alive.tolist(), epochs.tolist()


def test_without_data_most_trainings_are_expected_to_succeed() -> None:
    (alive,), (epochs,) = survival([], TrainingStage([0.5, 0.5, 0.5], 0))
    assert 0.3 < alive < 0.9
    assert 4.0 < epochs < 9.0


def test_keys_that_made_other_trials_fail_predict_failures() -> None:
    rows = stages_of(lambda place: 0 if place[0] == 1.0 else None, [p for p in GRID if p != [1.0, 1.0, 1.0]])
    alive, epochs = survival(rows, TrainingStage([1.0, 1.0, 1.0], 0), TrainingStage([0.5, 1.0, 1.0], 0))
    assert alive[0] < 0.4 < 0.6 < alive[1]
    assert epochs[0] < 0.7 * epochs[1]  # many end in their first epoch


def test_pairs_of_keys_that_are_harmless_alone_predict_failures() -> None:
    rows = 3 * stages_of(lambda place: 0 if place[0] == 1.0 and place[1] == 1.0 else None)
    alive, _ = survival(
        rows, TrainingStage([1.0, 1.0, 0.5], 0), TrainingStage([1.0, 0.0, 0.5], 0), TrainingStage([0.0, 1.0, 0.5], 0)
    )
    assert alive[0] < 0.3
    assert min(alive[1:]) > 0.6


def test_failures_in_the_first_stage_do_not_predict_late_failures() -> None:
    early = survival(
        2 * stages_of(lambda place: 0 if place[1] == 1.0 else None), TrainingStage([0.5, 1.0, 0.5], 1, (0.5,))
    )
    late = survival(
        2 * stages_of(lambda place: 2 if place[1] == 1.0 else None), TrainingStage([0.5, 1.0, 0.5], 1, (0.5,))
    )
    assert late[0][0] < 0.3 < 0.5 < early[0][0]


def test_metrics_before_a_stage_predict_failures() -> None:
    rows = [
        TrainingStage([0.5, 0.5, 0.5], i, (x,) if i else (), i == 2 and x < 0.3)
        for x in np.linspace(0, 1, 20)
        for i in range(3)
    ]
    alive, _ = survival(rows, TrainingStage([0.5, 0.5, 0.5], 2, (0.05,)), TrainingStage([0.5, 0.5, 0.5], 2, (0.9,)))
    assert alive[0] < 0.4 < 0.8 < alive[1]


def test_a_paused_trial_needs_its_remaining_epochs_only() -> None:
    rows = 5 * stages_of(lambda place: None)
    _, epochs = survival(rows, *(TrainingStage([0.5, 0.5, 0.5], i, (0.5,)) for i in range(3)))
    assert epochs == pytest.approx([9.0, 8.0, 6.0], rel=0.1)


def test_a_space_of_many_keys_is_fitted_without_pairs() -> None:
    rng = np.random.default_rng(0)
    places = rng.random((60, 40)).round().tolist()
    rows = [TrainingStage(place, 0, (), bool(place[3])) for place in places]
    model = FailureModel(LEVELS, 40, 1)
    model.fit(rows)
    ends = np.full((2, 40), 0.5)
    ends[:, 3] = 0.0, 1.0
    low, high = model.failure_probability(model.features([TrainingStage(place, 0) for place in ends]), 0)
    assert low < 0.3 < 0.6 < high


@pytest.mark.parametrize(
    ("epochs", "failure", "expected"),
    [
        (0, "silent", [(0, True)]),
        (0, None, []),
        (2, "diverged", [(0, False), (1, True)]),
        (3, None, [(0, False), (1, False)]),
        (3, "error", [(0, False), (1, False)]),  # not caused by the config
        (9, None, [(0, False), (1, False), (2, False)]),
        (9, "at_chance", [(0, False), (1, False), (2, True)]),
        (3, "at_chance", [(0, False), (1, True)]),
    ],
)
def test_a_trial_yields_the_stages_that_it_has_reached(epochs: int, failure: Any, expected: Any) -> None:
    trial = Trial(0, Suggestion({}, {}, {}), {}, failure_class=failure, epochs={e: {} for e in range(1, epochs + 1)})
    metrics = {level: (float(level),) for level in LEVELS if level <= epochs}
    found = training_stages(trial, [0.5], LEVELS, metrics)
    assert [(one.stage, one.failed) for one in found] == expected
    assert [one.metrics for one in found] == [(), (1.0,), (3.0,)][: len(found)]
