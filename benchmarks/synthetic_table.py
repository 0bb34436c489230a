"""Tables of learning curves in closed form: their configs, of which there may be a million, and their curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from config.distributions import Categorical
from config.errors import ConfigError
from results.pareto import Floats
from search.algorithm.samplers import config_key
from search.simulation import foreign_tables
from search.simulation.foreign_tables import ForeignSpace
from search.simulation.recorded_curves import Curve

NUM_SEEDS = 8
CHANCE = 10.0
COSTS = ("cost", "latency")
"""Metrics to minimize; the second one is an objective in questions of three."""
COST_NOISE = 0.01
"""Standard deviation of the logarithm of a cost that is measured every epoch."""


@dataclass(frozen=True)
class Traits:
    """What families vary.

    `levels` are the numbers of values of the ordered keys, `options` those of the categorical ones, and `opened` the
    numbers of values of the keys that each option of one more key opens. The last `useless` ordered keys do nothing.

    `steepness`: an accuracy falls to chance by this exponent from the best to a poor config. `residual` is the share of
    the loss that no key explains. `slowness` links accuracy with a slow start: from about 0.6 on, first epochs mislead.
    `own_speed` is the part of the start that is independent of the end. Both, and `noise`, the standard deviation
    between seeds, are in units of the spread of the final accuracies.

    `decades` are the orders of magnitude of the costs; a few configs have up to `tail` more. `drift` is by how many the
    cost typically changes during the training; without, it is known from the first epoch. `failing` is the share of the
    configs, in one corner of two keys, in which most trainings diverge.
    """

    levels: tuple[int, ...] = (6, 6, 5, 4)
    options: tuple[int, ...] = (3,)
    opened: tuple[tuple[int, ...], ...] = ()
    useless: int = 0
    steepness: float = 0.4
    residual: float = 0.1
    slowness: float = 0.0
    own_speed: float = 0.7
    noise: float = 0.1
    decades: float = 1.5
    tail: float = 0.0
    drift: float = 0.0
    failing: float = 0.0
    num_objectives: int = 2
    epochs: int = 27


Effects = list[Floats]
"""For each top-level key, one number per setting."""


class Settings(Sequence[dict[str, Any]]):
    """The configs of a space: the product of its top-level keys' settings, each created on access.

    A setting is a value of a key with values of the keys that it opens; `keys` holds those of each top-level key.
    """

    def __init__(self, space: ForeignSpace) -> None:
        self.space = space
        self.keys = {key: list(replace(space, keys={key: one}).grid()) for key, one in space.keys.items()}
        self.shape = tuple(map(len, self.keys.values()))
        self._positions = {key: {config_key(one): at for at, one in enumerate(self.keys[key])} for key in self.keys}

    def __len__(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, number: Any) -> Any:
        positions = np.unravel_index(range(len(self))[number], self.shape)
        settings = (found[int(at)] for found, at in zip(self.keys.values(), positions, strict=True))
        return {key: value for setting in settings for key, value in setting.items()}

    def number(self, config: Mapping[str, Any]) -> int:
        """Returns the position of a config. Raises KeyError or ValueError if it is not in the space."""
        number = 0
        for key, distribution in self.space.keys.items():
            assert isinstance(distribution, Categorical)
            names = [key, *distribution.keys_under(config[key])]
            number = (
                number * len(self.keys[key]) + self._positions[key][config_key({name: config[name] for name in names})]
            )
        return number

    def sum(self, effects: Effects) -> Floats:
        """Returns the sum of the keys' effects for every config `[configs]`."""
        found = np.zeros(self.shape)
        for axis, effect in enumerate(effects):
            found += _along(effect, axis, len(self.shape))
        return found.ravel()

    def product(self, first: int, second: int, effects: Effects) -> Floats:
        """Returns the product of the effects of two keys for every config `[configs]`."""
        parts = [_along(effects[axis], axis, len(self.shape)) for axis in (first, second)]
        return np.asarray(np.broadcast_to(parts[0] * parts[1], self.shape)).ravel()


def _along(effect: Floats, axis: int, num_axes: int) -> Floats:
    return effect.reshape([-1 if one == axis else 1 for one in range(num_axes)])


@dataclass(frozen=True)
class SyntheticCurves:
    """A table of learning curves in closed form.

    All arrays are `[configs]`. `ends` are the expected values after a full training, `log_tau` is the logarithm of a
    curve's time constant in epochs, `drift` the decades by which each cost is higher at the start than at the end.
    `failed_after` are the epochs after which a training diverges, infinite for never.
    """

    space: ForeignSpace
    configs: Settings
    traits: Traits
    instance: int
    corner: Mapping[str, float]
    ends: Mapping[str, Floats]
    log_tau: Floats
    drift: Mapping[str, Floats]
    noise: float
    """Standard deviation of the accuracy between seeds, in percent."""
    epoch_s: Floats
    failed_after: Floats
    seeds: tuple[int, ...] = tuple(range(NUM_SEEDS))

    @property
    def epochs(self) -> int:
        """Returns the epochs of a full training."""
        return self.traits.epochs

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of a config. Raises ConfigError if it is not in the table."""
        try:
            return self.configs.number(values)
        except (KeyError, ValueError):
            raise ConfigError(
                f"{self.space.study} holds no curve of {dict(values)!r}; see the keys of its space"
            ) from None

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the curve of a config's number and of a position in `seeds`."""
        generator = np.random.default_rng([self.instance, index, seed_position])
        columns = {"accuracy": self._accuracy(index, generator)}
        for name, drift in self.drift.items():
            columns[name] = self._cost(self.ends[name][index], drift[index], generator)
        failed_after = float(self.failed_after[index])
        failure = None if math.isinf(failed_after) else ("diverged", failed_after)
        return foreign_tables.make_curve(self.space, columns, float(self.epoch_s[index]), failure)

    def _accuracy(self, index: int, generator: np.random.Generator) -> Floats:
        epochs = np.arange(1.0, self.epochs + 1.0)
        expected = CHANCE + (self.ends["accuracy"][index] - CHANCE) * rise(
            epochs, np.exp(self.log_tau[index]), epochs[-1]
        )
        of_seed, of_epoch = generator.normal(), generator.normal(size=self.epochs)
        return np.asarray(np.clip(expected + self.noise * (of_seed + of_epoch) / math.sqrt(2.0), 0.0, 100.0))

    def _cost(self, end: float, drift: float, generator: np.random.Generator) -> Floats:
        """Returns a cost by epoch; it has noise only where it is measured anew each epoch."""
        if not self.traits.drift:
            return np.full(self.epochs, end)
        left = 1.0 - np.arange(1.0, self.epochs + 1.0) / self.epochs
        return np.asarray(end * 10.0 ** (drift * left**2 + COST_NOISE * generator.normal(size=self.epochs)))

    def true_values(self) -> Floats:
        """Returns the objectives `[configs, M]` of `ends`."""
        values = np.stack([self.ends[name] for name in self.space.objectives], axis=1)
        is_success = np.isinf(self.failed_after) & (self.ends["accuracy"] > CHANCE)
        return np.where(is_success[:, None], values, np.nan)


def rise(epochs: Floats, tau: float, last: float) -> Floats:
    """Returns the share of its final height that a curve has reached after epochs, a power law of time constant tau."""
    return np.asarray((epochs / (epochs + tau)) * ((last + tau) / last))
