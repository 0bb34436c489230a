"""Recorded learning curves: every config of a discrete space, trained to the end, read back in place of training."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config.distributions import Categorical, Distribution, Integer
from config.errors import ConfigError, InfeasibleError
from search.space import reader
from search.space.feasibility import check_constraints
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

SPACE, FACTS, DATA = "space.yml", "table.json", "curves.npz"
"""The files of a table's folder."""
NEEDED = frozenset({"sha256", "seeds", "configs", "metrics", "read_outs", "failures"})
"""What the facts must hold for the arrays to be understood."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Curve:
    """One recorded training: what it said after each epoch, and the CPU seconds of each.

    `failure` is the class that the health rules found, and after how many epochs, parts of one included, they would
    have ended the training; the curve goes on beyond, to the end or to the epoch in which the net diverged.
    """

    epochs: tuple[EpochMetrics, ...]
    cpu_s: tuple[float, ...]
    failure: tuple[str, float] | None


@dataclass(frozen=True)
class RecordedCurves:
    """All curves of a space.

    `configs` are the values of the searched keys of each config, active ones only; `numbers` finds a config's number by
    its identity; `facts` is the file table.json.
    """

    space: Space
    configs: tuple[dict[str, Any], ...]
    facts: Mapping[str, Any]
    arrays: Mapping[str, Array]
    numbers: Mapping[str, int]
    _read: dict[tuple[int, int], Curve] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.space.study

    @property
    def epochs(self) -> int:
        """Returns the epochs of a full training."""
        return self.space.budget.epochs

    @property
    def seeds(self) -> tuple[int, ...]:
        """Returns the train-file seeds with which each config was trained."""
        return tuple(self.facts["seeds"])

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of a config. Raises ConfigError when it is not in the table."""
        found = self.numbers.get(identity(values))
        if found is None:
            raise ConfigError(f"{self.name} holds no curve of {dict(values)!r}; it holds those of its space.yml only")
        return found

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the curve of a config's number and of a position in `seeds`."""
        at = index, seed_position
        if at not in self._read:
            found = {name: array[at] for name, array in self.arrays.items()}
            done, kind = int(found["done"]), self.facts["failures"][int(found["failure"])]
            self._read[at] = Curve(
                tuple(self._epoch(found, epoch) for epoch in range(done)),
                tuple(found["cpu_s"][:done].tolist()),
                None if kind is None else (kind, float(found["failed_after"])),
            )
        return self._read[at]

    def _epoch(self, found: Mapping[str, Array], epoch: int) -> EpochMetrics:
        metrics = dict(zip(self.facts["metrics"], found["metrics"][epoch].tolist(), strict=True))
        names = self.facts["read_outs"]
        rows = [dict(zip(names, row.tolist(), strict=True)) for row in found["read_outs"][epoch] if row[0] > 0]
        return EpochMetrics(epoch + 1, metrics, [{**row, "read_step": int(row["read_step"])} for row in rows], [])


def identity(values: Mapping[str, Any]) -> str:
    """Returns a text that is equal for equal values, whatever the order of the keys."""
    return json.dumps(values, sort_keys=True)


def grid(space: Space) -> list[dict[str, Any]]:
    """Returns the values of every config of a discrete space, in the file's order, refused ones left out.

    Raises ConfigError when a key is not discrete.
    """
    return [values for values in _combinations(space.keys) if _is_feasible(space, values)]


def _combinations(keys: Mapping[str, Distribution]) -> Iterator[dict[str, Any]]:
    for parts in itertools.product(*(list(_settings(key, domain)) for key, domain in keys.items())):
        yield {key: value for part in parts for key, value in part.items()}


def _settings(key: str, domain: Distribution) -> Iterator[dict[str, Any]]:
    """Yields each value of a key, with each combination of the keys that it opens."""
    if isinstance(domain, Integer):
        yield from ({key: value} for value in range(domain.low, domain.high + 1, domain.step))
    elif isinstance(domain, Categorical):
        for option in domain.options:
            yield from ({key: option, **inner} for inner in _combinations(domain.keys_under(option)))
    else:
        raise ConfigError(f"{key}: a table needs choice or int (got uniform or log_uniform, whose values have no end)")


def _is_feasible(space: Space, values: Mapping[str, Any]) -> bool:
    try:
        check_constraints(space.train_config(values), space.settings.constraints)
    except InfeasibleError:
        return False
    return True


def load(folder: Path | str) -> RecordedCurves:
    """Returns the table of a folder. Raises ConfigError when a file is missing, damaged or of another recording."""
    folder = Path(folder)
    facts = _facts(folder)
    content = _bytes(folder / DATA)
    if hashlib.sha256(content).hexdigest() != facts["sha256"].get(DATA):
        raise ConfigError(f"{folder / DATA}: its SHA-256 is not the one in {FACTS}; fetch the table again")
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    space = reader.load(str(folder / SPACE))
    configs = tuple(facts["configs"])
    return RecordedCurves(
        space, configs, facts, arrays, {identity(values): number for number, values in enumerate(configs)}
    )


def _facts(folder: Path) -> dict[str, Any]:
    content = _bytes(folder / FACTS)
    try:
        facts: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{folder / FACTS}: no JSON ({error})") from None
    missing = NEEDED - facts.keys() if isinstance(facts, dict) else NEEDED
    if missing:
        raise ConfigError(f"{folder / FACTS}: lacks {', '.join(sorted(missing))}; fetch the table again")
    return facts


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); a table has {SPACE}, {FACTS}, {DATA}") from None
