"""Draws from a space without Optuna: for a look at it, and to see that something of it can be built."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

from config.errors import ConfigError, InfeasibleError
from search.space.feasibility import check_constraints
from search.space.space import Space
from trainers.config import TrainConfig

MAX_ATTEMPTS = 300


class UniformSampler:
    """Draws uniformly, by the interface of an Optuna trial."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return min(max(math.exp(self.random.uniform(math.log(low), math.log(high))), low), high)
        return self.random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return round(self.suggest_float(name, low, high, log=True))
        return self.random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.random.choice(choices)


def example(space: Space) -> TrainConfig:
    """Returns a config of the space that can be built: a recipe that it starts with, or one that is drawn.

    Raises ConfigError with the causes where every one is refused.
    """
    dice, refused = UniformSampler(space.settings.seed), Counter[str]()
    known = [values for _, values, problem in space.initial_configs() if problem is None]
    for attempt in range(len(known) + MAX_ATTEMPTS):
        try:
            config = space.train_config(known[attempt] if attempt < len(known) else space.suggest(dice))
            check_constraints(config, space.settings.constraints)
        except InfeasibleError as error:
            refused[str(error).split(" (got")[0]] += 1
        else:
            return config
    raise describe_refusals(refused)


def describe_refusals(refused: Counter[str]) -> ConfigError:
    """Returns what is said of a space in which no config can be built."""
    causes = "; ".join(f"{cause} ({count}x)" for cause, count in refused.most_common(3))
    return ConfigError(
        f"space: all of {refused.total()} configs drawn were refused: {causes}. Widen space or constraints"
    )
