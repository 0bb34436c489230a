"""Draws near configs that are known: recipes that were published, and the best so far."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from config.distributions import Categorical, Distribution
from search.space.space import Space

SHARE = 0.4
"""Of the first draws, those near a recipe."""
FADES_AFTER = 40
"""Trials after which the share of a prior is halved; it falls as 1/n."""
SHARPNESS = 4
"""Power of how much better those near recipes do than others, in the odds of the next ones."""

SPREAD = 0.2
"""Standard deviation of a number's step away from the known config, as a share of its range."""
MOVED = 0.5
"""Chance that a key moves at all."""
LARGEST_GRID = 20_000


def probability(near: int, near_good: int, compared: int, good: int) -> float:
    """Returns the odds that a draw is to be near a recipe.

    Of `compared` trials `good` were among the best third, and of those `near` a recipe `near_good` were. The odds
    fade with the trials, and with the fourth power of how well those near recipes do beside others: half as well, a
    sixteenth.
    """
    others, others_good = compared - near, good - near_good
    ratio = ((near_good + 1.0) / (near + 3.0)) / ((others_good + 1.0) / (others + 3.0))
    return SHARE / (1.0 - SHARE) / (1.0 + compared / FADES_AFTER) * ratio**SHARPNESS


def sample_near(space: Space, center: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Returns values near a known config: each key keeps its value or moves a little; a choice may jump."""
    rng = random.Random(seed)
    values: dict[str, Any] = {}
    for key, domain in space.keys.items():
        values[key] = _near(domain, center.get(key), rng)
        if isinstance(domain, Categorical):
            for inner, opened in domain.keys_under(values[key]).items():
                values[inner] = _near(opened, center.get(inner), rng)
    return values


def sample_uniform(space: Space, seed: int) -> dict[str, Any]:
    """Returns values drawn evenly from the whole space."""
    return space.suggest(_Uniform(random.Random(seed)))


def nearest_untried(space: Space, values: Mapping[str, Any], known: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Returns the values nearest to these that no trial has, None where a finite space holds no more."""
    if space.size() > LARGEST_GRID:
        return None
    new = (other for other in space.grid() if known(other) is None)
    return min(new, key=lambda other: distance(space, values, other), default=None)


def distance(space: Space, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Returns how far two configs are apart: over all keys, a share of the range, or 1 where options differ."""
    total = 0.0
    for key in a.keys() | b.keys():
        if key not in a or key not in b:
            total += 1.0
        elif a[key] != b[key]:
            domain = space.distribution(key, a)
            if isinstance(domain, Categorical) or not (domain.contains(a[key]) and domain.contains(b[key])):
                total += 1.0
            else:
                total += abs(domain.to_unit(a[key]) - domain.to_unit(b[key]))
    return total


def _near(domain: Distribution, center: Any, rng: random.Random) -> Any:
    if center is None or not domain.contains(center):
        return domain.suggest(_Uniform(rng), "")
    if rng.random() >= MOVED:
        return center
    if isinstance(domain, Categorical):
        return _option_near(domain, center, rng)
    return domain.from_unit(min(max(rng.gauss(domain.to_unit(center), SPREAD), 0.0), 1.0))


def _option_near(domain: Categorical, center: Any, rng: random.Random) -> Any:
    """Returns an option: of numbers a neighbour of the center, of others any."""
    options = list(domain.options)
    if all(isinstance(option, int | float) and not isinstance(option, bool) for option in options):
        options.sort()
        position = options.index(center) + rng.choice((-1, 1))
        return options[min(max(position, 0), len(options) - 1)]
    return rng.choice(options)


class _Uniform:
    """Draws evenly from a distribution."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        from config.distributions import Float

        return Float(low, high, log).from_unit(self.rng.random())

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        from config.distributions import Integer

        return (
            Integer(low, high, step, log).from_unit(self.rng.random())
            if log
            else self.rng.randrange(low, high + 1, step)
        )

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.rng.choice(choices)
