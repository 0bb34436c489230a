"""Recorded learning curves: every config of a discrete space, trained to the end, read in place of training."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import ConfigError
from search.algorithm.samplers import config_key
from search.space import reader
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

SPACE_FILE, METADATA_FILE, CURVES_FILE = "space.yml", "table.json", "curves.npz"
"""The files of a table's folder."""
REQUIRED = frozenset({"sha256", "seeds", "configs", "metrics", "read_outs", "failures"})
"""Keys of the metadata without which the arrays cannot be read."""


@dataclass(frozen=True)
class Curve:
    """One recorded training: its metrics after each epoch, and the CPU seconds of each.

    `failure` is the class found by the health rules, and the epochs, as a fraction, after which they would have ended
    the training. The curve continues beyond, to the end or to the epoch in which the net diverged.
    """

    epochs: tuple[EpochMetrics, ...]
    cpu_s: tuple[float, ...]
    failure: tuple[str, float] | None


@dataclass(frozen=True)
class RecordedCurves:
    """The curves of all configs of a space; `configs` are the values of the active searched keys.

    `numbers` maps the key of a config to its number; `metadata` is the file table.json.
    """

    space: Space
    configs: tuple[dict[str, Any], ...]
    metadata: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray[Any, Any]]
    numbers: Mapping[str, int]
    _cache: dict[tuple[int, int], Curve] = field(default_factory=dict, repr=False)

    @property
    def epochs(self) -> int:
        """Returns the epochs of a full training."""
        return self.space.budget.epochs

    @property
    def seeds(self) -> tuple[int, ...]:
        """Returns the train-file seeds with which each config was trained."""
        return tuple(self.metadata["seeds"])

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of a config. Raises ConfigError if it is not in the table."""
        found = self.numbers.get(config_key(values))
        if found is None:
            raise ConfigError(
                f"{self.space.study} holds no curve of {dict(values)!r}; it holds those of its space.yml only"
            )
        return found

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the curve of a config's number and of a position in `seeds`, counted round those recorded of it."""
        at = index, seed_position % self.num_seeds(index)
        if at not in self._cache:
            found = {name: array[at] for name, array in self.arrays.items() if name != "recorded"}
            done, failure_class = int(found["done"]), self.metadata["failures"][int(found["failure"])]
            self._cache[at] = Curve(
                tuple(self._epoch(found, epoch) for epoch in range(done)),
                tuple(found["cpu_s"][:done].tolist()),
                None if failure_class is None else (failure_class, float(found["failed_after"])),
            )
        return self._cache[at]

    def num_seeds(self, index: int) -> int:
        """Returns how many seeds a config was trained with; they are the first ones of `seeds`."""
        counts = self.arrays.get("recorded")
        return len(self.seeds) if counts is None else int(counts[index])

    def _epoch(self, found: Mapping[str, np.ndarray[Any, Any]], epoch: int) -> EpochMetrics:
        metrics = dict(zip(self.metadata["metrics"], found["metrics"][epoch].tolist(), strict=True))
        names = self.metadata["read_outs"]
        rows = [dict(zip(names, row.tolist(), strict=True)) for row in found["read_outs"][epoch] if row[0] > 0]
        return EpochMetrics(epoch + 1, metrics, [{**row, "read_step": int(row["read_step"])} for row in rows], [])


def load(folder: Path | str) -> RecordedCurves:
    """Returns the table of a folder. Raises ConfigError if a file is missing, damaged or of another recording."""
    folder = Path(folder)
    metadata = _metadata(folder / METADATA_FILE)
    content = read_bytes(folder / CURVES_FILE)
    if hashlib.sha256(content).hexdigest() != metadata["sha256"].get(CURVES_FILE):
        raise ConfigError(f"{folder / CURVES_FILE}: its SHA-256 is not in {METADATA_FILE}; fetch the table again")
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    configs = tuple(metadata["configs"])
    numbers = {config_key(values): number for number, values in enumerate(configs)}
    return RecordedCurves(reader.load(str(folder / SPACE_FILE)), configs, metadata, arrays, numbers)


def _metadata(path: Path) -> dict[str, Any]:
    metadata = read_json(path)
    missing = REQUIRED - metadata.keys()
    if missing:
        raise ConfigError(f"{path}: lacks {', '.join(sorted(missing))}; fetch the table again")
    return metadata


def read_json(path: Path) -> dict[str, Any]:
    """Returns the mapping of a JSON file. Raises ConfigError."""
    content = read_bytes(path)
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def read_bytes(path: Path) -> bytes:
    """Returns the content of a table's file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        files = f"{METADATA_FILE} and {CURVES_FILE}, a recorded one also {SPACE_FILE}"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); a table has {files}") from None
