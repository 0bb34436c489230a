"""A resolved space file: a train file in which some values are still distributions, and the settings of the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from config import distributions, strict_yaml
from config.distributions import Categorical, Distribution, Float, Parameter, Suggester, UniformSampler
from config.errors import ConfigError, InfeasibleError
from config.messages import describe
from models.feasibility import check_feasible
from search.space.feasibility import Refusals, check_constraints, check_initial_weights
from search.space.schema import STATIC_METRICS, BudgetSettings, SpaceSettings
from trainers.config import TrainConfig

MAX_EXAMPLES = 300
"""Random configs that are tried in the search for one that is feasible."""


class InitialConfig(NamedTuple):
    """A config of `start_with`: its values of the searched keys, or the reason why it is left out."""

    name: str
    values: dict[str, Any]
    problem: str | None


@dataclass(frozen=True)
class Space:
    """A checked space file.

    `base` holds the train-file keys that all trials share, as given; `keys` are the searched ones with their
    distributions, in the file's order; `start` are the train files of `start_with` with their names, or the error of
    an entry that is gone since the study started.
    """

    settings: SpaceSettings
    base: Mapping[str, Any]
    keys: Mapping[str, Distribution]
    raw: Mapping[str, Any] = field(repr=False)
    start: tuple[tuple[str, Mapping[str, Any] | ConfigError], ...] = field(default=(), repr=False)

    @property
    def study(self) -> str:
        return self.settings.study

    @property
    def budget(self) -> BudgetSettings:
        return self.settings.budget

    @property
    def objectives(self) -> Mapping[str, Literal["maximize", "minimize"]]:
        return self.settings.objectives

    @property
    def chance(self) -> float:
        """Returns the accuracy of a guess among equal classes, in percent; 10 if their number is unknown.

        It holds until a trial reports the chance level of the data.
        """
        return 100.0 / float(self.base.get("num_classes") or 10)

    @property
    def linear_metrics(self) -> frozenset[str]:
        """Returns the metrics that count by differences and not by ratios, besides accuracy and loss."""
        return frozenset()

    @cached_property
    def initial_configs(self) -> tuple[InitialConfig, ...]:
        """Returns each config of `start_with` with its values, or with the reason why it does not fit."""
        return tuple(self._initial_config(name, config) for name, config in self.start)

    def _initial_config(self, name: str, config: Mapping[str, Any] | ConfigError) -> InitialConfig:
        try:
            if isinstance(config, ConfigError):
                raise config
            return InitialConfig(name, self.values_of(config), None)
        except ConfigError as error:
            return InitialConfig(name, {}, str(error))

    @cached_property
    def example(self) -> TrainConfig:
        """Returns a feasible config: an initial one, or one of 300 random samples.

        Raises ConfigError with the causes if all are refused.
        """
        sampler, refusals = UniformSampler(self.settings.seed), Refusals()
        initial = (values for _, values, problem in self.initial_configs if problem is None)
        for values in itertools.chain(initial, (self.suggest(sampler) for _ in range(MAX_EXAMPLES))):
            try:
                return self.feasible_config(values)
            except InfeasibleError as error:
                refusals.add(error)
        raise refusals.error()

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(distributions.parameters(self.keys))

    def searched_keys(self) -> list[str]:
        """Returns every searched key, those that an option opens included."""
        return list(dict.fromkeys(parameter.key for parameter in self.parameters))

    def active(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str, Distribution]]:
        """Yields each active key with its Optuna name and its distribution.

        A choice comes before the keys that it opens, so that `values` may be filled during the iteration.
        """
        for parameter in self.parameters:
            if parameter.opened_by is None or values[parameter.opened_by[0]] == parameter.opened_by[1]:
                yield parameter.key, parameter.name, parameter.distribution

    def suggest(self, suggester: Suggester) -> dict[str, Any]:
        """Returns a suggested value for each active key."""
        values: dict[str, Any] = {}
        for key, name, distribution in self.active(values):
            values[key] = distribution.suggest(suggester, name)
        return values

    def to_optuna(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns values as Optuna stores them: by parameter name, options by their label."""
        return {name: distributions.label(values[key]) for key, name, _ in self.active(values)}

    def values_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the searched keys of a train file. Raises ConfigError that names a key outside its distribution."""
        values: dict[str, Any] = {}
        for key, _, distribution in self.active(values):
            if key not in config:
                raise ConfigError(
                    f"{key}: missing; it is searched in this study, so the config must have a value of it"
                )
            value = config[key]
            if not distribution.contains(value):
                raise ConfigError(f"{key} is {value!r} there, which is outside its distribution")
            values[key] = distribution.normalize(value)
        return values

    def distribution(self, key: str, values: Mapping[str, Any]) -> Distribution:
        """Returns the distribution of an active key. Raises KeyError."""
        if key in self.keys:
            return self.keys[key]
        return {name: distribution for name, _, distribution in self.active(values)}[key]

    def train_config(self, values: Mapping[str, Any]) -> TrainConfig:
        """Returns the train file of these values. Raises InfeasibleError if they cannot be combined."""
        try:
            config = TrainConfig.model_validate({**self.base, **values})
        except ValidationError as error:
            found = error.errors(include_url=False)
            text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {describe([e])}".lstrip(": ") for e in found)
            raise InfeasibleError(text.replace("\n", "; ")) from None
        check_feasible(config)
        return config

    def feasible_config(self, values: Mapping[str, Any]) -> TrainConfig:
        """Returns `train_config(values)`.

        Raises InfeasibleError also if a constraint on static metrics excludes it, or its initial weights do not fit.
        """
        config = self.train_config(values)
        check_initial_weights(config)
        check_constraints(config, self.settings.constraints)
        return config

    def is_feasible(self, values: Mapping[str, Any]) -> bool:
        try:
            self.feasible_config(values)
        except InfeasibleError:
            return False
        return True

    def yaml(self) -> str:
        """Returns the space file with the command line's overrides."""
        return strict_yaml.dump_yaml(self.raw)

    def constraint_bounds(self) -> dict[str, dict[str, float]]:
        """Returns the `min` and `max` of the constraints, by metric."""
        return {name: bound.model_dump(exclude_none=True) for name, bound in self.settings.constraints.items()}

    def measured_constraints(self) -> list[str]:
        """Returns the measured metrics that have bounds and are not objectives."""
        return [name for name in self.settings.constraints if name not in (*self.objectives, *STATIC_METRICS)]

    def size(self) -> float:
        """Returns the number of configs in the space, infinite with a continuous key."""
        return math.prod((distribution.count() for distribution in self.keys.values()), start=1.0)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields the values of every config of a finite space, in the file's order. Raises ConfigError for others."""
        return _product(self.keys)

    def rung_epochs(self) -> list[int]:
        """Returns the epochs of the rungs of successive halving, below the full training."""
        return self.settings.rung_epochs()


def _product(keys: Mapping[str, Distribution]) -> Iterator[dict[str, Any]]:
    for parts in itertools.product(*(list(_settings(key, distribution)) for key, distribution in keys.items())):
        yield {key: value for part in parts for key, value in part.items()}


def _settings(key: str, distribution: Distribution) -> Iterator[dict[str, Any]]:
    """Yields each value of a key, with each combination of the keys that it opens."""
    if isinstance(distribution, Float):
        raise ConfigError(f"{key}: a table needs choice or int (got uniform or log_uniform, whose values have no end)")
    for value in distribution.values():
        opened = distribution.keys_under(value) if isinstance(distribution, Categorical) else {}
        yield from ({key: value, **inner} for inner in _product(opened))
