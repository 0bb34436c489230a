"""Schema of the space file: its top-level keys as pydantic models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from config.messages import abbreviated
from config.uris import check_database, check_file_system, check_tracking, is_file_system
from trainers.exits.settings import DEFAULT_POINTS, DEFAULTS, ExitSettings

STATIC_METRICS = frozenset({"params_m", "macs"})
"""Metrics that follow from the config alone; constraints on them refuse a config before training."""
NON_ADAPTIVE = frozenset({"random", "qmc"})
"""Samplers without a model of the results, whose suggestions are used unchanged."""
NAME = r"[A-Za-z0-9._-]{1,80}"
MAX_SEEDS = 100
"""Largest number of trainings of one config."""

_ADDRESS_CHECKS = {"study": check_database, "checkpoints": check_file_system}
_ADDRESS: dict[str, Any] = {"type": "string"}
_ADDRESSES = {"type": "object", "properties": dict.fromkeys(_ADDRESS_CHECKS, _ADDRESS), "additionalProperties": False}
STORAGE_SCHEMA = {"anyOf": [_ADDRESS, {**_ADDRESSES, "minProperties": 1}, {"type": "null"}]}


def check_name(text: str) -> str:
    """Returns the name of a study and of its folder unchanged. Raises ValueError with the rule."""
    if re.fullmatch(NAME, text) is None or text in (".", ".."):
        rule = "may hold letters, digits, dot, dash and underscore, 1 to 80 of them, and not be . or .."
        raise ValueError(f"{rule} (got {abbreviated(text)})")
    return text


class _Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class BudgetSettings(_Section):
    """Budget of the search. `epochs` is one full training; at least one of the other keys ends the search."""

    epochs: int = Field(ge=1, le=100_000)
    trials: int | None = Field(None, ge=1, le=1_000_000)
    epochs_total: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _ends_and_suffices(self) -> BudgetSettings:
        if self.trials is None and self.epochs_total is None and self.hours is None:
            raise ValueError("needs trials, epochs_total or hours, or it would never end")
        if self.epochs_total is not None and self.epochs_total < self.epochs:
            raise ValueError(
                f"epochs <= epochs_total must hold, or no trial is trained to the end (got epochs={self.epochs}, "
                f"epochs_total={self.epochs_total})"
            )
        return self


class SamplerSettings(_Section):
    """Source of new configs: `mobo`, two thirds of them chosen by a model of the rungs, or one of Optuna's samplers."""

    name: Literal["tpe", "nsga2", "nsga3", "gp", "random", "qmc", "mobo"] = "mobo"


class SchedulerSettings(_Section):
    """Early stopping of trials: `moasha` has rungs at grace_epochs, grace_epochs x reduction_factor, ...

    Mode `stop` ends the trials that are not among a rung's best; `promote` pauses them, and resumes each once it is
    among the best. `noise_margin`, a share of the rung's range, widens the best; with `brackets` above 1 some trials
    have their first rung later.
    """

    name: Literal["moasha", "none"] = "moasha"
    mode: Literal["stop", "promote"] = "promote"
    grace_epochs: int = Field(1, ge=1)
    reduction_factor: int = Field(3, ge=2, le=100)
    noise_margin: float = Field(0.0, ge=0, le=1)
    brackets: int = Field(1, ge=1, le=10)


class ExitsSettings(_Section):
    """Exit points of each full training: images end once their read-out is sure.

    `points` is their number; with `by_step`, each step has a threshold of its own.
    """

    rule: Literal["confidence", "msprt", "margin", "entropy", "agreement"] = "confidence"
    points: int = Field(DEFAULT_POINTS, ge=1, le=100)
    by_step: bool = False


class Resources(_Section):
    """Resources of one trial."""

    cpu: float = Field(1, gt=0, le=1024)
    gpu: float = Field(0, ge=0, le=64)

    @field_validator("gpu")
    @classmethod
    def _shares_one_or_takes_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"must be a share of one GPU, or a whole number of them (got {value:g})")
        return value


@dataclass(frozen=True)
class StorageSettings:
    """Addresses of the study's database and of its checkpoints; None for the study's folder."""

    study: str | None = None
    checkpoints: str | None = None


def _storage(value: Any) -> StorageSettings:
    """Returns the settings of one address, of a database or of files, or of both by name. Raises ValueError."""
    if isinstance(value, str):
        value = {"checkpoints" if is_file_system(value) else "study": value}
    if value is None:
        return StorageSettings()
    if not isinstance(value, dict) or not value or not value.keys() <= _ADDRESS_CHECKS.keys():
        form = "an address, or a mapping of study and checkpoints to one each"
        raise ValueError(f"must be {form} (got {abbreviated(value)})")
    return StorageSettings(**{key: _ADDRESS_CHECKS[key](str(address)) for key, address in value.items()})


class Constraint(_Section):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Constraint:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max must hold (got min={self.min:g}, max={self.max:g})")
        return self

    def violation(self, value: float) -> float:
        """Returns by how much the value exceeds its bounds: positive outside of them."""
        below = self.min - value if self.min is not None else float("-inf")
        above = value - self.max if self.max is not None else float("-inf")
        return max(below, above)


class SpaceSettings(_Section):
    """The keys of a space file. `base`, `fixed` and `space` are checked against the train file's keys elsewhere."""

    study: Annotated[str, AfterValidator(check_name), Field(json_schema_extra={"pattern": f"^{NAME}$"})]
    base: str
    fixed: dict[str, Any] = {}
    objectives: Annotated[dict[str, Literal["maximize", "minimize"]], Field(min_length=1)]
    space: Annotated[dict[str, Any], Field(min_length=1)]
    constraints: dict[str, Constraint] = {}
    start_with: list[str] = []
    budget: BudgetSettings
    sampler: SamplerSettings = SamplerSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    resources: Resources = Resources()
    fuse: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] = 1
    exits: ExitsSettings | None = None
    tracking_uri: Annotated[str, AfterValidator(check_tracking)] | None = None
    storage: Annotated[StorageSettings, PlainValidator(_storage), WithJsonSchema(STORAGE_SCHEMA)] = StorageSettings()

    @property
    def exit_settings(self) -> ExitSettings:
        """Returns the settings of the exit points of a training."""
        return DEFAULTS if self.exits is None else ExitSettings(self.exits.points, self.exits.by_step)

    @property
    def database(self) -> str | None:
        """Returns the address of the study's database, or None for the study's folder."""
        return self.storage.study

    @property
    def checkpoints(self) -> str | None:
        """Returns the address of this study's checkpoints, or None for its folder."""
        address = self.storage.checkpoints
        return None if address is None else f"{address.rstrip('/')}/{self.study}"

    def rung_epochs(self) -> list[int]:
        """Returns the epochs of the rungs of successive halving, below the full training."""
        levels: list[int] = []
        level = self.scheduler.grace_epochs
        while self.scheduler.name == "moasha" and level < self.budget.epochs:
            levels.append(level)
            level *= self.scheduler.reduction_factor
        return levels
