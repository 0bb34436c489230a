from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from trainers.diagnostics.health import (
    INPUT,
    OUTPUT,
    PATIENCE,
    SILENT_RATE,
    Activity,
    Health,
    TrainingFailure,
    chance_level,
    check_finite,
    find_fault,
    gradient_faults,
)


def layers(**rates: float) -> list[dict[str, Any]]:
    """Returns rows as the meter gives them: neurons with a rate, and one layer without."""
    return [{"name": name, "spike_rate": rate} for name, rate in rates.items()] + [{"name": "conv", "synops": 0.0}]


CHAIN = {"conv": frozenset({INPUT}), "a": frozenset({"conv"}), "head": frozenset({"a"}), OUTPUT: frozenset({"head"})}
"""Weights, neurons, weights."""


def test_a_layer_that_stays_silent_ends_the_training_with_its_name() -> None:
    health = Health()
    health.check({"loss": 1.0}, layers(first=0.5, second=SILENT_RATE / 2), 50)
    health.check({"loss": 1.0}, layers(first=0.5, second=0.0), 49 + PATIENCE)
    with pytest.raises(TrainingFailure, match=r"^second emits fewer than 0\.001 spikes") as failure:
        health.check({"loss": 1.0}, layers(first=0.5, second=0.0), 50 + PATIENCE)
    assert failure.value.failure_class == "silent"


def test_two_checks_are_enough_if_they_are_far_apart() -> None:
    health = Health()
    health.check({}, layers(only=0.0), 1000)
    with pytest.raises(TrainingFailure):
        health.check({}, layers(only=0.0), 2000)


def test_a_layer_that_wakes_up_between_two_checks_is_healthy() -> None:
    health = Health()
    for i, rate in enumerate((0.0, 0.1, 0.0, SILENT_RATE, 0.0)):
        health.check({"loss": 1.0}, layers(only=rate), i * PATIENCE)


def test_two_layers_silent_in_turn_are_healthy() -> None:
    health = Health()
    health.check({}, layers(first=0.0, second=0.5), 0)
    health.check({}, layers(first=0.5, second=0.0), PATIENCE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_ends_the_training_at_once(value: float) -> None:
    with pytest.raises(TrainingFailure, match=r"^loss is ") as failure:
        Health().check({"accuracy": 1.0, "loss": value}, [], 1)
    assert failure.value.failure_class == "diverged"
    check_finite({"loss": 0.0})


@pytest.mark.parametrize(
    ("images", "percent"),
    [
        ([30] * 10, 10 + 200 * math.sqrt(0.09 / 300)),
        ([50, 50], 60.0),
        ([100] * 100, 1 + 200 * math.sqrt(0.0099 / 1e4)),
        ([90, 10], 96.0),
        ([0, 10, 90, 0], 96.0),
        ([7], 100.0),
    ],
)
def test_chance_is_the_share_of_the_largest_class_plus_two_standard_errors(images: list[int], percent: float) -> None:
    assert chance_level(images) == pytest.approx(percent)


def test_with_few_images_no_accuracy_differs_from_a_guess() -> None:
    assert chance_level([9, 1]) > 100


# ---------------------------------------------------------------------------------------------- single layers


@pytest.mark.parametrize(
    ("activity", "kind"),
    [
        (Activity(0.0005), "silent"),
        (Activity(0.0, never=1.0), "silent"),
        (Activity(0.01, never=0.99), "dead_layer"),
        (Activity(0.95, always=0.5), "saturated"),
        (Activity(0.9, always=0.91), "saturated"),
        (Activity(0.001, never=0.98), None),
        (Activity(0.9, always=0.9), None),
    ],
    ids=str,
)
def test_a_layers_fault_follows_from_its_rate_and_its_units(activity: Activity, kind: str | None) -> None:
    fault = find_fault(activity)
    assert (fault and fault[0]) == kind


def test_neurons_of_several_levels_are_silent_by_their_spikes() -> None:
    assert find_fault(Activity(0.0005), levels=4) is None
    health = Health(levels=4)
    for i in range(2):
        health.check({"accuracy": 50.0}, [{"name": "a", "spike_rate": 0.0005}], i * PATIENCE)


def test_a_gradient_a_million_times_smaller_than_the_largest_counts_as_zero() -> None:
    assert gradient_faults({"a": 1.0, "b": 2e-6}) == {}
    assert gradient_faults({"a": 1.0, "b": 1e-6}).keys() == {"b"}
    assert gradient_faults({"a": 0.0, "b": 0.0}).keys() == {"a", "b"}
    with pytest.raises(TrainingFailure, match="the gradient of a is nan"):
        gradient_faults({"a": math.nan})


def test_a_fault_of_another_class_restarts_the_count() -> None:
    health = Health()
    health.check_batch({"a": Activity(0.0)}, {"head": 1.0}, 0)
    health.check_batch({"a": Activity(1.0)}, {"head": 1.0}, PATIENCE)
    health.check_batch({"a": Activity(1.0)}, {"head": 1.0}, 2 * PATIENCE - 1)
    with pytest.raises(TrainingFailure, match=r"^a fires all the time") as failure:
        health.check_batch({"a": Activity(1.0)}, {"head": 1.0}, 2 * PATIENCE)
    assert failure.value.failure_class == "saturated"


def test_training_and_evaluation_are_checked_separately() -> None:
    health = Health()
    health.check_batch({"a": Activity(0.0)}, {"head": 1.0}, 1)
    health.check({}, layers(a=0.0), 1)
    health.check_batch({"a": Activity(0.5)}, {"head": 1.0}, 1 + PATIENCE)
    with pytest.raises(TrainingFailure):
        health.check({}, layers(a=0.0), 1 + PATIENCE)


@pytest.mark.parametrize("activity", [Activity(0.0), Activity(1.0), Activity(0.01, never=0.99)], ids=str)
@pytest.mark.parametrize("gradients", [{"conv": 1e-9, "head": 0.0}, {"conv": 1e-7, "head": 0.5}], ids=str)
def test_two_checks_end_a_blocked_network_whose_weights_before_the_block_have_no_gradient(
    activity: Activity, gradients: dict[str, float]
) -> None:
    health = Health(CHAIN)
    health.check_batch({"a": activity}, gradients, 1)
    with pytest.raises(TrainingFailure, match=r"^a ") as failure:
        health.check_batch({"a": activity}, gradients, 4)
    fault = find_fault(activity)
    assert fault is not None
    assert failure.value.failure_class == fault[0], "the class names the cause"


def test_a_silent_network_whose_first_weights_have_a_gradient_may_recover() -> None:
    health = Health(CHAIN)
    for batch in (1, 4, 30, 60):
        health.check_batch({"a": Activity(0.0)}, {"conv": 0.3, "head": 0.0}, batch)
    health.check_batch({"a": Activity(0.01)}, {"conv": 0.3, "head": 0.1}, 1 + PATIENCE)


def test_weights_that_never_receive_a_gradient_end_the_training() -> None:
    health = Health(CHAIN)
    for batch in (1, 4, PATIENCE):
        health.check_batch({"a": Activity(0.1)}, {"conv": 0.0, "head": 0.5}, batch)
    with pytest.raises(TrainingFailure, match=r"^conv has a gradient of 0, where the largest is 0\.5") as failure:
        health.check_batch({"a": Activity(0.1)}, {"conv": 0.0, "head": 0.5}, 1 + PATIENCE)
    assert failure.value.failure_class == "no_gradient"


def test_faults_of_an_older_checkpoint_restart_the_count() -> None:
    health = Health(last_faults={"evaluation": {"a": "silent"}})  # type: ignore[dict-item]  # classes without batches
    health.check({}, layers(a=0.0), 1000)
    with pytest.raises(TrainingFailure):
        health.check({}, layers(a=0.0), 1000 + PATIENCE)


def test_a_failure_travels_between_processes() -> None:
    there = pickle.loads(pickle.dumps(TrainingFailure("silent", "neuron.1 fires too seldom")))
    assert (there.failure_class, str(there)) == ("silent", "neuron.1 fires too seldom")
