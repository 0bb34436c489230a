"""The space file: a train file in which some values are still distributions, and how they are to be searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models import registry
from models.config import ConfigError, InfeasibleError, check_feasible
from results.metrics import METRICS
from search import domains
from search.domains import Choice, Domain, Suggester
from trainers import config as train_file
from trainers import strict_yaml
from trainers.config import TrainConfig
from trainers.problems import sentence, unknown_key
from trainers.strict_yaml import Document, Location, Problem

KNOWN_BEFOREHAND = frozenset({"params_m", "macs"})
"""Metrics that follow from the config alone; constraints on them refuse a config before training."""

SCALED_WITH_EPOCHS = ("warmup_epochs", "cooldown_epochs", "mixup_off_epoch")
NOT_SEARCHED = {
    "epochs": "set budget.epochs",
    "output": "a study writes to its own folder",
    "dataset": "set it in base or fixed",
}
NAME = r"^[A-Za-z0-9._-]{1,80}$"


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Budget(_Part):
    """How much to spend. `epochs` is one full training; at least one of the others ends the search."""

    epochs: int = Field(ge=1)
    trials: int | None = Field(None, ge=1, le=1_000_000)
    epochs_total: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)


class Sampler(_Part):
    name: Literal["tpe", "nsga2", "nsga3", "gp", "random", "qmc"] = "tpe"


class Scheduler(_Part):
    """Which trials stop early: `moasha` compares at grace_epochs, grace_epochs x reduction_factor, ..."""

    name: Literal["moasha", "none"] = "moasha"
    mode: Literal["stop"] = "stop"
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: int = Field(3, ge=2, le=100)


class Resources(_Part):
    """What one trial gets."""

    cpu: float = Field(1, gt=0, le=1024)
    gpu: float = Field(0, ge=0, le=64)


class Bound(_Part):
    min: float | None = None
    max: float | None = None

    def allows(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def violation(self, value: float) -> float:
        """Returns by how much the value is outside: above 0 where it is."""
        below = self.min - value if self.min is not None else float("-inf")
        above = value - self.max if self.max is not None else float("-inf")
        return max(below, above)


class _SpaceFile(_Part):
    """The keys of a space file, but for `base`, `fixed` and `space`, which are checked against the train file's."""

    study: Annotated[str, Field(pattern=NAME)]
    base: str
    fixed: dict[str, Any] = {}
    objectives: Annotated[dict[str, Literal["maximize", "minimize"]], Field(min_length=1)]
    space: Annotated[dict[str, Any], Field(min_length=1)]
    constraints: dict[str, Bound] = {}
    start_with: list[str] = []
    budget: Budget
    sampler: Sampler = Sampler()
    scheduler: Scheduler = Scheduler()
    resources: Resources = Resources()
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    tracking_uri: str | None = None


@dataclass(frozen=True)
class Space:
    """A checked space file.

    `base` holds the train-file keys that all trials share, as given; `keys` are the searched ones with their
    distributions, in the file's order.
    """

    settings: _SpaceFile
    base: Mapping[str, Any]
    keys: Mapping[str, Domain]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def study(self) -> str:
        return self.settings.study

    @property
    def budget(self) -> Budget:
        return self.settings.budget

    @property
    def objectives(self) -> Mapping[str, Literal["maximize", "minimize"]]:
        return self.settings.objectives

    def searched(self) -> list[str]:
        """Returns every searched key, those that an option opens included."""
        found: dict[str, None] = {}
        for key, domain in self.keys.items():
            found[key] = None
            for opened in domain.opens if isinstance(domain, Choice) else ():
                found.update(dict.fromkeys(opened))
        return list(found)

    def draw(self, suggester: Suggester) -> dict[str, Any]:
        """Returns a value for each active key. A key that several options open has its option in its Optuna name."""
        values: dict[str, Any] = {}
        for key, domain in self.keys.items():
            values[key] = domain.draw(suggester, key)
            if isinstance(domain, Choice):
                for inner, opened in domain.opened_by(values[key]).items():
                    values[inner] = opened.draw(suggester, self.parameter(key, values[key], inner))
        return values

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns drawn values as Optuna stores them: by parameter name, options by their label."""
        found: dict[str, Any] = {}
        for key, domain in self.keys.items():
            found[key] = domains.label(values[key])
            for inner in domain.opened_by(values[key]) if isinstance(domain, Choice) else ():
                found[self.parameter(key, values[key], inner)] = domains.label(values[inner])
        return found

    def parameter(self, key: str, option: Any, inner: str) -> str:
        """Returns the Optuna name of a key that `option` of `key` opens."""
        domain = self.keys[key]
        assert isinstance(domain, Choice)
        shared = sum(inner in opened for opened in domain.opens) > 1
        return f"{key}={domains.label(option)}.{inner}" if shared else inner

    def config(self, values: Mapping[str, Any]) -> TrainConfig:
        """Returns the train file of these values. Raises InfeasibleError where they do not go together."""
        data = {**self.base, **values}
        try:
            config = TrainConfig.model_validate(data)
        except ValidationError as error:
            found = error.errors(include_url=False)
            text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {sentence([e])}".lstrip(": ") for e in found)
            raise InfeasibleError(text) from None
        check_feasible(config)
        return config

    def config_of_base(self) -> TrainConfig:
        """Returns the train file with nothing searched: what all trials share."""
        return TrainConfig.model_validate(dict(self.base))

    def yaml(self) -> str:
        """Returns the space file as it was read, overrides put in."""
        return train_file.dump_yaml(self.raw)

    def values_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the searched keys of a known train file. Raises ConfigError naming the key that is out of range."""
        values: dict[str, Any] = {}
        for key, domain in self.keys.items():
            values[key] = _held(key, domain, config)
            if isinstance(domain, Choice):
                for inner, opened in domain.opened_by(values[key]).items():
                    values[inner] = _held(inner, opened, config)
        return values

    def recipes(self) -> list[tuple[str, dict[str, Any], str | None]]:
        """Returns each recipe of start_with with its values, or with the sentence that says why it does not fit."""
        found: list[tuple[str, dict[str, Any], str | None]] = []
        for name in self.settings.start_with:
            recipe = train_file.load(train_file.recipe_path(name)).dump()
            try:
                found.append((name, self.values_of(recipe), None))
            except ConfigError as error:
                found.append((name, {}, str(error)))
        return found

    def size(self) -> float:
        """Returns the number of configs in the space, infinite where a key is real."""
        total = 1.0
        for domain in self.keys.values():
            total *= domain.count()
        return total

    def rungs(self) -> list[int]:
        """Returns the epochs at which trials are compared, below the full training."""
        scheduler = self.settings.scheduler
        levels: list[int] = []
        if scheduler.name == "moasha":
            level = scheduler.grace_epochs
            while level < self.budget.epochs:
                levels.append(level)
                level *= scheduler.reduction_factor
        return levels


def _held(key: str, domain: Domain, config: Mapping[str, Any]) -> Any:
    value = config.get(key)
    if not domain.holds(value):
        raise ConfigError(f"{key} is {value!r} there, which is outside its distribution")
    return value


def load(path: str, overrides: list[str] | None = None) -> Space:
    """Returns a checked space file. Raises ConfigError that lists everything wrong with it, each with its line."""
    return read(train_file.override(strict_yaml.read(path), overrides or []))


def read(document: Document) -> Space:
    """Returns the space that a parsed document states, as `load` does."""
    try:
        settings = _SpaceFile.model_validate(document.data)
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
    _refuse_missing_neuron_keys(space, document)
    return space


def _structural(error: ValidationError, document: Document) -> list[Problem]:
    problems = []
    for item in error.errors(include_url=False):
        location: Location = tuple(part for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = _SpaceFile.model_fields if len(location) == 1 else _fields_at(location)
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


def _base(settings: _SpaceFile, document: Document) -> tuple[dict[str, Any], list[Problem]]:
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


def _cross_checks(settings: _SpaceFile, keys: Mapping[str, Domain], document: Document) -> list[Problem]:
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


def _scaled(base: TrainConfig, settings: _SpaceFile) -> dict[str, Any]:
    """Returns the budget's epochs and, scaled with them, what the base counts in epochs."""
    share = settings.budget.epochs / base.epochs
    return {"epochs": settings.budget.epochs, **{key: round(getattr(base, key) * share) for key in SCALED_WITH_EPOCHS}}


def _refuse_missing_neuron_keys(space: Space, document: Document) -> None:
    """A neuron key must stand under the neurons that have it, where some neuron of the space lacks it."""
    node = space.keys.get("node_type")
    neurons = node.options if isinstance(node, Choice) else (space.config_of_base().node_type,)
    problems = []
    for neuron in neurons:
        has = registry.NEURON_KEYS[neuron]
        for key in space.keys:
            if key in registry.ALL_NEURON_KEYS and key not in has:
                text = f"{neuron} has no {key}; put {key} under the options of node_type that have it"
                problems.append(document.problem(("space", key), text))
    if problems:
        raise document.error(problems)
