"""Sampling near known configs: published recipes, and the best so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from config.distributions import Categorical, Distribution, UniformSampler
from search.space.space import Space

INITIAL_SHARE = 0.4
"""Share of the first suggestions that is sampled near a recipe."""
HALF_LIFE = 40
"""Trials after which the odds of a recipe are halved; they fall as 1/n."""
SHARPNESS = 4
"""Power of the relative success of trials near recipes, in the odds of the next one."""

SPREAD = 0.2
"""Standard deviation of the change of a number, as a share of its range."""
CHANGE_PROBABILITY = 0.5
"""Probability that a key changes."""
MAX_GRID = 20_000
"""Size of a space up to which untried configs are enumerated."""


def odds(near: int, near_good: int, compared: int, good: int) -> float:
    """Returns the odds that a config is sampled near a recipe.

    Of `compared` trials, `good` are in the best third; `near` and `near_good` of these are near a recipe. The odds
    fall with the number of trials, and with the fourth power of the success rate near recipes over that elsewhere.
    """
    others, others_good = compared - near, good - near_good
    ratio = ((near_good + 1.0) / (near + 3.0)) / ((others_good + 1.0) / (others + 3.0))
    return INITIAL_SHARE / (1.0 - INITIAL_SHARE) / (1.0 + compared / HALF_LIFE) * ratio**SHARPNESS


def sample_near(space: Space, center: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Returns values near a known config: each key keeps its value or changes a little; a choice may change freely."""
    return change(space, center, UniformSampler(seed), CHANGE_PROBABILITY)


def change(space: Space, center: Mapping[str, Any], rng: UniformSampler, probability: float) -> dict[str, Any]:
    """Returns the values of a known config, of which each changes with a probability, numbers only a little."""
    values: dict[str, Any] = {}
    for key, _, distribution in space.active(values):
        values[key] = _near(distribution, center.get(key), rng, probability)
    return values


def sample_uniform(space: Space, seed: int) -> dict[str, Any]:
    """Returns values sampled uniformly from the space."""
    return space.suggest(UniformSampler(seed))


def nearest_untried(
    space: Space, values: Mapping[str, Any], find: Callable[[Mapping[str, Any]], int | None]
) -> dict[str, Any] | None:
    """Returns the nearest values that no trial has, or None if the space, which must be finite, is exhausted."""
    untried = (other for other in space.grid() if find(other) is None)
    return min(untried, key=lambda other: distance(space, values, other), default=None)


def distance(space: Space, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Returns the distance of two configs: summed over the keys, a share of the range, or 1 where options differ."""
    total = 0.0
    for key in sorted(a.keys() | b.keys()):
        if key not in a or key not in b:
            total += 1.0
        elif a[key] != b[key]:
            distribution = space.distribution(key, a)
            if isinstance(distribution, Categorical) or not (
                distribution.contains(a[key]) and distribution.contains(b[key])
            ):
                total += 1.0
            else:
                total += abs(distribution.to_unit(a[key]) - distribution.to_unit(b[key]))
    return total


def _near(distribution: Distribution, center: Any, rng: UniformSampler, probability: float) -> Any:
    if center is None or not distribution.contains(center):
        return distribution.suggest(rng, "")
    if rng.random() >= probability:
        return center
    if isinstance(distribution, Categorical):
        return _option_near(distribution, center, rng)
    return distribution.from_unit(min(max(rng.gauss(distribution.to_unit(center), SPREAD), 0.0), 1.0))


def _option_near(distribution: Categorical, center: Any, rng: UniformSampler) -> Any:
    """Returns a neighbour among numbers, and any option otherwise."""
    options = list(distribution.options)
    if all(isinstance(option, int | float) and not isinstance(option, bool) for option in options):
        options.sort()
        position = options.index(center) + rng.choice((-1, 1))
        return options[min(max(position, 0), len(options) - 1)]
    return rng.choice(options)
