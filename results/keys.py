"""The searched keys of a study as its space file states them: ranges, options and what opens them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.study import StudyResult


@dataclass(frozen=True)
class Key:
    """One searched key. `parameter` is its name in Optuna; `opened_by` the key and option that it comes with."""

    name: str
    parameter: str
    low: float = 0.0
    high: float = 1.0
    step: int = 1
    is_log: bool = False
    is_whole: bool = False
    options: tuple[Any, ...] = ()
    opened_by: tuple[str, str] | None = None

    @property
    def is_ordered(self) -> bool:
        """Returns whether its values have an order: numbers, also as options."""
        return all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)

    def is_active(self, params: Mapping[str, Any]) -> bool:
        """Returns whether a trial with these values has the key, from the option that opens this one."""
        if self.opened_by is None:
            return self.name in params
        return self.name in params and stands_for(self.opened_by[1], params.get(self.opened_by[0]))

    def index(self, value: Any) -> int | None:
        """Returns the place of a value among the options."""
        same = (i for i, option in enumerate(self.options) if option == value or label(option) == label(value))
        return next(same, None)

    def position(self, value: Any) -> float | None:
        """Returns where a value lies between the ends of the key, 0 to 1; None where it is no value of the key."""
        if self.options:
            index = self.index(value)
            return None if index is None else index / (len(self.options) - 1) if len(self.options) > 1 else 0.5
        if not isinstance(value, int | float) or (self.is_log and value <= 0):
            return None
        low, high, x = (math.log(v) if self.is_log else float(v) for v in (self.low, self.high, value))
        return min(max((x - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def label(value: Any) -> str:
    """Returns a value as one word: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def stands_for(option: str, value: Any) -> bool:
    """Returns whether a value is the one that an option's name says: 1 and 1.0 are the same."""
    if isinstance(value, str | bool) or option == label(value):
        return option == label(value)
    try:
        named = json.loads(option)
    except ValueError:
        return False
    return not isinstance(named, bool) and bool(named == value)


def keys_of(study: StudyResult) -> list[Key]:
    """Returns every searched key, once for each option that opens it, in the order of the space."""
    space = study.attrs.get("space") or {}
    return list(_read(space.get("space", space)))


def axes_of_keys(study: StudyResult) -> list[Key]:
    """Returns one key for each searched name, wide enough for all that open it and for what was seen."""
    found: dict[str, list[Key]] = {name: [] for name in study.searched}
    for key in keys_of(study):
        found.setdefault(key.name, []).append(key)
    merged = (_merged(name, keys, _seen(study, name)) for name, keys in found.items())
    return [key for key in merged if key is not None]


def _read(space: Mapping[str, Any]) -> Iterator[Key]:
    for name, domain in space.items():
        if not isinstance(domain, Mapping) or len(domain) != 1:
            continue
        yield _key(name, name, domain, None)
        inner = domain.get("choice")
        opened = {label(option): keys or {} for option, keys in inner.items()} if isinstance(inner, Mapping) else {}
        for option, keys in opened.items():
            for inner_name, inner_domain in keys.items():
                shared = sum(inner_name in others for others in opened.values()) > 1
                parameter = f"{name}={option}.{inner_name}" if shared else inner_name
                yield _key(inner_name, parameter, inner_domain, (name, option))


def _key(name: str, parameter: str, domain: Mapping[str, Any], opened_by: tuple[str, str] | None) -> Key:
    kind, argument = next(iter(domain.items()))
    if kind == "choice":
        return Key(name, parameter, options=tuple(argument), opened_by=opened_by)
    low, high, *step = argument
    return Key(
        name,
        parameter,
        float(low),
        float(high),
        step=int(step[0]) if step else 1,
        is_log=kind.startswith("log_"),
        is_whole=kind.endswith("int"),
        opened_by=opened_by,
    )


def _seen(study: StudyResult, name: str) -> list[Any]:
    return [trial.params[name] for trial in study.trials if name in trial.params]


def _merged(name: str, keys: Sequence[Key], seen: Sequence[Any]) -> Key | None:
    """One key that spans all; a key that the space does not describe spans what was seen."""
    options = _distinct([option for key in keys for option in key.options])
    if options:
        return Key(name, name, options=tuple(options))
    if keys:
        low, high = min(key.low for key in keys), max(key.high for key in keys)
        is_log = all(key.is_log for key in keys)
        return Key(name, name, low, high, is_log=is_log, is_whole=all(key.is_whole for key in keys))
    numbers = [value for value in seen if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and len(numbers) == len(seen):
        return Key(name, name, min(numbers), max(numbers))
    return Key(name, name, options=tuple(_distinct(seen))) if seen else None


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({label(value): value for value in values}.values())
