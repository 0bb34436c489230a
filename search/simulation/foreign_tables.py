"""Tables from elsewhere: learning curves over any keys, with any objectives.

`table.json` holds the values of each key and the meaning of the numbers, `curves.npz` one array per metric. Configs are
numbered as `itertools.product` numbers the combinations of values, in the order of the keys.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config.distributions import Categorical
from config.document import Document
from config.errors import ConfigError, unknown_name
from results.pareto import Floats
from search.simulation import recorded_curves, table_files
from search.simulation.recorded_curves import METADATA_FILE, SPACE_FILE, Curve, RecordedCurves
from search.simulation.table_files import FAILED_AFTER, GROUP, PER_CONFIG, SECONDS, Arrays, TableInfo
from search.space import checks, reader
from search.space.schema import SpaceSettings
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics


class Grid(Sequence[dict[str, Any]]):
    """The configs of a table, each created on access, as there may be a million."""

    def __init__(self, keys: Mapping[str, Sequence[Any]]) -> None:
        self._keys = keys
        self._size = math.prod(map(len, keys.values()))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: Any) -> Any:
        remaining, found = range(self._size)[number], {}
        for key, values in reversed(list(self._keys.items())):
            remaining, position = divmod(remaining, len(values))
            found[key] = values[position]
        return {key: found[key] for key in self._keys}

    def number(self, config: Mapping[str, Any]) -> int:
        """Returns the position of a config. Raises KeyError or ValueError if it is not on the grid."""
        number = 0
        for key, values in self._keys.items():
            number = number * len(values) + values.index(config[key])
        return number


class TableConfig(dict[str, Any]):
    """The values of a config, in place of a train file."""

    def dump(self) -> dict[str, Any]:
        return dict(self)


@dataclass(frozen=True)
class ForeignSpace(Space):
    """The keys of a table as a space in which every config is feasible.

    A search sees this object, so of the curves it holds only the metrics' names and scales.
    """

    chance_level: float = 0.0
    metrics: frozenset[str] = frozenset()
    linear: frozenset[str] = frozenset()

    @property
    def chance(self) -> float:
        return self.chance_level

    @property
    def linear_metrics(self) -> frozenset[str]:
        return self.linear

    def feasible_config(self, values: Mapping[str, Any]) -> TableConfig:  # type: ignore[override]  # no train file
        return TableConfig({"seed": self.settings.seed, **values})

    def read(self, document: Document) -> ForeignSpace:
        """Returns this space with the settings of a document. Raises ConfigError that lists all problems."""
        settings, problems = reader.read_settings(document)
        for part in ("objectives", "constraints"):
            names = document.data.get(part)
            for name in names.keys() - self.metrics if isinstance(names, dict) else ():
                problems.append(document.problem((part, name), unknown_name("metric", name, self.metrics)))
        for key in ("base", "fixed", "space", "start_with"):
            if document.data.get(key) != self.raw.get(key):
                problems.append(document.problem((key,), "cannot be changed, as the keys are those of table.json"))
        if settings is not None:
            problems += checks.grace_epochs(settings, document)
        document.refuse(problems)
        assert settings is not None
        return replace(self, settings=settings, raw=document.data)


@dataclass(frozen=True)
class ForeignCurves:
    """The curves of a table from elsewhere.

    `metrics` are `[configs, epochs]`, or `[configs]` if known from the first epoch. `ends` are their values `[configs]`
    after a full training, averaged over a group; NaN where a training fails or is no better than chance.
    """

    space: ForeignSpace
    configs: Grid
    info: TableInfo
    metrics: Arrays
    epoch_s: Floats
    failed_after: Floats
    ends: Mapping[str, Floats]
    seeds: tuple[int, ...] = (0,)

    @property
    def epochs(self) -> int:
        """Returns the epochs of a full training."""
        return self.info.epochs

    @property
    def corner(self) -> Mapping[str, float]:
        """Returns the values from which the hypervolume counts, as far as they are stated."""
        return self.info.corner

    def index(self, values: Mapping[str, Any]) -> int:
        """Returns the number of a config. Raises ConfigError if it is not in the table."""
        try:
            return self.configs.number(values)
        except (KeyError, ValueError):
            raise ConfigError(
                f"{self.space.study} holds no curve of {dict(values)!r}; see the keys in its table.json"
            ) from None

    def curve(self, index: int, seed_position: int) -> Curve:
        """Returns the curve of a config's number; all seeds have the same."""
        failed_after = float(self.failed_after[index])
        columns = {name: values[index] for name, values in self.metrics.items()}
        failure = None if math.isinf(failed_after) else (str(self.info.failure), failed_after)
        return make_curve(self.space, columns, float(self.epoch_s[index]), failure)

    def true_values(self) -> Floats:
        """Returns the objectives `[configs, M]` of `ends`."""
        return np.stack([self.ends[name] for name in self.space.objectives], axis=1)


def make_curve(
    space: ForeignSpace, columns: Mapping[str, Any], epoch_s: float, failure: tuple[str, float] | None
) -> Curve:
    """Returns the curve of columns `[epochs]`, or of one value if a metric is known from the first epoch."""
    epochs = space.budget.epochs
    rows = zip(*(np.broadcast_to(values, epochs).tolist() for values in columns.values()), strict=True)
    count = int(table_files.num_reported(math.inf if failure is None else failure[1], epochs))
    chance = {"chance": space.chance} if "accuracy" in columns else {}
    found = []
    for epoch, row in enumerate(itertools.islice(rows, count), start=1):
        metrics = dict(zip(columns, row, strict=True))
        found.append(EpochMetrics(epoch, metrics, [{"read_step": 1, **chance, **metrics}], []))
    return Curve(tuple(found), (epoch_s,) * epochs, failure)


def load_table(folder: Path | str) -> RecordedCurves | ForeignCurves:
    """Returns the table of a folder: one that this project recorded, or one from elsewhere. Raises ConfigError."""
    folder = Path(folder)
    path = folder / METADATA_FILE
    is_recorded = (folder / SPACE_FILE).exists() or not path.exists() or "sha256" in recorded_curves.read_json(path)
    return recorded_curves.load(folder) if is_recorded else load(folder)


def load(folder: Path | str) -> ForeignCurves:
    """Returns the table of a folder. Raises ConfigError that names file, key and rule of each problem."""
    folder = Path(folder)
    info, arrays = table_files.read(folder)
    metrics = {name: array for name, array in arrays.items() if name not in PER_CONFIG}
    ends = _true_ends(info, arrays, metrics)
    if all(np.isnan(values).all() for values in ends.values()):
        text = f"no config ends without failure and above chance (got chance: {info.chance:g}); see chance and scale"
        table_files.refuse(folder / METADATA_FILE, [text])
    seconds, failed_after = arrays[SECONDS], arrays[FAILED_AFTER]
    return ForeignCurves(_space(info, ends), Grid(info.keys), info, metrics, seconds, failed_after, ends)


def _true_ends(info: TableInfo, arrays: Arrays, metrics: Arrays) -> dict[str, Floats]:
    """Returns the metrics `[configs]` after a full training as `ForeignCurves.ends`."""
    _, group = np.unique(arrays.get(GROUP, np.arange(info.num_configs)), return_inverse=True)
    sizes = np.bincount(group)

    def mean(values: NDArray[Any]) -> Floats:
        return np.asarray((np.bincount(group, weights=values) / sizes)[group])

    ends = {name: mean(array if array.ndim == 1 else array[:, -1]) for name, array in metrics.items()}
    is_success = mean(np.isfinite(arrays[FAILED_AFTER])) == 0.0
    if "accuracy" in ends:
        is_success &= ends["accuracy"] > info.chance
    return {name: np.where(is_success, values, np.nan) for name, values in ends.items()}


def _space(info: TableInfo, ends: Mapping[str, Floats]) -> ForeignSpace:
    """Returns the space. Metrics that are maximized, or not positive, count by differences and not by ratios."""
    raw = {
        "study": re.sub(r"[^A-Za-z0-9._-]", "_", info.name)[:80],
        "base": "none",
        "objectives": info.objectives,
        "space": {key: {"choice": values} for key, values in info.keys.items()},
        "budget": {"epochs": info.epochs, "epochs_total": info.epochs},
    }
    is_linear = {name: info.objectives.get(name) == "maximize" or np.nanmin(ends[name]) <= 0.0 for name in ends}
    return ForeignSpace(
        SpaceSettings.model_validate(raw),
        base={},
        keys={key: Categorical(tuple(values)) for key, values in info.keys.items()},
        raw=raw,
        chance_level=info.chance,
        metrics=frozenset(ends),
        linear=frozenset(name for name in ends if is_linear[name] and name != "accuracy"),
    )
