"""Searched keys of a study, from the space that is stored with it: distributions, and the options that open them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config import distributions
from config.distributions import Categorical, Distribution, Float, Integer
from config.errors import ConfigError
from results.study import StudyResult


@dataclass(frozen=True)
class Key:
    """One searched key. `parameter` is its name in Optuna; `opened_by` the key and the option that open it."""

    name: str
    parameter: str
    distribution: Distribution
    opened_by: tuple[str, str] | None = None

    @property
    def options(self) -> tuple[Any, ...]:
        """Returns the options of a choice, none for a range."""
        return self.distribution.options if isinstance(self.distribution, Categorical) else ()

    @property
    def range(self) -> Float | Integer | None:
        """Returns the distribution of a range, None for a choice."""
        return None if isinstance(self.distribution, Categorical) else self.distribution

    @property
    def is_ordered(self) -> bool:
        """Returns whether its values have an order: numbers, also as options."""
        return all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)

    def is_open(self, values: Mapping[str, Any]) -> bool:
        """Returns whether these values include the option that opens the key."""
        return self.opened_by is None or matches_option(self.opened_by[1], values.get(self.opened_by[0]))

    def index(self, value: Any) -> int | None:
        """Returns the index of a value among the options, or None."""
        same = (i for i, option in enumerate(self.options) if option == value or label(option) == label(value))
        return next(same, None)

    def position(self, value: Any) -> float | None:
        """Returns the position of a value between the key's ends, 0 to 1, or None for a value of another type."""
        if self.range is None:
            index = self.index(value)
            return None if index is None else index / (len(self.options) - 1) if len(self.options) > 1 else 0.5
        if not isinstance(value, int | float) or (self.range.log and value <= 0):
            return None
        return min(max(self.range.to_unit(value), 0.0), 1.0) if self.range.high > self.range.low else 0.5


def label(value: Any) -> str:
    """Returns a value as one word: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def matches_option(option: str, value: Any) -> bool:
    """Returns whether an option's label names the value: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, str | bool) or option == label(value):
        return option == label(value)
    try:
        named = json.loads(option)
    except ValueError:
        return False
    return not isinstance(named, bool) and bool(named == value)


def active_keys(space: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Returns the names of the searched keys that are active in a config, in the order of the space."""
    return [key.name for key in _keys(space) if key.is_open(config)]


def keys_of(study: StudyResult) -> list[Key]:
    """Returns every searched key, once for each option that opens it, in the order of the space."""
    space = study.attrs.get("space") or {}
    return list(_keys(space.get("space", space)))


def space_size(study: StudyResult) -> float:
    """Returns the number of configs in the study's space, infinite with a continuous key or if it is not stored."""
    space = study.attrs.get("space") or {}
    found = [_parse(raw) for raw in (space.get("space") or {}).values()]
    return math.prod((math.inf if one is None else one.count() for one in found), start=1.0) if found else math.inf


def axes_of_keys(study: StudyResult) -> list[Key]:
    """Returns one key for each searched name, wide enough for all options that open it and for all trials."""
    by_name: dict[str, list[Distribution]] = {name: [] for name in study.searched}
    for key in keys_of(study):
        by_name.setdefault(key.name, []).append(key.distribution)
    axes = []
    for name, found in by_name.items():
        distribution = _merged(found, [trial.params[name] for trial in study.trials if name in trial.params])
        if distribution is not None:
            axes.append(Key(name, name, distribution))
    return axes


def _keys(space: Mapping[str, Any]) -> Iterator[Key]:
    keys = {name: _parse(raw) for name, raw in space.items()}
    for found in distributions.parameters({name: one for name, one in keys.items() if one is not None}):
        opened_by = None if found.opened_by is None else (found.opened_by[0], label(found.opened_by[1]))
        yield Key(found.key, found.name, found.distribution, opened_by)


def _parse(raw: Any) -> Distribution | None:
    """Returns the distribution of a raw space, or None for other entries."""
    try:
        return distributions.parse(raw, lambda option, key, inner: _parse(inner))
    except ConfigError:
        return None


def _merged(found: Sequence[Distribution], values: Sequence[Any]) -> Distribution | None:
    """Returns one distribution that spans all; without any, the range or the set of the trials' values."""
    options = _distinct(option for one in found if isinstance(one, Categorical) for option in one.options)
    if options:
        return Categorical(options)
    ranges = [one for one in found if not isinstance(one, Categorical)]
    if ranges:
        low, high = min(one.low for one in ranges), max(one.high for one in ranges)
        log = all(one.log for one in ranges)
        is_integer = all(isinstance(one, Integer) for one in ranges)
        return Integer(int(low), int(high), log=log) if is_integer else Float(low, high, log)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and len(numbers) == len(values):
        return Float(min(numbers), max(numbers))
    return Categorical(_distinct(values)) if values else None


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({label(value): value for value in values}.values())
