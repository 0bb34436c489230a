"""Reads a space file and says everything that is wrong with it, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from models import registry
from models.config import ConfigError
from results.metrics import METRICS
from search import domains
from search.domains import Choice, Domain
from search.space import Bound, Budget, Resources, Sampler, Scheduler, Settings, Space
from trainers import config as train_file
from trainers import strict_yaml
from trainers.config import TrainConfig
from trainers.problems import sentence, unknown_key
from trainers.strict_yaml import Document, Location, Problem

SCALED_WITH_EPOCHS = ("warmup_epochs", "cooldown_epochs", "mixup_off_epoch")
NOT_SEARCHED = {
    "epochs": "set budget.epochs",
    "output": "a study writes to its own folder",
    "dataset": "set it in base or fixed",
}


def load(path: str, overrides: list[str] | None = None) -> Space:
    """Returns a checked space file. Raises ConfigError that lists everything wrong with it, each with its line."""
    return read(train_file.override(strict_yaml.read(path), overrides or []))


def read(document: Document) -> Space:
    """Returns the space that a parsed document states, as `load` does."""
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as error:
        raise document.error(_structural(error, document)) from None
    base, problems = _base(settings, document)
    for i, name in enumerate(settings.start_with):
        if not train_file.recipe_path(name).exists():
            problems.append(document.problem(("start_with", i), f"no such recipe or file (got {name!r})"))
    keys = {}
    for key, raw in settings.space.items():
        domain = _read_key(key, raw, ("space", key), document, problems)
        if domain is not None:
            keys[key] = domain
    problems += _cross_checks(settings, keys, document)
    if problems:
        raise document.error(problems)
    space = Space(settings, base, keys, document.data)
    _refuse_missing_keys(space, document)
    return space


def _structural(error: ValidationError, document: Document) -> list[Problem]:
    problems = []
    for item in error.errors(include_url=False):
        location: Location = tuple(part for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = Settings.model_fields if len(location) == 1 else _fields_at(location)
            problems.append(document.problem(location, unknown_key(str(location[-1]), known)))
        elif item["type"] == "string_pattern_mismatch":
            text = f"may hold letters, digits, dot, dash and underscore, 1 to 80 of them (got {item['input']!r})"
            problems.append(document.problem(location, text))
        else:
            problems.append(document.problem(location, sentence([item])))
    return problems


def _fields_at(location: Location) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "budget": Budget,
        "sampler": Sampler,
        "scheduler": Scheduler,
        "resources": Resources,
        "constraints": Bound,
    }
    part = parts.get(str(location[0]))
    return list(part.model_fields) if part else []


def _base(settings: Settings, document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """Returns the base train file with the fixed values put in, and what is wrong with them."""
    problems: list[Problem] = []
    path = train_file.recipe_path(settings.base)
    try:
        recipe = strict_yaml.read(path)
        config = train_file.parse(recipe)
    except ConfigError as error:
        if path.exists():
            raise
        problems.append(document.problem(("base",), f"no such recipe or file ({error})"))
        return {}, problems
    base = train_file.data_of(recipe)
    scaled = _scaled(config, settings)
    for key, value in settings.fixed.items():
        text = _value_problem(key, value)
        if text is None and key in settings.space:
            text = f"stands in space too (line {document.line(('space', key))}); a key may stand in one of them"
        if text is not None:
            problems.append(document.problem(("fixed", key), text))
    return {**base, **scaled, **settings.fixed}, problems


def _read_key(key: str, raw: Any, location: Location, document: Document, problems: list[Problem]) -> Domain | None:
    """Reads one distribution and checks its ends or options against the key's own rule."""

    def opened(inner: str, inner_raw: Any) -> Domain | None:
        return _read_key(inner, inner_raw, (*location, "choice", inner), document, problems)

    text = unknown_key(key, TrainConfig.model_fields) if key not in TrainConfig.model_fields else NOT_SEARCHED.get(key)
    if text is not None:
        problems.append(document.problem(location, text))
        return None
    try:
        domain = domains.read(raw, opened)
    except ConfigError as error:
        problems.append(document.problem(location, str(error)))
        return None
    for value in domain.probes():
        wrong = _value_problem(key, value)
        if wrong is not None:
            problems.append(document.problem(location, wrong))
            return None
    return domain


def _value_problem(key: str, value: Any) -> str | None:
    """Returns what is wrong with a value of a train-file key, or None."""
    if key in NOT_SEARCHED and key != "dataset":
        return NOT_SEARCHED[key]
    if key not in TrainConfig.model_fields:
        return unknown_key(key, TrainConfig.model_fields)
    info = TrainConfig.model_fields[key]
    rule: Any = Annotated[info.annotation, info]
    adapter: TypeAdapter[Any] = TypeAdapter(rule, config=ConfigDict(strict=True, allow_inf_nan=False))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return sentence(error.errors(include_url=False))
    return None


def _cross_checks(settings: Settings, keys: Mapping[str, Domain], document: Document) -> list[Problem]:
    problems = []
    for part in ("objectives", "constraints"):
        for name in getattr(settings, part):
            if name not in METRICS:
                text = f"{unknown_key(name, METRICS)} Metrics: {', '.join(METRICS)}"
                problems.append(document.problem((part, name), text))
    budget = settings.budget
    if budget.trials is None and budget.epochs_total is None and budget.hours is None:
        problems.append(document.problem(("budget",), "needs trials, epochs_total or hours, or it would never end"))
    if settings.scheduler.name == "moasha" and settings.scheduler.grace_epochs > budget.epochs:
        grace = settings.scheduler.grace_epochs
        text = f"grace_epochs <= budget.epochs must hold (got {grace}, epochs={budget.epochs})"
        problems.append(document.problem(("scheduler", "grace_epochs"), text))
    for key, domain in keys.items():
        for option in domain.opens if isinstance(domain, Choice) else ():
            for inner in option.keys() & keys.keys():
                text = f"{key} opens {inner}, which stands in space of its own; keep one of them"
                problems.append(document.problem(("space", key), text))
    return problems


def _scaled(base: TrainConfig, settings: Settings) -> dict[str, Any]:
    """Returns the budget's epochs and, scaled with them, what the base counts in epochs."""
    share = settings.budget.epochs / base.epochs
    return {"epochs": settings.budget.epochs, **{key: round(getattr(base, key) * share) for key in SCALED_WITH_EPOCHS}}


def _refuse_missing_keys(space: Space, document: Document) -> None:
    """A key must stand under the choices that have it, where some model or neuron of the space lacks it."""
    base = space.config_of_base()
    models, neurons = ((_options(space, key) or (getattr(base, key),)) for key in ("model", "node_type"))
    problems = []
    for model in models:
        for neuron in neurons:
            for key in space.keys.keys() & registry.lacking(model, neuron):
                who, parent = (neuron, "node_type") if key in registry.ALL_NEURON_KEYS else (model, "model")
                text = f"{who} has no {key}; put {key} under the options of {parent} that have it"
                problems.append(document.problem(("space", key), text))
    if problems:
        raise document.error(list(dict.fromkeys(problems)))


def _options(space: Space, key: str) -> tuple[Any, ...]:
    domain = space.keys.get(key)
    return domain.options if isinstance(domain, Choice) else ()
