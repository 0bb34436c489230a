"""Distributions of a space file: parsing, sampling, and positions of values between their ends."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.errors import ConfigError, did_you_mean
from config.messages import abbreviated

KINDS = ("uniform", "log_uniform", "int", "log_int", "choice")

MAX_EXACT_INTEGER = 2**53
"""Largest integer that samplers, which compute with floats, represent exactly."""


class Suggester(Protocol):
    """Source of suggested values: an Optuna trial or a uniform sampler."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any: ...


@dataclass(frozen=True)
class Float:
    """`uniform [low, high]`, or `log_uniform` for values that differ by factors."""

    low: float
    high: float
    log: bool = False

    def suggest(self, suggester: Suggester, name: str) -> float:
        return suggester.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def normalize(self, value: Any) -> float:
        """Returns a contained value in the type of its samples."""
        return float(value)

    def count(self) -> float:
        return math.inf

    def test_values(self) -> list[Any]:
        """Returns the values on which a key's rule is checked: the ends, or all options."""
        return [self.low, self.high]

    def to_unit(self, value: float) -> float:
        """Returns the position of a value between the ends, 0 to 1, on the distribution's scale."""
        return _to_unit(self, value)

    def from_unit(self, position: float) -> float:
        """Returns the value at a position from 0 to 1."""
        return min(max(_from_unit(self, position), self.low), self.high)


@dataclass(frozen=True)
class Integer:
    """`int [low, high]` or `int [low, high, step]`, or `log_int`; both ends included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, suggester: Suggester, name: str) -> int:
        return suggester.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def normalize(self, value: Any) -> int:
        return int(value)

    def count(self) -> float:
        return (self.high - self.low) // self.step + 1

    def test_values(self) -> list[Any]:
        return [self.low, self.low + (self.high - self.low) // self.step * self.step]

    def values(self) -> list[int]:
        """Returns every value, in order."""
        return list(range(self.low, self.high + 1, self.step))

    def to_unit(self, value: float) -> float:
        return _to_unit(self, value)

    def from_unit(self, position: float) -> int:
        value: int = self.low + round((_from_unit(self, position) - self.low) / self.step) * self.step
        last: int = self.test_values()[1]
        return min(max(value, self.low), last)


@dataclass(frozen=True)
class Categorical:
    """`choice`: one of `options`; an option may open further keys, its `conditional` ones."""

    options: tuple[Any, ...]
    conditional: tuple[Mapping[str, Distribution], ...] = field(default=())

    def suggest(self, suggester: Suggester, name: str) -> Any:
        labels = [label(option) for option in self.options]
        return self.options[labels.index(suggester.suggest_categorical(name, labels))]

    def keys_under(self, value: Any) -> Mapping[str, Distribution]:
        """Returns the keys that the option `value` opens."""
        return self.conditional[self.options.index(value)] if self.conditional else {}

    def contains(self, value: Any) -> bool:
        return value in self.options

    def normalize(self, value: Any) -> Any:
        return self.options[self.options.index(value)]

    def count(self) -> float:
        if not self.conditional:
            return len(self.options)
        return sum(math.prod(distribution.count() for distribution in keys.values()) for keys in self.conditional)

    def test_values(self) -> list[Any]:
        return list(self.options)

    def values(self) -> list[Any]:
        return list(self.options)


class UniformSampler(random.Random):
    """A random generator that samples uniformly, with the interface of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return Float(low, high, log).from_unit(self.random())

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return Integer(low, high, step, log).from_unit(self.random()) if log else self.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.choice(choices)


Distribution = Float | Integer | Categorical
KeyParser = Callable[[str, str, Any], Distribution | None]


@dataclass(frozen=True)
class Parameter:
    """A searched key, or one that an option of a choice opens. `name` is its name in Optuna."""

    key: str
    name: str
    distribution: Distribution
    opened_by: tuple[str, Any] | None = None
    """The choice and its option."""


def parameters(keys: Mapping[str, Distribution]) -> Iterator[Parameter]:
    """Yields every parameter, a choice before the keys that it opens; if several options open a key, once for each."""
    for key, distribution in keys.items():
        yield Parameter(key, key, distribution)
        if not isinstance(distribution, Categorical):
            continue
        for option, opened in zip(distribution.options, distribution.conditional, strict=False):
            for inner, inner_distribution in opened.items():
                is_shared = sum(inner in others for others in distribution.conditional) > 1
                name = f"{key}={label(option)}.{inner}" if is_shared else inner
                yield Parameter(inner, name, inner_distribution, (key, option))


def _to_unit(distribution: Float | Integer, value: float) -> float:
    low, high = distribution.low, distribution.high
    return math.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)


def _from_unit(distribution: Float | Integer, position: float) -> float:
    low, high = distribution.low, distribution.high
    return float(low * (high / low) ** position) if distribution.log else low + (high - low) * position


def label(option: Any) -> Any:
    """Returns an option as Optuna stores it: plain values unchanged, lists as JSON text."""
    return option if option is None or isinstance(option, str | bool | int | float) else json.dumps(option)


def parse(raw: Any, read_key: KeyParser) -> Distribution:
    """Returns the distribution of a mapping such as `{uniform: [1, 4]}`. Raises ConfigError with the rule.

    `read_key(option, key, raw)` parses a key that an option opens, and returns None for an invalid one.
    """
    if not isinstance(raw, dict) or len(raw) != 1:
        remedy = "or be under fixed with one value"
        if isinstance(raw, list):
            remedy = f"such as {{choice: {abbreviated(raw)}}}"
        raise ConfigError(f"must be one distribution ({', '.join(KINDS)}), {remedy} (got {abbreviated(raw)})")
    kind, argument = next(iter(raw.items()))
    if kind == "choice":
        return _parse_categorical(argument, read_key)
    if kind in ("int", "log_int"):
        return _parse_integer(kind, argument)
    if kind in ("uniform", "log_uniform"):
        low, high = _range(kind, argument, is_integer=False)
        return Float(float(low), float(high), kind == "log_uniform")
    raise ConfigError(f"unknown distribution {kind!r}. Known: {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")


def _range(kind: str, argument: Any, is_integer: bool) -> list[Any]:
    form = "[low, high] or [low, high, step]" if kind == "int" else "[low, high]"
    if not isinstance(argument, list) or len(argument) not in ((2, 3) if kind == "int" else (2,)):
        raise ConfigError(f"{kind} takes {form} (got {abbreviated(argument)})")
    if not all(_is_number(value, is_integer) for value in argument):
        raise ConfigError(f"{kind} takes {'whole' if is_integer else 'finite'} numbers (got {abbreviated(argument)})")
    low, high = argument[:2]
    if not low < high:
        raise ConfigError(f"{kind}: low < high must hold (got low={low}, high={high})")
    if kind.startswith("log") and low <= 0:
        raise ConfigError(f"{kind}: low > 0 must hold (got low={low})")
    return argument


def _is_number(value: Any, is_integer: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if is_integer else int | float):
        return False
    return abs(value) <= MAX_EXACT_INTEGER if is_integer else math.isfinite(value)


def _parse_integer(kind: str, argument: Any) -> Integer:
    low, high, step = (*_range(kind, argument, is_integer=True), 1)[:3]
    if not 1 <= step <= high - low:
        raise ConfigError(f"int: 1 <= step <= high - low must hold (got step={step}, low={low}, high={high})")
    return Integer(low, high - (high - low) % step, step, kind == "log_int")


def _parse_categorical(argument: Any, read_key: KeyParser) -> Categorical:
    if not isinstance(argument, list | dict):
        form = "a list, or a mapping whose values open further keys"
        raise ConfigError(f"choice takes {form} (got {abbreviated(argument)})")
    options = tuple(argument)
    if not options:
        raise ConfigError("choice needs at least one option (got none)")
    if len(set(map(_identity, options))) < len(options):
        raise ConfigError(f"choice lists an option twice (got {abbreviated(list(options))})")
    if isinstance(argument, list):
        return Categorical(options)
    return Categorical(options, tuple(_parse_opened(option, keys, read_key) for option, keys in argument.items()))


def _parse_opened(option: str, keys: Any, read_key: KeyParser) -> dict[str, Distribution]:
    if keys is not None and not isinstance(keys, dict):
        raise ConfigError(f"option {option!r} must open a mapping of keys, or nothing (got {abbreviated(keys)})")
    parsed = {key: read_key(option, key, raw) for key, raw in (keys or {}).items()}
    return {key: distribution for key, distribution in parsed.items() if distribution is not None}


def _identity(option: Any) -> Any:
    """Returns a key that is equal for equal options: for 2 and 2.0, but not for 1 and true."""
    if isinstance(option, list):
        return tuple(map(_identity, option))
    return json.dumps(option) if isinstance(option, bool | dict) else option
