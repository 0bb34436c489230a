"""The space file: a train file in which some values are still distributions, and how they are to be searched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import (
    ValidationError,
)

from config import distributions
from config.distributions import Categorical, Distribution, Float, Suggester
from config.errors import ConfigError, InfeasibleError
from config.messages import describe
from models.feasibility import check_feasible
from search.space import initial_configs
from search.space.schema import NON_ADAPTIVE, STATIC_METRICS, BudgetSettings, SpaceSettings
from trainers import config as train_file
from trainers.config import TrainConfig


@dataclass(frozen=True)
class Space:
    """A checked space file.

    `base` holds the train-file keys that all trials share, as given; `keys` are the searched ones with their
    distributions, in the file's order.
    """

    settings: SpaceSettings
    base: Mapping[str, Any]
    keys: Mapping[str, Distribution]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def study(self) -> str:
        return self.settings.study

    @property
    def budget(self) -> BudgetSettings:
        return self.settings.budget

    @property
    def objectives(self) -> Mapping[str, Literal["maximize", "minimize"]]:
        return self.settings.objectives

    def searched_keys(self) -> list[str]:
        """Returns every searched key, those that an option opens included."""
        found: dict[str, None] = {}
        for key, domain in self.keys.items():
            found[key] = None
            for opened in domain.conditional if isinstance(domain, Categorical) else ():
                found.update(dict.fromkeys(opened))
        return list(found)

    def suggest(self, suggester: Suggester) -> dict[str, Any]:
        """Returns a value for each active key. A key that several options open has its option in its Optuna name."""
        values: dict[str, Any] = {}
        for key, domain in self.keys.items():
            values[key] = domain.suggest(suggester, key)
            if isinstance(domain, Categorical):
                for inner, opened in domain.keys_under(values[key]).items():
                    values[inner] = opened.suggest(suggester, self.parameter_name(key, values[key], inner))
        return values

    def to_optuna(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns drawn values as Optuna stores them: by parameter name, options by their label."""
        found: dict[str, Any] = {}
        for key, domain in self.keys.items():
            found[key] = distributions.label(values[key])
            for inner in domain.keys_under(values[key]) if isinstance(domain, Categorical) else ():
                found[self.parameter_name(key, values[key], inner)] = distributions.label(values[inner])
        return found

    def parameter_name(self, key: str, option: Any, inner: str) -> str:
        """Returns the Optuna name of a key that `option` of `key` opens."""
        domain = self.keys[key]
        assert isinstance(domain, Categorical)
        shared = sum(inner in opened for opened in domain.conditional) > 1
        return f"{key}={distributions.label(option)}.{inner}" if shared else inner

    def train_config(self, values: Mapping[str, Any]) -> TrainConfig:
        """Returns the train file of these values. Raises InfeasibleError where they do not go together."""
        try:
            config = TrainConfig.model_validate({**self.base, **values})
        except ValidationError as error:
            found = error.errors(include_url=False)
            text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {describe([e])}".lstrip(": ") for e in found)
            raise InfeasibleError(text.replace("\n", "; ")) from None
        check_feasible(config)
        return config

    def yaml(self) -> str:
        """Returns the space file as it was read, overrides put in."""
        return train_file.dump_yaml(self.raw)

    def values_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the searched keys of a known train file. Raises ConfigError naming the key that is out of range."""
        values: dict[str, Any] = {}
        for key, domain in self.keys.items():
            values[key] = _held(key, domain, config)
            if isinstance(domain, Categorical):
                for inner, opened in domain.keys_under(values[key]).items():
                    values[inner] = _held(inner, opened, config)
        return values

    def initial_configs(self) -> list[tuple[str, dict[str, Any], str | None]]:
        """Returns each config of start_with with its values, or with the sentence that says why it does not fit."""
        return list(self._initial_configs)

    @cached_property
    def _initial_configs(self) -> list[tuple[str, dict[str, Any], str | None]]:
        found: list[tuple[str, dict[str, Any], str | None]] = []
        for entry in self.settings.start_with:
            try:
                configs = initial_configs.resolve(entry)
            except ConfigError as error:  # deleted since the study began, which holds what was in it
                found.append((entry, {}, str(error)))
                continue
            for name, config in configs:
                try:
                    found.append((name, self.values_of(config), None))
                except ConfigError as error:
                    found.append((name, {}, str(error)))
        return found

    def constraint_bounds(self) -> dict[str, dict[str, float]]:
        """Returns the constraints by metric: what `min` and `max` there are."""
        return {name: bound.model_dump(exclude_none=True) for name, bound in self.settings.constraints.items()}

    def measured_constraints(self) -> list[str]:
        """Returns the measured metrics that have bounds and are no objectives."""
        return [name for name in self.settings.constraints if name not in (*self.objectives, *STATIC_METRICS)]

    def size(self) -> float:
        """Returns the number of configs in the space, infinite where a key is real."""
        total = 1.0
        for domain in self.keys.values():
            total *= domain.count()
        return total

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields the values of every config of a finite space, in the file's order. Raises ValueError for real keys."""
        for values in itertools.product(*(_every(key, domain) for key, domain in self.keys.items())):
            yield {key: value for part in values for key, value in part.items()}

    def distribution(self, key: str, values: Mapping[str, Any]) -> Distribution:
        """Returns the distribution of an active key, that of the option which opens it where there is one."""
        if key in self.keys:
            return self.keys[key]
        for outer, domain in self.keys.items():
            opened = domain.keys_under(values[outer]) if isinstance(domain, Categorical) else {}
            if key in opened:
                return opened[key]
        raise KeyError(key)

    def rung_epochs(self) -> list[int]:
        """Returns the epochs of successive halving at which trials are compared, below the full training."""
        scheduler = self.settings.scheduler
        levels: list[int] = []
        if scheduler.name == "moasha":
            level = scheduler.grace_epochs
            while level < self.budget.epochs:
                levels.append(level)
                level *= scheduler.reduction_factor
        return levels

    def uses_acquisition(self) -> bool:
        """Returns whether a forecast chooses among the trials that wait and new configs."""
        scheduler = self.settings.scheduler
        return (
            scheduler.name == "moasha"
            and scheduler.mode == "promote"
            and self.settings.sampler.name not in NON_ADAPTIVE
        )

    def milestones(self) -> list[int]:
        """Returns the epochs at which trials are compared: the rungs, and half way between them for a forecast."""
        rungs = self.rung_epochs()
        if not self.uses_acquisition():
            return rungs
        between = ((low + high) // 2 for low, high in itertools.pairwise([*rungs, self.budget.epochs]))
        return sorted({*rungs, *between})


def _every(key: str, domain: Distribution) -> Iterator[dict[str, Any]]:
    if isinstance(domain, Float):
        raise ValueError(f"{key} takes any real number, so the space has no grid")
    for value in domain.values():
        opened = domain.keys_under(value) if isinstance(domain, Categorical) else {}
        for inner in itertools.product(*(_every(name, other) for name, other in opened.items())):
            yield {key: value} | {name: other for part in inner for name, other in part.items()}


def _held(key: str, domain: Distribution, config: Mapping[str, Any]) -> Any:
    value = config.get(key)
    if not domain.contains(value):
        raise ConfigError(f"{key} is {value!r} there, which is outside its distribution")
    return domain.normalize(value)
