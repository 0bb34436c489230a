"""The distributions of a space file: what they are, how they are read, and how a value is drawn from them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.errors import ConfigError, did_you_mean
from config.messages import abbreviated

MAX_EXACT_INTEGER = 2**53
"""Whole numbers up to here are drawn exactly: samplers compute with floats."""


class Suggester(Protocol):
    """What draws values: an Optuna trial, or a plain random generator."""

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
        """Returns a value that it holds as it draws it: a number may be written as another type."""
        return float(value)

    def count(self) -> float:
        return math.inf

    def test_values(self) -> list[Any]:
        """Returns values that stand for the whole distribution when it is checked against a key's rule."""
        return [self.low, self.high]

    def to_unit(self, value: float) -> float:
        """Returns where a value lies between the ends, 0 to 1, on the distribution's own scale."""
        return _to_unit(self, value)

    def from_unit(self, place: float) -> float:
        """Returns the value at a place from 0 to 1."""
        return min(max(_from_unit(self, place), self.low), self.high)


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

    def to_unit(self, value: int) -> float:
        return _to_unit(self, value)

    def from_unit(self, place: float) -> int:
        whole: int = self.low + round((_from_unit(self, place) - self.low) / self.step) * self.step
        last: int = self.test_values()[1]
        return min(max(whole, self.low), last)


@dataclass(frozen=True)
class Categorical:
    """`choice`: one of `options`; an option may open keys of its own."""

    options: tuple[Any, ...]
    conditional: tuple[Mapping[str, Distribution], ...] = field(default=())

    def suggest(self, suggester: Suggester, name: str) -> Any:
        labels = [label(option) for option in self.options]
        return self.options[labels.index(suggester.suggest_categorical(name, labels))]

    def keys_under(self, value: Any) -> Mapping[str, Distribution]:
        """Returns the keys that come with `value`."""
        return self.conditional[self.options.index(value)] if self.conditional else {}

    def contains(self, value: Any) -> bool:
        return value in self.options

    def normalize(self, value: Any) -> Any:
        return self.options[self.options.index(value)]

    def count(self) -> float:
        if not self.conditional:
            return len(self.options)
        return sum(math.prod(domain.count() for domain in keys.values()) for keys in self.conditional)

    def test_values(self) -> list[Any]:
        return list(self.options)

    def values(self) -> list[Any]:
        return list(self.options)


Distribution = Float | Integer | Categorical
KeyParser = Callable[[str, str, Any], Distribution | None]


def _to_unit(domain: Float | Integer, value: float) -> float:
    low, high = domain.low, domain.high
    return math.log(value / low) / math.log(high / low) if domain.log else (value - low) / (high - low)


def _from_unit(domain: Float | Integer, place: float) -> float:
    low, high = domain.low, domain.high
    return float(low * (high / low) ** place) if domain.log else low + (high - low) * place


def label(option: Any) -> Any:
    """Returns an option as Optuna stores it: plain values as they are, lists as JSON text."""
    return option if option is None or isinstance(option, str | bool | int | float) else json.dumps(option)


def parse(raw: Any, read_key: KeyParser) -> Distribution:
    """Returns the distribution that a mapping such as `{uniform: [1, 4]}` states. Raises ConfigError with the rule.

    `read_key(option, key, raw)` reads the distribution of a key that an option opens, and notes its problems itself.
    """
    if not isinstance(raw, dict) or len(raw) != 1:
        form = (
            f"such as {{choice: {abbreviated(raw)}}}" if isinstance(raw, list) else "or stand in fixed with one value"
        )
        raise ConfigError(f"must be one distribution ({', '.join(_READERS)}), {form} (got {abbreviated(raw)})")
    kind, argument = next(iter(raw.items()))
    if kind == "choice":
        return _parse_categorical(argument, read_key)
    if kind not in _READERS:
        raise ConfigError(f"unknown distribution {kind!r}. Known: {', '.join(_READERS)}.{did_you_mean(kind, _READERS)}")
    return _READERS[kind](kind, argument)


def _range(kind: str, argument: Any, whole: bool) -> list[Any]:
    longest = 3 if kind == "int" else 2
    form = "[low, high] or [low, high, step]" if kind == "int" else "[low, high]"
    if not isinstance(argument, list) or not 2 <= len(argument) <= longest:
        raise ConfigError(f"{kind} takes {form} (got {abbreviated(argument)})")
    if not all(_is_number(x, whole) for x in argument):
        raise ConfigError(f"{kind} takes {'whole' if whole else 'finite'} numbers (got {abbreviated(argument)})")
    low, high = argument[:2]
    if not low < high:
        raise ConfigError(f"{kind}: low < high must hold (got low={low}, high={high})")
    if kind.startswith("log") and low <= 0:
        raise ConfigError(f"{kind}: low > 0 must hold (got low={low})")
    return argument


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return abs(value) <= MAX_EXACT_INTEGER if whole else math.isfinite(value)


def _parse_float(kind: str, argument: Any) -> Distribution:
    low, high = _range(kind, argument, whole=False)
    return Float(float(low), float(high), kind == "log_uniform")


def _parse_integer(kind: str, argument: Any) -> Distribution:
    low, high, *step = _range(kind, argument, whole=True)
    if step and not 1 <= step[0] <= high - low:
        raise ConfigError(f"int: 1 <= step <= high - low must hold (got step={step[0]}, low={low}, high={high})")
    if step:
        high -= (high - low) % step[0]
    return Integer(low, high, step[0] if step else 1, kind == "log_int")


def _parse_categorical(argument: Any, read_key: KeyParser) -> Categorical:
    if isinstance(argument, list):
        options, opened = argument, None
    elif isinstance(argument, dict):
        options, opened = list(argument), list(argument.values())
    else:
        raise ConfigError(
            f"choice takes a list, or a mapping whose values open further keys (got {abbreviated(argument)})"
        )
    if not options:
        raise ConfigError("choice needs at least one option (got none)")
    if len({_same(option) for option in options}) < len(options):
        raise ConfigError(f"choice lists an option twice (got {abbreviated(options)})")
    if opened is None:
        return Categorical(tuple(options))
    keys = []
    for option, inner in zip(options, opened, strict=True):
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"option {option!r} must open a mapping of keys, or nothing (got {abbreviated(inner)})")
        read_keys = {key: read_key(option, key, raw) for key, raw in (inner or {}).items()}
        keys.append({key: domain for key, domain in read_keys.items() if domain is not None})
    return Categorical(tuple(options), tuple(keys))


def _same(option: Any) -> Any:
    """Returns what two options have in common where they are the same value: 2 and 2.0, but not 1 and true."""
    if isinstance(option, list):
        return tuple(map(_same, option))
    return json.dumps(option) if isinstance(option, bool | dict) else option


_READERS: dict[str, Callable[[str, Any], Distribution]] = {
    "uniform": _parse_float,
    "log_uniform": _parse_float,
    "int": _parse_integer,
    "log_int": _parse_integer,
    "choice": lambda kind, argument: _parse_categorical(argument, lambda option, key, raw: None),
}
