"""The space file: a train file in which some values are still distributions, and how they are to be searched."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from models.config import ConfigError, InfeasibleError, check_feasible
from search import domains, known
from search.domains import Choice, Domain, Real, Suggester
from trainers import config as train_file
from trainers.config import TrainConfig
from trainers.problems import sentence, shown
from trainers.uris import check_database, check_files, check_tracking, is_files

KNOWN_BEFOREHAND = frozenset({"params_m", "macs"})
"""Metrics that follow from the config alone; constraints on them refuse a config before training."""

BLIND = frozenset({"random", "qmc"})
"""Samplers that are asked for just what they are."""
NAME = r"[A-Za-z0-9._-]{1,80}"
MOST_EPOCHS = 100_000
STORAGE_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"study": {"type": "string"}, "checkpoints": {"type": "string"}},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}


def check_name(text: str) -> str:
    """Returns the name of a study, which becomes that of a folder. Raises ValueError with the rule."""
    if re.fullmatch(NAME, text) is None or text in (".", ".."):
        rule = "may hold letters, digits, dot, dash and underscore, 1 to 80 of them, and not be . or .."
        raise ValueError(f"{rule} (got {shown(text)})")
    return text


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Budget(_Part):
    """How much to spend. `epochs` is one full training; at least one of the others ends the search."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    trials: int | None = Field(None, ge=1, le=1_000_000)
    epochs_total: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _ends_and_suffices(self) -> Budget:
        if self.trials is None and self.epochs_total is None and self.hours is None:
            raise ValueError("needs trials, epochs_total or hours, or it would never end")
        if self.epochs_total is not None and self.epochs_total < self.epochs:
            raise ValueError(
                f"epochs <= epochs_total must hold, or no trial is trained to the end (got epochs={self.epochs}, "
                f"epochs_total={self.epochs_total})"
            )
        return self


class Sampler(_Part):
    name: Literal["tpe", "nsga2", "nsga3", "gp", "random", "qmc"] = "tpe"


class Scheduler(_Part):
    """Which trials stop early: `moasha` compares at grace_epochs, grace_epochs x reduction_factor, ...

    Mode `stop` ends the others; `promote` puts them on hold, and each goes on once it is among the best. A trial within
    `noise_margin` of the best, as a share of the rung's range, is among them; `brackets` above 1 let some trials be
    compared for the first time at a later rung.
    """

    name: Literal["moasha", "none"] = "moasha"
    mode: Literal["stop", "promote"] = "promote"
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: int = Field(3, ge=2, le=100)
    noise_margin: float = Field(0.0, ge=0, le=1)
    brackets: int = Field(1, ge=1, le=10)


class Resources(_Part):
    """What one trial gets."""

    cpu: float = Field(1, gt=0, le=1024)
    gpu: float = Field(0, ge=0, le=64)

    @field_validator("gpu")
    @classmethod
    def _shares_one_or_takes_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"must be a share of one GPU, or a whole number of them (got {value:g})")
        return value


@dataclass(frozen=True)
class Storage:
    """Where the study's database is, and where its checkpoints are: in the study's folder unless named here."""

    study: str | None = None
    checkpoints: str | None = None

    @classmethod
    def read(cls, value: Any) -> Storage:
        """Returns what a space file says: an address of a database or of files, or both by name. Raises ValueError."""
        if isinstance(value, str):
            return cls(checkpoints=check_files(value)) if is_files(value) else cls(study=check_database(value))
        if not isinstance(value, dict) or not value or not value.keys() <= {"study", "checkpoints"}:
            raise ValueError(
                f"must be an address, or a mapping of study and checkpoints to one each (got {shown(value)})"
            )
        checks = {"study": check_database, "checkpoints": check_files}
        return cls(**{key: checks[key](str(address)) for key, address in value.items()})


class Bound(_Part):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Bound:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max must hold (got min={self.min:g}, max={self.max:g})")
        return self

    def allows(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def violation(self, value: float) -> float:
        """Returns by how much the value is outside: above 0 where it is."""
        below = self.min - value if self.min is not None else float("-inf")
        above = value - self.max if self.max is not None else float("-inf")
        return max(below, above)


class Settings(_Part):
    """The keys of a space file as they stand; `base`, `fixed` and `space` are checked against the train file's."""

    study: Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": f"^{NAME}$"})]
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
    fuse: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tracking_uri: Annotated[str, AfterValidator(check_tracking)] | None = None
    storage: Annotated[Storage, PlainValidator(Storage.read), WithJsonSchema(STORAGE_SCHEMA)] | None = None

    @property
    def database(self) -> str | None:
        """Returns the address of the study's database; None where the study's folder holds it."""
        return None if self.storage is None else self.storage.study

    @property
    def checkpoints(self) -> str | None:
        """Returns where this study's checkpoints are kept; None where that is its folder."""
        place = None if self.storage is None else self.storage.checkpoints
        return None if place is None else f"{place.rstrip('/')}/{self.study}"


@dataclass(frozen=True)
class Space:
    """A checked space file.

    `base` holds the train-file keys that all trials share, as given; `keys` are the searched ones with their
    distributions, in the file's order.
    """

    settings: Settings
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
        try:
            config = TrainConfig.model_validate({**self.base, **values})
        except ValidationError as error:
            found = error.errors(include_url=False)
            text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {sentence([e])}".lstrip(": ") for e in found)
            raise InfeasibleError(text.replace("\n", "; ")) from None
        check_feasible(config)
        return config

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
        """Returns each config of start_with with its values, or with the sentence that says why it does not fit."""
        return list(self._recipes)

    @cached_property
    def _recipes(self) -> list[tuple[str, dict[str, Any], str | None]]:
        found: list[tuple[str, dict[str, Any], str | None]] = []
        for entry in self.settings.start_with:
            try:
                configs = known.configs(entry)
            except ConfigError as error:  # deleted since the study began, which holds what was in it
                found.append((entry, {}, str(error)))
                continue
            for name, config in configs:
                try:
                    found.append((name, self.values_of(config), None))
                except ConfigError as error:
                    found.append((name, {}, str(error)))
        return found

    def bounds(self) -> dict[str, dict[str, float]]:
        """Returns the constraints by metric: what `min` and `max` there are."""
        return {name: bound.model_dump(exclude_none=True) for name, bound in self.settings.constraints.items()}

    def bounded(self) -> list[str]:
        """Returns the measured metrics that have bounds and are no objectives."""
        return [name for name in self.settings.constraints if name not in (*self.objectives, *KNOWN_BEFOREHAND)]

    def size(self) -> float:
        """Returns the number of configs in the space, infinite where a key is real."""
        total = 1.0
        for domain in self.keys.values():
            total *= domain.count()
        return total

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yields the values of every config of a finite space, in the file's order. Raises ValueError for real keys."""
        for values in itertools.product(*(_every(key, domain) for key, domain in self.keys.items())):
            yield {key: value for part in values for key, value in part.items()}

    def domain(self, key: str, values: Mapping[str, Any]) -> Domain:
        """Returns the distribution of an active key, that of the option which opens it where there is one."""
        if key in self.keys:
            return self.keys[key]
        for outer, domain in self.keys.items():
            opened = domain.opened_by(values[outer]) if isinstance(domain, Choice) else {}
            if key in opened:
                return opened[key]
        raise KeyError(key)

    def rungs(self) -> list[int]:
        """Returns the epochs of successive halving at which trials are compared, below the full training."""
        scheduler = self.settings.scheduler
        levels: list[int] = []
        if scheduler.name == "moasha":
            level = scheduler.grace_epochs
            while level < self.budget.epochs:
                levels.append(level)
                level *= scheduler.reduction_factor
        return levels

    def is_guided(self) -> bool:
        """Returns whether a forecast chooses among the trials that wait and new configs."""
        scheduler = self.settings.scheduler
        return scheduler.name == "moasha" and scheduler.mode == "promote" and self.settings.sampler.name not in BLIND

    def looks(self) -> list[int]:
        """Returns the epochs at which trials are compared: the rungs, and half way between them for a forecast."""
        rungs = self.rungs()
        if not self.is_guided():
            return rungs
        between = ((low + high) // 2 for low, high in itertools.pairwise([*rungs, self.budget.epochs]))
        return sorted({*rungs, *between})


def _every(key: str, domain: Domain) -> Iterator[dict[str, Any]]:
    if isinstance(domain, Real):
        raise ValueError(f"{key} takes any real number, so the space has no grid")
    for value in domain.values():
        opened = domain.opened_by(value) if isinstance(domain, Choice) else {}
        for inner in itertools.product(*(_every(name, other) for name, other in opened.items())):
            yield {key: value} | {name: other for part in inner for name, other in part.items()}


def _held(key: str, domain: Domain, config: Mapping[str, Any]) -> Any:
    value = config.get(key)
    if not domain.holds(value):
        raise ConfigError(f"{key} is {value!r} there, which is outside its distribution")
    return domain.own(value)
