"""Reading of a space file: document, base, distributions, initial configs, checks, Space."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from config import distributions, strict_yaml
from config.distributions import Categorical, Distribution, Float
from config.document import Document, Location, Problem
from config.errors import ConfigError
from config.messages import SPACE_PAGE, describe, unknown_key
from config.uris import without_secrets
from results.folder import SPACE_FILE, study_location
from results.metrics import METRICS
from search.space import checks, initial_configs
from search.space.schema import (
    BudgetSettings,
    Constraint,
    ExitsSettings,
    Resources,
    SamplerSettings,
    SchedulerSettings,
    SpaceSettings,
)
from search.space.space import Space
from trainers import config as train_file
from trainers.config import TrainConfig

SECTIONS: Mapping[str, type[BaseModel]] = {
    "budget": BudgetSettings,
    "sampler": SamplerSettings,
    "scheduler": SchedulerSettings,
    "resources": Resources,
    "constraints": Constraint,
    "exits": ExitsSettings,
}


def load(path: str, overrides: list[str] | None = None) -> Space:
    """Returns a checked space file. Raises ConfigError that lists all problems, each with its line."""
    return read(strict_yaml.override(strict_yaml.read(path, tolerant=True), overrides or []))


def read(document: Document) -> Space:
    """Returns the space of a parsed document. Raises ConfigError that lists all problems, each with its line."""
    if "model" in document.data and "space" not in document.data:
        text = "is a train file, which is trained (python -m trainers.run --config), not a space file"
        raise ConfigError(f"{document.source}:{document.line(('model',))}: {text}")
    settings, problems = read_settings(document)
    keys = _keys(document, problems)
    problems += checks.structure(document, keys)
    start = _start(document, problems)
    base = _base(document, settings, problems)
    if settings is not None:
        problems += [*checks.grace_epochs(settings, document), *checks.seeds(settings, keys, document)]
    if settings is not None and not problems:
        problems += [*checks.base(base, keys, document), *checks.validation_data(base, keys, document)]
    if not problems and not _is_own_copy(document):
        problems += checks.initial_checkpoints(base, keys, document)
    document.refuse(problems)
    assert settings is not None
    space = Space(settings, base, keys, _raw(document), start)
    document.refuse(list(checks.key_owners(space, document)))
    for name, direction in settings.objectives.items():
        if direction != METRICS[name].direction:
            unusual = document.problem(("objectives", name), f"{direction} seeks the worst values; is that intended?")
            warnings.warn(document.sentence(unusual), stacklevel=2)
    return space


def read_settings(document: Document) -> tuple[SpaceSettings | None, list[Problem]]:
    """Returns the settings, or None and the problems of their structure."""
    try:
        return SpaceSettings.model_validate(document.data), []
    except ValidationError as error:
        return None, [_structural(item, document) for item in error.errors(include_url=False)]


def _structural(item: Any, document: Document) -> Problem:
    location: Location = tuple(part for part in item["loc"] if part != "[key]")
    text = _unknown(location) if item["type"] == "extra_forbidden" else describe([item])
    return document.problem(location, text)


def _unknown(location: Location) -> str:
    key = str(location[-1])
    if len(location) > 1:
        return unknown_key(key, SECTIONS[str(location[0])].model_fields, SPACE_PAGE)
    if key in BudgetSettings.model_fields:
        return "belongs under budget, indented"
    if key in TrainConfig.model_fields:
        return "is a key of the train file; put it under fixed or space, indented"
    return unknown_key(key, SpaceSettings.model_fields, SPACE_PAGE)


def _keys(document: Document, problems: list[Problem]) -> dict[str, Distribution]:
    """Returns the searched keys with valid distributions; adds the problems of the others."""
    raw = checks.mapping(document, "space")
    keys = {key: _read_key(key, value, ("space", key), document, problems) for key, value in raw.items()}
    return {key: distribution for key, distribution in keys.items() if distribution is not None}


def _read_key(
    key: str, raw: Any, location: Location, document: Document, problems: list[Problem], depth: int = 0
) -> Distribution | None:
    """Returns the distribution of a key, or None if it is invalid; adds its problems."""

    def read_inner(option: str, inner: str, inner_raw: Any) -> Distribution | None:
        return _read_key(inner, inner_raw, (*location, "choice", option, inner), document, problems, depth + 1)

    try:
        checks.searchable(key)
        distribution = distributions.parse(raw, read_inner)
        if isinstance(distribution, Categorical):
            distribution = _with_canonical_options(key, distribution, depth)
    except ConfigError as error:
        problems.append(document.problem(location, str(error)))
        return None
    wrong = _wrong_values(key, distribution, location, document)
    problems += wrong
    return None if wrong else distribution


def _with_canonical_options(key: str, choice: Categorical, depth: int) -> Categorical:
    """Returns the choice with our names of its options. Raises ConfigError."""
    if choice.conditional and depth:
        raise ConfigError("a key that an option opens may not open further keys")
    options = [_typed(key, option) for option in choice.options] if choice.conditional else choice.options
    options = tuple(_canonical(key, option) for option in options)
    if len(set(map(distributions.label, options))) < len(options):
        names = ", ".join("none" if option is None else str(option) for option in options)
        raise ConfigError(f"choice lists an option twice: its options mean {names}")
    return replace(choice, options=options)


def _wrong_values(key: str, distribution: Distribution, location: Location, document: Document) -> list[Problem]:
    """Returns the problems of a distribution's ends or options under the key's rule: one, or one per option."""
    texts = [checks.value_problem(key, value) for value in distribution.test_values()]
    if isinstance(distribution, Categorical):
        return [
            replace(document.problem(location, text), line=document.line((*location, "choice", i)))
            for i, text in enumerate(texts)
            if text is not None
        ]
    text = next(filter(None, texts), None)
    if text is None:
        return []
    hint = "; use int or log_int" if isinstance(distribution, Float) and "a whole number" in text else ""
    return [document.problem(location, text + hint)]


def _typed(key: str, option: str) -> Any:
    """Returns the value of an option in a mapping, whose keys are text: 4 for `step`."""
    return option if checks.value_problem(key, option) is None else strict_yaml.plain_value(option)


def _canonical(key: str, option: Any) -> Any:
    """Returns our name of an option, and None for `none` if the key may be without a value."""
    return train_file.canonical({key: option})[key]


def _raw(document: Document) -> dict[str, Any]:
    """Returns the document's data with our names of the options, without secrets."""
    raw = {key: without_secrets(value) if isinstance(value, str) else value for key, value in document.data.items()}
    return {**raw, "space": _canonical_keys(document.data["space"])}


def _canonical_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _canonical_choice(key, raw, raw.get("choice")) for key, raw in keys.items()}


def _canonical_choice(key: str, raw: Mapping[str, Any], options: Any) -> Mapping[str, Any]:
    if isinstance(options, list):
        return {"choice": [_canonical(key, option) for option in options]}
    if isinstance(options, dict):
        names = {option: option if _canonical(key, option) is None else _canonical(key, option) for option in options}
        return {"choice": {names[option]: keys and _canonical_keys(keys) for option, keys in options.items()}}
    return raw


def _base(document: Document, settings: SpaceSettings | None, problems: list[Problem]) -> dict[str, Any]:
    """Returns the base train file with the fixed values, the budget's epochs and the exit rule; adds its problems.

    Exit keys of the base are left out: `exits` decides.
    """
    name = document.data.get("base")
    if not isinstance(name, str):
        return {}
    text = initial_configs.missing_file(name)
    if text is not None:
        problems.append(document.problem(("base",), text))
        return {}
    try:
        recipe = strict_yaml.read(train_file.recipe_path(name))
        config = train_file.parse(recipe)
    except ConfigError as error:
        problems.append(document.problem(("base",), f"cannot be used:\n{error}"))
        return {}
    scaled = _scaled(config, settings.budget.epochs) if settings is not None else {}
    fixed = train_file.canonical(dict(checks.mapping(document, "fixed")))
    values = {**train_file.canonical_data(recipe), **scaled, **fixed}
    values = {key: value for key, value in values.items() if key not in checks.EXIT_KEYS}
    return values if settings is None or settings.exits is None else {**values, "exit_rule": settings.exits.rule}


def _scaled(base: TrainConfig, epochs: int) -> dict[str, Any]:
    """Returns the budget's epochs, and the base's epoch counts scaled to them."""
    scaled = {key: round(getattr(base, key) * epochs / base.epochs) for key in checks.SCALED_WITH_EPOCHS}
    if base.mixup_off_epoch:  # 0 would keep mixup on
        scaled["mixup_off_epoch"] = max(scaled["mixup_off_epoch"], 1)
    return {"epochs": epochs, **scaled}


def _start(document: Document, problems: list[Problem]) -> tuple[tuple[str, Mapping[str, Any] | ConfigError], ...]:
    """Returns the train files of `start_with`, or the error of an entry; adds the errors to the problems.

    In a study's copy of the file they are not problems, because the study stores the configs.
    """
    names = document.data.get("start_with")
    start: list[tuple[str, Mapping[str, Any] | ConfigError]] = []
    for i, name in enumerate(names if isinstance(names, list) else ()):
        if not isinstance(name, str):
            continue
        try:
            start += initial_configs.resolve(name)
        except ConfigError as error:
            start.append((name, error))
            if not _is_own_copy(document):
                problems.append(document.problem(("start_with", i), _unusable(name, error, document)))
    return tuple(start)


def _is_own_copy(document: Document) -> bool:
    """Returns whether a document is the space file in a study's folder."""
    path = Path(document.source)
    return path.name == SPACE_FILE and study_location(path.parent) is not None


def _unusable(name: str, error: ConfigError, document: Document) -> str:
    missing = None if initial_configs.is_study(name) else initial_configs.missing_file(name)
    copy = Path("runs") / str(document.data.get("study")) / SPACE_FILE
    hint = f". To resume the study, run `python -m search.run {copy}`" if copy.exists() else ""
    return (missing or f"cannot be used:\n{error}") + hint
