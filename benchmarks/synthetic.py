"""Made-up questions for a search: learning curves in closed form, as tables that are computed and not stored.

A family changes one trait of the base question, such as its noise or its size; `mixed` takes each trait at random. The
instances of a family differ in their seed. Instance `k` of every family has the same effects of the keys, as far as the
traits permit, so families differ in their trait alone. The name of a table is `synthetic/FAMILY/INSTANCE`.

Accuracy after a full training falls with a loss: power laws of each key's distance from its best value, a power law of
the model's size, products of the effects of pairs of keys, and a residual per config. The logarithm of the cost is a
sum of effects. Learning curves are power laws of the epoch whose time constant depends on the keys. What a search
observes has noise by seed and epoch; the truth is its expectation.
"""

from __future__ import annotations

import itertools
import math
import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from benchmarks.synthetic_table import CHANCE, COSTS, Settings, SyntheticCurves, Traits, rise
from config.distributions import Categorical
from config.errors import ConfigError, unknown_name
from results.pareto import Floats
from search.simulation.foreign_tables import ForeignSpace
from search.space.schema import SpaceSettings

PREFIX = "synthetic"
ORDERED = "x"
"""First letter of the ordered keys."""
NUM_INSTANCES = 4
TIME_CONSTANT = 1.0
"""Median of the epochs in which a curve rises to half its height."""


BASE = Traits()
FAMILIES: Mapping[str, Traits] = {
    "base": BASE,
    "cost_late": replace(BASE, drift=0.4),
    "flat": replace(BASE, steepness=0.03),
    "steep": replace(BASE, steepness=5.0),
    "misleading": replace(BASE, slowness=1.0),
    "noisy": replace(BASE, noise=0.7),
    "rugged": replace(BASE, residual=0.6),
    "size_100": replace(BASE, levels=(5, 4), options=(5,)),
    "size_10_000": replace(BASE, levels=(10, 10, 5, 5), options=(4,)),
    "size_1_000_000": replace(BASE, levels=(20, 20, 10, 10, 5), options=(5,)),
    "two_keys": replace(BASE, levels=(50, 40), options=()),
    "twelve_keys": replace(BASE, levels=(3, 3, 3, 3, 2, 2, 2, 2, 2, 2), options=(2, 2)),
    "categorical": replace(BASE, levels=(), options=(6, 5, 4, 4, 4)),
    "conditional": replace(BASE, levels=(6, 5, 4), options=(), opened=((5,), (4, 3), ())),
    "useless": replace(BASE, levels=(6, 5, 4, 4, 3, 3), useless=3),
    "three_objectives": replace(BASE, num_objectives=3),
    "failing": replace(BASE, failing=0.3),
    "heavy_tails": replace(BASE, decades=2.0, tail=4.0),
    "epochs_9": replace(BASE, epochs=9),
    "epochs_100": replace(BASE, epochs=100),
    "mixed": BASE,
}
"""Traits by family; those of `mixed` are the instance's."""

SHAPE = ("levels", "options", "opened", "useless")
VALUES = tuple(one.name for one in fields(Traits) if one.name not in SHAPE)
TOO_SLOW_TO_MIX = ("size_1_000_000", "twelve_keys", "epochs_100")
"""Families whose many configs or trials take minutes with three objectives."""


def names(family: str, num_instances: int = NUM_INSTANCES) -> list[str]:
    """Returns the names of a family's first tables. Raises ConfigError for an unknown family."""
    if family not in FAMILIES:
        raise ConfigError(unknown_name("family", family, FAMILIES))
    return [f"{PREFIX}/{family}/{instance}" for instance in range(num_instances)]


def is_name(name: str) -> bool:
    return name.startswith(f"{PREFIX}/")


def load(name: str) -> SyntheticCurves:
    """Returns the table of a name. Raises ConfigError if there is none."""
    _, family, instance = (*name.split("/", 2), "", "")[:3]
    names(family)
    if not instance.isdecimal():
        raise ConfigError(f"{name}: must be {PREFIX}/FAMILY/INSTANCE, with a whole number from 0 (got {instance!r})")
    traits = mixed(int(instance)) if family == "mixed" else FAMILIES[family]
    return make_table(name.replace("/", "_"), traits, int(instance))


def mixed(instance: int) -> Traits:
    """Returns traits at random, each from those of all families but the slowest.

    Half of the traits are those of the base question; keys are drawn together.
    """
    families = [traits for name, traits in FAMILIES.items() if name not in TOO_SLOW_TO_MIX]
    found = {}
    for name in VALUES:
        generator, usual = _generator(instance, "mixed", name), getattr(BASE, name)
        others = sorted({getattr(traits, name) for traits in families} - {usual})
        found[name] = others[int(generator.integers(len(others)))] if others and generator.random() < 0.5 else usual
    shapes = list(dict.fromkeys(tuple(getattr(traits, name) for name in SHAPE) for traits in families))
    shape = shapes[int(_generator(instance, "mixed", "shape").integers(len(shapes)))]
    return replace(BASE, **found, **dict(zip(SHAPE, shape, strict=True)))


def _generator(instance: int, *words: object) -> np.random.Generator:
    """Returns the generator of one purpose, so that a trait changes nothing else."""
    return np.random.default_rng([instance, zlib.crc32(repr(words).encode())])


def make_table(name: str, traits: Traits, instance: int) -> SyntheticCurves:
    """Returns the table of these traits and of an instance's effects."""
    space = _space(name, traits)
    question = _Question(Settings(space), traits, instance)
    accuracy, costs, failed_after = question.accuracy(), question.costs(), question.failed_after()
    is_success = np.isinf(failed_after) & (accuracy > CHANCE)
    corner = {"accuracy": float(np.median(accuracy[is_success]))}
    return SyntheticCurves(
        space=space,
        configs=question.configs,
        traits=traits,
        instance=instance,
        corner=corner | {name: float(np.quantile(cost[is_success], 0.98)) for name, cost in costs.items()},
        ends={"accuracy": accuracy, **costs},
        log_tau=question.log_tau(accuracy),
        drift={name: question.drift(name) for name in costs},
        noise=traits.noise * float(accuracy.std()),
        epoch_s=np.sqrt(costs["cost"] / np.median(costs["cost"])),
        failed_after=failed_after,
    )


class _Question:
    """Effects of the keys, each from a generator of the instance, the purpose and the key."""

    def __init__(self, configs: Settings, traits: Traits, instance: int) -> None:
        self.configs, self.traits, self.instance = configs, traits, instance
        first_useless = len(traits.levels) - traits.useless
        useless = {ordered(number) for number in range(first_useless, len(traits.levels))}
        self.names = list(configs.keys)
        self.is_useful = np.array([name not in useless for name in self.names])
        self.units = [self._unit(name, settings) for name, settings in configs.keys.items()]
        self.best = self._per_key("best", lambda one: one.uniform(0.1, 0.9))
        self.size_weights = self._size_weights()
        self.size = self._linear(self.size_weights)

    def _generator(self, *words: object) -> np.random.Generator:
        return _generator(self.instance, *words)

    def _per_key(self, purpose: str, sample: Callable[[np.random.Generator], float]) -> Floats:
        """Returns a number per key, 0 for useless ones."""
        found = [sample(self._generator(purpose, name)) for name in self.names]
        return np.where(self.is_useful, found, 0.0)

    def _unit(self, name: str, settings: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns the position, 0 to 1, of each setting of a key: in order for values, at random for options.

        The keys that an option opens move it within the option's part of the range.
        """
        distribution = self.configs.space.keys[name]
        assert isinstance(distribution, Categorical)
        if name.startswith(ORDERED):
            return np.linspace(0.0, 1.0, len(settings))
        order = self._generator("order", name).permutation(len(distribution.options))
        found = []
        for setting in settings:
            inner = [
                (one.values().index(setting[key]) + 0.5) / one.count()
                for key, one in distribution.keys_under(setting[name]).items()
                if isinstance(one, Categorical)
            ]
            found.append(order[distribution.options.index(setting[name])] + (np.mean(inner) if inner else 0.5))
        return np.array(found) / len(order)

    def _size_weights(self) -> Floats:
        """Returns the weights of the keys in the size of a model, half of them 0; their sum is 1."""
        weights = self._per_key("size", lambda one: one.exponential() * (one.random() < 0.5))
        weights = weights if weights.any() else self.is_useful.astype(float)
        return np.asarray(weights / weights.sum())

    def _linear(self, weights: Floats) -> Floats:
        """Returns the weighted sum of the positions `[configs]`."""
        return self.configs.sum([weight * unit for weight, unit in zip(weights, self.units, strict=True)])

    def _standard(self, *purpose: str) -> Floats:
        """Returns a random property `[configs]` of mean 0 and deviation 1: half from the keys, half residual."""
        name = "/".join(purpose)
        of_keys = self._linear(self._per_key(name, lambda one: one.normal()))
        residual = self._generator(name).standard_normal(len(self.configs))
        return _standardized(_standardized(of_keys) + residual)

    def accuracy(self) -> Floats:
        """Returns the expected accuracy `[configs]` after a full training, in percent."""
        top = self._generator("top").uniform(65.0, 90.0)
        return np.asarray(CHANCE + (top - CHANCE) * np.exp(-self.traits.steepness * self._loss()))

    def _loss(self) -> Floats:
        """Returns the loss `[configs]`: 0 for the best config, 1 for one of the worst twentieth."""
        weights = self._per_key("weight", lambda one: one.exponential())
        powers = self._per_key("power", lambda one: one.uniform(1.0, 2.0))
        distances = [unit - best for unit, best in zip(self.units, self.best, strict=True)]
        of_keys = [
            weight * np.abs(distance) ** power
            for weight, distance, power in zip(weights, distances, powers, strict=True)
        ]
        loss = self.configs.sum(of_keys) + (1.0 + 9.0 * self.size) ** -0.5
        for first, second in self._pairs():
            weight = self._generator("pair", self.names[first], self.names[second]).normal()
            weight *= 2.0 * math.sqrt(weights[first] * weights[second])
            loss += weight * self.configs.product(first, second, distances)
        residual = self._generator("residual").standard_normal(len(loss))
        loss = math.sqrt(1.0 - self.traits.residual**2) * _standardized(loss) + self.traits.residual * residual
        loss -= loss.min()
        return np.asarray(loss / np.quantile(loss, 0.95))

    def _pairs(self) -> list[tuple[int, int]]:
        """Returns the pairs of keys that interact, about one per key."""
        pairs = list(itertools.combinations(np.flatnonzero(self.is_useful).tolist(), 2))
        chances = [
            self._generator("interacts", self.names[first], self.names[second]).random() for first, second in pairs
        ]
        return [pairs[position] for position in np.argsort(chances)[: int(self.is_useful.sum())]]

    def costs(self) -> dict[str, Floats]:
        """Returns the costs `[configs]` after a full training, at least 1."""
        return {name: self._cost(name) for name in COSTS[: self.traits.num_objectives - 1]}

    def _cost(self, name: str) -> Floats:
        share = 1.0 if name == COSTS[0] else 0.5
        others = self._per_key(name, lambda one: 0.3 * one.exponential() * (one.random() < 0.5))
        scale = self._linear(share * self.size_weights + others / share)
        scale += 0.02 * self._generator("residual of", name).standard_normal(len(scale))
        scale = (scale - scale.min()) / np.ptp(scale)
        return np.asarray(10.0 ** (self.traits.decades * scale + self.traits.tail * scale**6))

    def log_tau(self, accuracy: Floats) -> Floats:
        """Returns the logarithms of the time constants `[configs]`, in epochs."""
        spread, height = float(accuracy.std()), float(accuracy.mean()) - CHANCE
        epochs, last, step = np.ones(1), float(self.traits.epochs), 1e-3
        slower = [rise(epochs, TIME_CONSTANT * math.exp(sign * step), last)[0] for sign in (-1.0, 1.0)]
        points_per_unit = height * (slower[0] - slower[1]) / (2.0 * step)
        effects = self.traits.own_speed * self._standard("speed") + self.traits.slowness * _standardized(accuracy)
        return np.asarray(math.log(TIME_CONSTANT) + np.clip(effects * spread / points_per_unit, -3.0, 3.0))

    def drift(self, cost: str) -> Floats:
        """Returns the decades `[configs]` by which a cost is higher at the start than at the end."""
        return np.asarray(self.traits.drift * self._standard("drift of", cost))

    def failed_after(self) -> Floats:
        """Returns the epochs `[configs]` after which a training diverges, infinite for never."""
        generator = self._generator("failing")
        size = len(self.configs)
        first, second = generator.permutation(np.flatnonzero(self.is_useful))[:2]
        signs = np.zeros(len(self.names))
        signs[[first, second]] = generator.choice([-1.0, 1.0], 2)
        corner = self._linear(signs) + 0.1 * generator.standard_normal(size)
        is_failed = (corner > np.quantile(corner, 1.0 - self.traits.failing)) & (generator.random(size) < 0.9)
        epochs = np.minimum(0.2 + generator.exponential(2.0, size), self.traits.epochs)
        return np.where(is_failed, epochs, np.inf)


def _standardized(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / (values.std() or 1.0))


def _space(name: str, traits: Traits) -> ForeignSpace:
    keys: dict[str, Categorical] = {ordered(number): _values(size) for number, size in enumerate(traits.levels)}
    keys |= {f"option{number}": Categorical(_letters(size)) for number, size in enumerate(traits.options)}
    if traits.opened:
        inner = [
            {f"{letter}{number}": _values(size) for number, size in enumerate(sizes)}
            for letter, sizes in zip(_letters(len(traits.opened)), traits.opened, strict=True)
        ]
        keys["opening"] = Categorical(_letters(len(traits.opened)), tuple(inner))
    raw = {
        "study": name,
        "base": "none",
        "objectives": {"accuracy": "maximize", **dict.fromkeys(COSTS[: traits.num_objectives - 1], "minimize")},
        "space": {key: _raw(distribution) for key, distribution in keys.items()},
        "budget": {"epochs": traits.epochs, "epochs_total": traits.epochs},
    }
    return ForeignSpace(
        SpaceSettings.model_validate(raw),
        base={},
        keys=keys,
        raw=raw,
        chance_level=CHANCE,
        metrics=frozenset(("accuracy", *COSTS[: traits.num_objectives - 1])),
    )


def ordered(number: int) -> str:
    return f"{ORDERED}{number}"


def _values(size: int) -> Categorical:
    return Categorical(tuple(range(1, size + 1)))


def _letters(size: int) -> tuple[str, ...]:
    return tuple(string.ascii_lowercase[:size])


def _raw(distribution: Categorical) -> dict[str, Any]:
    """Returns a choice as a space file has it."""
    if not distribution.conditional:
        return {"choice": list(distribution.options)}
    opened = zip(distribution.options, distribution.conditional, strict=True)
    return {
        "choice": {
            option: {key: _raw(one) for key, one in keys.items() if isinstance(one, Categorical)} or None
            for option, keys in opened
        }
    }
