"""Reads a space file and says everything that is wrong with it, each with its line."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from config import distributions, step_names, strict_yaml
from config.distributions import Categorical, Distribution, Float
from config.errors import ConfigError, InfeasibleError
from config.messages import SPACE_PAGE, describe, nearest, unknown_key
from config.strict_yaml import Document, Location, Problem
from config.uris import without_secrets
from models import registry
from models.feasibility import check_feasible
from results.folder import SPACE, study_location
from results.metrics import METRICS
from search.space import initial_configs as known
from search.space.schema import BudgetSettings, Constraint, Resources, SamplerSettings, SchedulerSettings, SpaceSettings
from search.space.space import Space
from trainers import config as train_file
from trainers.config import TrainConfig

SCALED_WITH_EPOCHS = ("warmup_epochs", "cooldown_epochs", "mixup_off_epoch")
NOT_SEARCHED = {
    "epochs": "set budget.epochs",
    "output": "a study writes to its own folder",
    "dataset": "set it in base or fixed",
}


def load(path: str, overrides: list[str] | None = None) -> Space:
    """Returns a checked space file. Raises ConfigError that lists everything wrong with it, each with its line."""
    return read(train_file.override(strict_yaml.read(path, tolerant=True), overrides or []))


def read(document: Document) -> Space:
    """Returns the space that a parsed document states, as `load` does."""
    if "model" in document.data and "space" not in document.data:
        text = "is a train file, which is trained (python -m trainers.run --config), not a space file"
        raise ConfigError(f"{document.source}:{document.line(('model',))}: {text}")
    settings, problems = _settings(document)
    keys = {}
    for key, raw in _mapping(document, "space").items():
        domain = _read_key(key, raw, ("space", key), document, problems)
        if domain is not None:
            keys[key] = domain
    problems += [*_fixed(document, keys), *_metrics(document), *_opened_twice(keys, document)]
    problems += _start(document)
    base, others = _base(document, settings)
    problems += others
    if settings is not None:
        problems += _schedule(settings, document)
    if not problems and settings is not None:
        problems += [*_unfit(base, keys, document), *_unmeasured(base, keys, document)]
    document.refuse(problems)
    assert settings is not None
    raw = {key: without_secrets(value) if isinstance(value, str) else value for key, value in document.data.items()}
    raw["space"] = _with_own_names(raw["space"])
    space = Space(settings, base, keys, raw)
    document.refuse(_missing_keys(space, document))
    for name, direction in settings.objectives.items():
        if direction != METRICS[name].direction:
            unusual = document.problem(("objectives", name), f"{direction} looks for the worst; is it meant?")
            warnings.warn(document.sentence(unusual), stacklevel=2)
    return space


def _settings(document: Document) -> tuple[SpaceSettings | None, list[Problem]]:
    """Returns the keys as they stand, and what is wrong with their structure."""
    try:
        return SpaceSettings.model_validate(document.data), []
    except ValidationError as error:
        return None, [_structural(item, document) for item in error.errors(include_url=False)]


def _structural(item: Any, document: Document) -> Problem:
    location: Location = tuple(part for part in item["loc"] if part != "[key]")
    if item["type"] != "extra_forbidden":
        return document.problem(location, describe([item]))
    known = list(SpaceSettings.model_fields if len(location) == 1 else _fields_at(location))
    key = str(location[-1])
    if len(location) == 1 and key in BudgetSettings.model_fields:
        return document.problem(location, "belongs under budget, indented")
    if len(location) == 1 and key in TrainConfig.model_fields:
        return document.problem(location, "is a key of the train file; put it under fixed or space, indented")
    return document.problem(location, unknown_key(key, known, SPACE_PAGE))


def _fields_at(location: Location) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "budget": BudgetSettings,
        "sampler": SamplerSettings,
        "scheduler": SchedulerSettings,
        "resources": Resources,
        "constraints": Constraint,
    }
    part = parts.get(str(location[0]))
    return list(part.model_fields) if part else []


def _mapping(document: Document, key: str) -> Mapping[str, Any]:
    """Returns the mapping under a key, empty where there is none: its structure is checked elsewhere."""
    found = document.data.get(key)
    return found if isinstance(found, dict) else {}


def _base(document: Document, settings: SpaceSettings | None) -> tuple[dict[str, Any], list[Problem]]:
    """Returns the base train file with the fixed values put in, and what is wrong with it."""
    name = document.data.get("base")
    if not isinstance(name, str):
        return {}, []
    text = _not_found(name)
    if text is not None:
        return {}, [document.problem(("base",), text)]
    try:
        recipe = strict_yaml.read(train_file.recipe_path(name))
        config = train_file.parse(recipe)
    except ConfigError as error:
        return {}, [document.problem(("base",), f"cannot be used:\n{error}")]
    scaled = _scaled(config, settings) if settings is not None else {}
    return {**train_file.data_of(recipe), **scaled, **train_file.canonical(dict(_mapping(document, "fixed")))}, []


def _not_found(name: str) -> str | None:
    """Returns the sentence for a recipe or train file that does not exist, with the nearest one, or None."""
    path = train_file.recipe_path(name)
    if path.is_file():
        return None
    if path.is_dir() and name:
        return f"is a folder, not a train file (got {name!r})"
    recipes = [f"{path.parent.name}/{path.stem}" for path in train_file.RECIPES.glob("*/*.yml")]
    near = nearest(name, recipes)
    return f"no such recipe or file (got {name!r})." + (
        f" Did you mean {near}?" if near else " `ls trainers/recipes/*` lists the shipped ones"
    )


def _start(document: Document) -> list[Problem]:
    """Returns what is wrong with the known configs; a study that has begun, whose own file this is, holds them."""
    names = document.data.get("start_with")
    problems = []
    for i, name in enumerate(names if isinstance(names, list) and not _is_of_a_study(document) else ()):
        text = _not_found(name) if isinstance(name, str) and not known.is_study(name) else None
        if text is None and isinstance(name, str):
            try:
                known.resolve(name)
            except ConfigError as error:
                text = f"cannot be used:\n{error}"
        if text is not None:
            begun = Path("runs") / str(document.data.get("study")) / SPACE
            hint = f". The study that has begun goes on by `python -m search.run {begun}`" if begun.exists() else ""
            problems.append(document.problem(("start_with", i), text + hint))
    return problems


def _is_of_a_study(document: Document) -> bool:
    path = Path(document.source)
    return path.name == SPACE and study_location(path.parent) is not None


def _fixed(document: Document, keys: Mapping[str, Distribution]) -> list[Problem]:
    """Returns what is wrong with the fixed values, each by itself."""
    problems = []
    opened = {inner: key for key, domain in keys.items() for inner in _opened(domain)}
    searched = _mapping(document, "space")
    for key, value in _mapping(document, "fixed").items():
        text = _value_problem(key, value)
        if text is None and key in searched:
            text = f"stands in space too (line {document.line(('space', key))}); a key may stand in one of them"
        elif text is None and key in opened:
            text = f"{opened[key]} opens it in space; give its value there, for the other options too"
        if text is not None:
            problems.append(document.problem(("fixed", key), text))
    return problems


def _opened(domain: Distribution) -> Iterator[str]:
    for option in domain.conditional if isinstance(domain, Categorical) else ():
        yield from option


def _read_key(
    key: str, raw: Any, location: Location, document: Document, problems: list[Problem], depth: int = 0
) -> Distribution | None:
    """Reads one distribution and checks its ends or options against the key's own rule."""

    def opened(option: str, inner: str, inner_raw: Any) -> Distribution | None:
        return _read_key(inner, inner_raw, (*location, "choice", option, inner), document, problems, depth + 1)

    text = NOT_SEARCHED.get(key) or (
        unknown_key(key, TrainConfig.model_fields) if key not in TrainConfig.model_fields else None
    )
    if text is not None:
        problems.append(document.problem(location, text))
        return None
    try:
        domain = distributions.parse(raw, opened)
    except ConfigError as error:
        problems.append(document.problem(location, str(error)))
        return None
    if isinstance(domain, Categorical):
        if domain.conditional and depth:
            problems.append(document.problem(location, "a key that an option opens may not open further keys"))
            return None
        meant = (_meant(key, option) for option in domain.options) if domain.conditional else domain.options
        domain = replace(domain, options=tuple(_own_name(key, option) for option in meant))
        if len(set(map(distributions.label, domain.options))) < len(domain.options):
            names = ", ".join(map(str, domain.options))
            problems.append(document.problem(location, f"choice lists an option twice: its options mean {names}"))
            return None
    wrong = [
        (i, text) for i, value in enumerate(domain.test_values()) if (text := _value_problem(key, value)) is not None
    ]
    if isinstance(domain, Categorical):
        lines = [document.line((*location, "choice", i)) for i, _ in wrong]
        problems += [
            replace(document.problem(location, text), line=line) for line, (_, text) in zip(lines, wrong, strict=True)
        ]
    elif wrong:
        whole = "; use int or log_int" if isinstance(domain, Float) and "a whole number" in wrong[0][1] else ""
        problems.append(document.problem(location, wrong[0][1] + whole))
    return None if wrong else domain


def _own_name(key: str, option: Any) -> Any:
    """Returns our name of an option that the benchmark calls otherwise."""
    return step_names.canonical_name(option) if key in step_names.NAMED else option


def _with_own_names(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the searched keys as they stand, with our names of their options."""
    found = {}
    for key, domain in keys.items():
        found[key] = domain
        options = domain.get("choice")
        if isinstance(options, list):
            found[key] = {"choice": _own_name(key, options)}
        elif isinstance(options, dict):
            opened = {option: None if inner is None else _with_own_names(inner) for option, inner in options.items()}
            found[key] = {"choice": {_own_name(key, option): inner for option, inner in opened.items()}}
    return found


def _meant(key: str, option: Any) -> Any:
    """Returns the option that a mapping's key, which is always text, stands for: 4 for `step`."""
    return option if _value_problem(key, option) is None else strict_yaml.plain_value(option)


def _value_problem(key: str, value: Any) -> str | None:
    """Returns what is wrong with a value of a train-file key, or None."""
    if key in NOT_SEARCHED and key != "dataset":
        return NOT_SEARCHED[key]
    if key not in TrainConfig.model_fields:
        return unknown_key(key, TrainConfig.model_fields)
    try:
        _rule(key).validate_python(value)
    except ValidationError as error:
        return describe(error.errors(include_url=False))
    return None


@functools.cache
def _rule(key: str) -> TypeAdapter[Any]:
    info = TrainConfig.model_fields[key]
    rule: Any = Annotated[info.annotation, info]
    return TypeAdapter(rule, config=ConfigDict(strict=True, allow_inf_nan=False))


def _metrics(document: Document) -> list[Problem]:
    return [
        document.problem((part, name), f"unknown metric. Known: {', '.join(METRICS)}.{_meant_metric(name)}")
        for part in ("objectives", "constraints")
        for name in _mapping(document, part)
        if name not in METRICS
    ]


def _meant_metric(name: str) -> str:
    near = nearest(name, METRICS)
    return f" Did you mean {near}?" if near else ""


def _schedule(settings: SpaceSettings, document: Document) -> list[Problem]:
    grace, epochs = settings.scheduler.grace_epochs, settings.budget.epochs
    if settings.scheduler.name != "moasha" or grace <= epochs:
        return []
    text = f"grace_epochs <= budget.epochs must hold (got {grace}, epochs={epochs})"
    return [document.problem(("scheduler", "grace_epochs"), text)]


def _opened_twice(keys: Mapping[str, Distribution], document: Document) -> list[Problem]:
    problems = []
    for key, domain in keys.items():
        for inner in dict.fromkeys(_opened(domain)):
            owners = [other for other in keys if other == inner or (other != key and inner in _opened(keys[other]))]
            if owners:
                where = "stands in space of its own" if inner in keys else f"{owners[0]} opens too"
                text = f"{key} opens {inner}, which {where}; keep one of them"
                problems.append(document.problem(("space", key), text))
    return problems


def _unfit(base: Mapping[str, Any], keys: Mapping[str, Distribution], document: Document) -> list[Problem]:
    """Returns where the fixed values and the base do not go together, whatever is drawn."""
    searched = {*keys, *(inner for domain in keys.values() for inner in _opened(domain))}
    try:
        check_feasible(TrainConfig.model_validate(dict(base)))
    except ValidationError as error:
        texts = [line for item in error.errors(include_url=False) for line in describe([item]).splitlines()]
    except InfeasibleError as error:
        texts = [str(error)]
    else:
        return []
    problems = []
    for text in texts:
        words = re.findall(r"[a-z_]+", text)
        if not searched.intersection(words):  # else a drawn value may mend it
            fixed = [word for word in words if word in _mapping(document, "fixed")]
            scaled = [word for word in words if word in SCALED_WITH_EPOCHS]
            place = ("fixed", fixed[0]) if fixed else ("budget", "epochs") if scaled else ("base",)
            problems.append(document.problem(place, text))
    return problems


def _scaled(base: TrainConfig, settings: SpaceSettings) -> dict[str, Any]:
    """Returns the budget's epochs and, scaled with them, what the base counts in epochs."""
    share = settings.budget.epochs / base.epochs
    scaled = {key: round(getattr(base, key) * share) for key in SCALED_WITH_EPOCHS}
    if base.mixup_off_epoch:  # 0 would say that it never ends
        scaled["mixup_off_epoch"] = max(scaled["mixup_off_epoch"], 1)
    return {"epochs": settings.budget.epochs, **scaled}


def _unmeasured(base: Mapping[str, Any], keys: Mapping[str, Distribution], document: Document) -> list[Problem]:
    """Returns the problem of a search without validation data, by which trials are compared."""
    name = "val_fraction"
    place: Location = ("base",)
    shares = [base.get(name, TrainConfig.model_fields[name].default)]
    if name in keys:
        shares, place = keys[name].test_values(), ("space", name)
    elif name in _mapping(document, "fixed"):
        place = ("fixed", name)
    if all(shares):
        return []
    text = "val_fraction must be above 0 in a search, whose trials are compared on validation data (got 0)"
    return [document.problem(place, text)]


def _missing_keys(space: Space, document: Document) -> list[Problem]:
    """Returns the keys that must stand under the choices that have them: some model or neuron lacks them."""
    problems = []
    models, neurons = (_options(space, key) for key in ("model", "node_type"))
    for model in models:
        for neuron in neurons:
            for key in space.keys.keys() & registry.lacking(model, neuron):
                who, parent = (neuron, "node_type") if key in registry.ALL_NEURON_KEYS else (model, "model")
                text = f"{who} has no {key}; put {key} under the options of {parent} that have it"
                problems.append(document.problem(("space", key), text))
    for parent, domain in space.keys.items():
        for option, opened in (
            zip(domain.options, domain.conditional, strict=False) if isinstance(domain, Categorical) else ()
        ):
            for inner in opened.keys() & _lacking(parent, option):
                location = ("space", parent, "choice", str(option), inner)
                problems.append(document.problem(location, f"{option} has no {inner}; leave it out there"))
    return problems


def _lacking(key: str, option: Any) -> frozenset[str]:
    """Returns the keys that have no use with an option of a model, a neuron or an attention."""
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
    domain = space.keys.get(key)
    found = (
        domain.options
        if isinstance(domain, Categorical)
        else (space.base.get(key, TrainConfig.model_fields[key].default),)
    )
    return tuple(map(step_names.canonical_name, found))
