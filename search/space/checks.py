"""Checks of a space file: values, objectives, and keys against each other, the base and the fixed values."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from config import step_names
from config.distributions import Categorical, Distribution, parameters
from config.document import Document, Location, Problem
from config.errors import ConfigError, InfeasibleError, did_you_mean
from config.messages import describe, unknown_key
from models import registry
from models.config import read_none
from models.feasibility import check_feasible
from results.metrics import METRICS, REQUESTED_METRICS
from search.space.schema import SpaceSettings
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.optimization.initial_weights import missing_file

SCALED_WITH_EPOCHS = ("warmup_epochs", "cooldown_epochs", "mixup_off_epoch")
EXIT_KEYS = ("exit_rule", "exit_threshold")
NOT_SEARCHED = {
    **dict.fromkeys(EXIT_KEYS, "set exits: {rule: confidence} at the top level; thresholds are calibrated"),
    "epochs": "set budget.epochs",
    "output": "a study writes to its own folder",
    "dataset": "set it in base or fixed",
}


def mapping(document: Document, key: str) -> Mapping[str, Any]:
    """Returns the mapping under a top-level key, empty if there is none."""
    found = document.data.get(key)
    return found if isinstance(found, dict) else {}


def searchable(key: str) -> None:
    """Raises ConfigError for a key that cannot be searched."""
    if key in NOT_SEARCHED:
        raise ConfigError(NOT_SEARCHED[key])
    if key not in TrainConfig.model_fields:
        raise ConfigError(unknown_key(key, TrainConfig.model_fields))


def value_problem(key: str, value: Any) -> str | None:
    """Returns the sentence for an invalid value of a train-file key, or None."""
    try:
        if key != "dataset" and not (key in EXIT_KEYS and value in (None, "none")):
            searchable(key)
        _rule(key).validate_python(read_none({key: value}, TrainConfig)[key])
    except ValidationError as error:
        return describe(error.errors(include_url=False))
    except ConfigError as error:
        return str(error)
    return None


@functools.cache
def _rule(key: str) -> TypeAdapter[Any]:
    info = TrainConfig.model_fields[key]
    rule: Any = Annotated[info.annotation, info]
    return TypeAdapter(rule, config=ConfigDict(strict=True, allow_inf_nan=False))


def structure(document: Document, keys: Mapping[str, Distribution]) -> Iterator[Problem]:
    """Yields the problems of the fixed values, of the metrics, and of keys in both fixed and space."""
    yield from _fixed(document, keys)
    for part in ("objectives", "constraints"):
        for name in mapping(document, part):
            if name not in METRICS and name not in REQUESTED_METRICS:
                text = f"unknown metric. Known: {', '.join(METRICS)}.{did_you_mean(name, METRICS)}"
                yield document.problem((part, name), text)
        for name in REQUESTED_METRICS.keys() & mapping(document, part):
            text = "is measured after the last epoch only, so it is shown of each point, and no rung compares it"
            yield document.problem((part, name), text)
        if "steps" in mapping(document, part) and document.data.get("exits") is None:
            text = "images take different numbers of steps with exits only; add exits: {rule: confidence}"
            yield document.problem((part, "steps"), text)
    yield from _opened_twice(document, keys)


def _fixed(document: Document, keys: Mapping[str, Distribution]) -> Iterator[Problem]:
    searched = mapping(document, "space")
    opened = {one.key: one.opened_by[0] for one in parameters(keys) if one.opened_by is not None}
    for key, value in mapping(document, "fixed").items():
        text = value_problem(key, value)
        if text is None and key in searched:
            text = f"is also in space (line {document.line(('space', key))}); a key may be in only one of them"
        elif text is None and key in opened:
            text = f"{opened[key]} opens it in space; give its value there, for the other options too"
        if text is not None:
            yield document.problem(("fixed", key), text)


def _opened_twice(document: Document, keys: Mapping[str, Distribution]) -> Iterator[Problem]:
    openers = {(one.opened_by[0], one.key): None for one in parameters(keys) if one.opened_by is not None}
    for key, inner in openers:
        others = [other for other, name in openers if name == inner and other != key]
        if inner in keys or others:
            where = "is also a key of space itself" if inner in keys else f"{others[0]} opens too"
            yield document.problem(("space", key), f"{key} opens {inner}, which {where}; keep one of them")


def grace_epochs(settings: SpaceSettings, document: Document) -> Iterator[Problem]:
    """Yields the problem of a first rung beyond a full training."""
    grace, epochs = settings.scheduler.grace_epochs, settings.budget.epochs
    if settings.scheduler.name == "moasha" and grace > epochs:
        text = f"grace_epochs <= budget.epochs must hold (got {grace}, epochs={epochs})"
        yield document.problem(("scheduler", "grace_epochs"), text)


def seeds(settings: SpaceSettings, keys: Mapping[str, Distribution], document: Document) -> Iterator[Problem]:
    """Yields the problems of trainings with several seeds: a searched seed, a budget that is below one config's."""
    if settings.seeds == 1:
        return
    if any(one.key == "seed" for one in parameters(keys)):
        text = f"must be 1 in a space with the key seed, whose trials have seeds of their own (got {settings.seeds})"
        yield document.problem(("seeds",), text)
    epochs, total = settings.budget.epochs, settings.budget.epochs_total
    if total is not None and settings.seeds * epochs > total:
        text = "seeds x budget.epochs <= budget.epochs_total must hold, or no config is trained with all seeds"
        yield document.problem(("seeds",), f"{text} (got {settings.seeds} x {epochs}, epochs_total={total})")


def base(values: Mapping[str, Any], keys: Mapping[str, Distribution], document: Document) -> Iterator[Problem]:
    """Yields the problems of base and fixed values that cannot be combined with any searched values."""
    searched = {one.key for one in parameters(keys)}
    fixed = mapping(document, "fixed")
    for text in _invalid(values):
        words = re.findall(r"[a-z_]+", text)
        if searched.intersection(words):  # a searched value may be valid
            continue
        named = next((word for word in words if word in fixed), None)
        is_scaled = any(word in SCALED_WITH_EPOCHS for word in words)
        location = ("fixed", named) if named else ("budget", "epochs") if is_scaled else ("base",)
        yield document.problem(location, text)


def _invalid(values: Mapping[str, Any]) -> list[str]:
    try:
        check_feasible(TrainConfig.model_validate(dict(values)))
    except ValidationError as error:
        return [line for item in error.errors(include_url=False) for line in describe([item]).splitlines()]
    except InfeasibleError as error:
        return [str(error)]
    return []


def validation_data(
    values: Mapping[str, Any], keys: Mapping[str, Distribution], document: Document
) -> Iterator[Problem]:
    """Yields the problem of a search without validation data, on which trials are compared."""
    name = "val_fraction"
    location: Location = ("fixed", name) if name in mapping(document, "fixed") else ("base",)
    shares = [values.get(name, TrainConfig.model_fields[name].default)]
    if name in keys:
        shares, location = keys[name].test_values(), ("space", name)
    if not all(shares):
        text = "val_fraction must be above 0 in a search, whose trials are compared on validation data (got 0)"
        yield document.problem(location, text)


def initial_checkpoints(
    values: Mapping[str, Any], keys: Mapping[str, Distribution], document: Document
) -> Iterator[Problem]:
    """Yields the problems of weights files that do not exist."""
    name = "initial_checkpoint"
    shared = () if name in keys else (values.get(name),)
    opened = [one.distribution for one in parameters(keys) if one.key == name]
    for path in (*shared, *(value for distribution in opened for value in distribution.test_values())):
        text = missing_file(path) if path else None
        if text is not None:
            part = "fixed" if name in mapping(document, "fixed") else "base" if path in shared else "space"
            yield document.problem(
                (part,) if part == "base" else (part, name), text if part != "base" else f"{name}: {text}"
            )


def key_owners(space: Space, document: Document) -> Iterator[Problem]:
    """Yields the problems of keys that a model, a neuron or an attention of the space does not have."""
    for parent in ("model", "node_type"):
        for option in _options(space, parent):
            for key in space.keys.keys() & _lacking(parent, option):
                text = f"{option} has no {key}; put {key} under the options of {parent} that have it"
                yield document.problem(("space", key), text)
    choices = {key: choice for key, choice in space.keys.items() if isinstance(choice, Categorical)}
    for parent, choice in choices.items():
        for option in choice.options:
            for inner in choice.keys_under(option).keys() & _lacking(parent, option):
                location = ("space", parent, "choice", str(option), inner)
                yield document.problem(location, f"{option} has no {inner}; leave it out there")


def _lacking(key: str, option: Any) -> frozenset[str]:
    """Returns the keys that an option of a model, a neuron or an attention does not have."""
    names = option if isinstance(option, list) else [option]
    if key == "node_type":
        return registry.ALL_NEURON_KEYS - registry.NEURON_KEYS[names[0]]
    if key == "model":
        return registry.MODELS[names[0]].lacks
    if key == "attn_layer":
        every = frozenset().union(*registry.ATTENTION_KEYS.values())
        return every.difference(*(registry.ATTENTION_KEYS[name] for name in names))
    return frozenset()


def _options(space: Space, key: str) -> tuple[Any, ...]:
    """Returns the values that a key may have: its options, or the one that all trials share."""
    distribution = space.keys.get(key)
    if isinstance(distribution, Categorical):
        return distribution.options
    return (step_names.canonical_name(space.base.get(key, TrainConfig.model_fields[key].default)),)
