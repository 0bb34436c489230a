from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from models.exits.calibration import calibrate
from models.exits.rules import exit_steps


def images(count: int = 200, steps: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns certainties and whether read-outs are right: both rise over the steps, and sure ones are right."""
    generator = torch.Generator().manual_seed(seed)
    clarity = torch.rand(count, generator=generator)
    growth = torch.linspace(0.3, 1.0, steps).unsqueeze(1)
    certainty = (clarity.sqrt() * growth + 0.1 * torch.rand(steps, count, generator=generator)).clamp(0, 1)
    correct = torch.rand(steps, count, generator=generator) < 0.3 + 0.7 * certainty
    return certainty, correct


def outcome(certainty: Tensor, correct: Tensor, thresholds: object) -> tuple[float, float]:
    steps = exit_steps(certainty, thresholds)  # type: ignore[arg-type]
    right = [bool(correct[t - 1, i]) for i, t in enumerate(steps.tolist())]
    return float(steps.double().mean()), 100.0 * (sum(right) / len(right))


def test_the_first_point_is_the_cheapest_with_the_accuracy_of_all_steps() -> None:
    certainty, correct = images()
    first = calibrate(certainty, correct, 12)[0]
    whole = outcome(certainty, correct, 2.0)[1]
    found = [outcome(certainty, correct, float(value)) for value in certainty[:-1].unique()]
    assert first.number == 1
    assert (first.steps, first.accuracy) == outcome(certainty, correct, first.thresholds)
    assert first.accuracy >= whole
    assert first.steps <= min(steps for steps, accuracy in found if accuracy >= whole) + 0.05


def test_the_other_points_are_spread_over_the_mean_steps() -> None:
    steps = sorted(point.steps for point in calibrate(*images(), 12)[1:])
    assert len(steps) >= 6
    assert steps[0] < 1.5
    assert all(b - a < 1.0 for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize("by_step", [False, True])
def test_steps_and_accuracy_are_those_of_the_calibration_images(by_step: bool) -> None:
    certainty, correct = images(60)
    for point in calibrate(certainty, correct, 5, by_step=by_step):
        assert (point.steps, point.accuracy) == outcome(certainty, correct, point.thresholds)


def test_thresholds_by_step_are_no_worse_on_the_calibration_images() -> None:
    certainty, correct = images(60)
    common = {point.number: point for point in calibrate(certainty, correct, 5)}
    for point in calibrate(certainty, correct, 5, by_step=True):
        assert len(point.thresholds) == 3  # type: ignore[arg-type]
        assert point.accuracy >= common[point.number].accuracy
        assert point.steps <= common[point.number].steps


def test_thresholds_have_few_digits() -> None:
    assert all(len(f"{point.thresholds}") <= 8 for point in calibrate(*images(40), 6))


def test_points_differ_and_exit_early() -> None:
    points = calibrate(*images(10), 30)
    assert len({point.thresholds for point in points}) == len(points)
    assert all(point.steps < 4 for point in points)


def test_one_step_has_no_exits() -> None:
    assert calibrate(torch.rand(1, 9), torch.ones(1, 9, dtype=torch.bool), 3) == []
