"""Sampling near known configs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search.algorithm import prior
from search.space.space import Space

Read = Callable[..., Space]

CONDITIONAL = (
    "space={attn_layer: {choice: {SSA: {attn_scale: {log_uniform: [0.1, 0.5]}}, "
    "TIM: {attn_scale: {choice: [learnable, head_dim]}}}}}"
)


def test_values_of_different_types_are_as_far_apart_as_different_options(read_space: Read) -> None:
    space = read_space(CONDITIONAL)
    one, other = {"attn_layer": "SSA", "attn_scale": 0.2}, {"attn_layer": "TIM", "attn_scale": "learnable"}
    assert prior.distance(space, one, other) == 2.0
    assert 0.0 < prior.distance(space, one, {"attn_layer": "SSA", "attn_scale": 0.3}) < 1.0


def test_a_wide_range_is_sampled_without_listing_it(read_space: Read) -> None:
    space = read_space("space={seed: {int: [0, 1000000000000]}}")
    assert 0 <= prior.sample_uniform(space, 3)["seed"] <= 10**12


@pytest.mark.parametrize("option", ["SSA", "TIM"])
def test_configs_near_another_are_points_of_the_space_and_mostly_close(read_space: Read, option: str) -> None:
    space = read_space(CONDITIONAL)
    center = {"attn_layer": option, "attn_scale": {"SSA": 0.2, "TIM": "head_dim"}[option]}
    samples = [prior.sample_near(space, center, seed) for seed in range(60)]
    assert all(space.values_of(values) == values for values in samples)
    assert len({str(values) for values in samples}) > 2
    assert sum(values == center for values in samples) > 3
    assert samples[7] == prior.sample_near(space, center, 7)


def test_among_numbers_a_choice_moves_to_a_neighbour(read_space: Read) -> None:
    space = read_space("space={step: {choice: [8, 1, 4, 2]}}")
    assert {prior.sample_near(space, {"step": 2}, seed)["step"] for seed in range(40)} == {1, 2, 4}


def test_the_nearest_untried_config_replaces_a_duplicate(read_space: Read) -> None:
    space = read_space("space={step: {int: [1, 4]}}")
    tried = {1: 0, 2: 1}
    assert prior.nearest_untried(space, {"step": 1}, lambda values: tried.get(values["step"])) == {"step": 3}
    assert prior.nearest_untried(space, {"step": 1}, lambda values: 0) is None


def test_recipes_that_do_half_as_well_get_a_sixteenth_of_the_odds() -> None:
    equal, half = prior.odds(297, 99, 594, 198), prior.odds(297, 49, 594, 148)
    assert prior.odds(0, 0, 0, 0) == pytest.approx(0.4 / 0.6)
    assert half / equal == pytest.approx(1 / 16, rel=0.01)
    assert prior.odds(10, 3, 40, 12) == pytest.approx(0.4 / 0.6 / 2 * (4 / 13 / (10 / 33)) ** 4)
