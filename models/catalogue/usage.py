"""Families in which a value of a key is the default, and those in which it can be used, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from config.errors import InfeasibleError
from models import registry
from models.catalogue.cost import at_size
from models.config import ModelConfig
from models.feasibility import check_feasible


def families() -> tuple[str, ...]:
    """Returns the families of all registered models."""
    return tuple(dict.fromkeys(name.split("_")[0] for name in registry.MODELS))


def default_in(key: str, value: str) -> tuple[str, ...]:
    """Returns the families of which a model has this value, or this value in a stage, by default."""

    def has_it(model: str) -> bool:
        return key not in registry.MODELS[model].lacks and any(_holds(found, value) for found in _defaults(model, key))

    return _families_of(has_it)


def usable_in(key: str, value: str, **others: Any) -> tuple[str, ...]:
    """Returns the families of which a model can be built with this value, at the size of the catalogue."""

    def is_usable(model: str) -> bool:
        if key in registry.MODELS[model].lacks:
            return False
        try:
            check_feasible(at_size(model, **{key: value}, **others))
        except InfeasibleError:
            return False
        return True

    return _families_of(is_usable)


def _families_of(condition: Callable[[str], bool]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.split("_")[0] for name in registry.MODELS if condition(name)))


def _defaults(model: str, key: str) -> Iterator[object]:
    """Yields the value of a key in each version of a model."""
    preset = registry.MODELS[model]
    default = ModelConfig.model_fields[key].default
    for version in (None, *preset.variants, *preset.fixed):
        yield {**preset.values(version), **preset.fixed.get(version or "", {})}.get(key, default)


def _holds(found: object, value: str) -> bool:
    return value in found if isinstance(found, tuple) else found == value
