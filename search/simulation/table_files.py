"""Files of a table from elsewhere: `table.json` and `curves.npz`, read and checked."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config.document import MAX_PROBLEMS
from config.errors import ConfigError, did_you_mean, unknown_name
from config.messages import abbreviated, describe, root_cause
from results.pareto import Floats
from search.algorithm.observations import CONFIG_FAILURES
from search.simulation.recorded_curves import CURVES_FILE, METADATA_FILE, read_bytes, read_json

SECONDS, FAILED_AFTER, GROUP = "epoch_s", "failed_after", "group"
PER_CONFIG = (SECONDS, FAILED_AFTER, GROUP)
"""Arrays `[configs]` that are not metrics; only the first one is required."""

Arrays = Mapping[str, NDArray[Any]]


def _different_values(values: list[Any]) -> list[Any]:
    is_plain = (isinstance(one, str) or (isinstance(one, int | float) and math.isfinite(one)) for one in values)
    if not values or not all(is_plain) or len(set(values)) < len(values):
        raise ValueError(f"must be a list of numbers or texts, each different (got {abbreviated(values)})")
    return values


class TableInfo(BaseModel):
    """The file table.json. Other keys, such as `source` and `licence`, are information for people."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]
    keys: Annotated[dict[str, Annotated[list[Any], AfterValidator(_different_values)]], Field(min_length=1)]
    objectives: Annotated[dict[str, Literal["maximize", "minimize"]], Field(min_length=1)]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    chance: float
    reference: dict[str, float] = {}
    scale: dict[str, Annotated[float, Field(gt=0)]] = {}
    failure: str | None = None

    @property
    def num_configs(self) -> int:
        return math.prod(map(len, self.keys.values()))

    @property
    def corner(self) -> dict[str, float]:
        """Returns the values from which the hypervolume counts, as far as they are stated.

        `chance` is that of the accuracy, or of the first objective to maximize in a table without accuracy.
        """
        maximized = [name for name, direction in self.objectives.items() if direction == "maximize"]
        guessed = ["accuracy"] if "accuracy" in self.objectives else maximized[:1]
        return dict.fromkeys(guessed, self.chance) | self.reference


def read(folder: Path) -> tuple[TableInfo, dict[str, Floats]]:
    """Returns description and scaled arrays of a table; `failed_after` is always there, and infinite for never.

    Raises ConfigError that names file, key and rule of each problem.
    """
    info, path = _read_info(folder / METADATA_FILE), folder / CURVES_FILE
    arrays = _read_arrays(path)
    refuse(path, _shape_problems(info, arrays))
    scaled = {name: values / np.float64(info.scale.get(name, 1.0)) for name, values in arrays.items()}
    scaled.setdefault(FAILED_AFTER, np.full(info.num_configs, np.nan))
    scaled[FAILED_AFTER][np.isnan(scaled[FAILED_AFTER])] = np.inf
    refuse(path, _value_problems(info, scaled))
    return info, scaled


def refuse(path: Path, problems: Iterable[str]) -> None:
    """Raises ConfigError if there are problems of a file."""
    lines = [f"{path}: {problem}" for problem in problems]
    if lines:
        raise ConfigError("\n".join(lines[:MAX_PROBLEMS]))


def num_reported(failed_after: Any, epochs: int) -> Any:
    """Returns how many epochs are complete before a failure."""
    return np.clip(np.ceil(failed_after) - 1, 0, epochs)


def _read_info(path: Path) -> TableInfo:
    data = read_json(path)
    try:
        info = TableInfo.model_validate(data)
    except ValidationError as error:
        items = error.errors(include_url=False)
        refuse(path, (f"{'.'.join(map(str, item['loc']))}: {describe([item])}" for item in items))
        raise
    refuse(path, _unknown_names(info, data))
    return info


def _unknown_names(info: TableInfo, data: Mapping[str, Any]) -> Iterator[str]:
    """Yields the problems of names in table.json; a key without meaning is one if a known key is probably meant."""
    missing = TableInfo.model_fields.keys() - data.keys()
    for key in sorted(data.keys() - TableInfo.model_fields.keys()):
        if hint := did_you_mean(key, missing):
            yield f"{key}: unknown key.{hint}"
    for name in sorted(info.reference.keys() - info.objectives.keys()):
        yield f"reference: {unknown_name('objective', name, info.objectives)}"
    if info.failure is not None and info.failure not in CONFIG_FAILURES:
        yield f"failure: {unknown_name('class', info.failure, CONFIG_FAILURES)}"


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)), np.load(io.BytesIO(content), allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path}: is damaged ({root_cause(error)}); write it by numpy.savez_compressed") from None


def _shape_problems(info: TableInfo, arrays: Arrays) -> Iterator[str]:
    """Yields the problems of missing arrays, and of their shapes and types."""
    for name in dict.fromkeys([*info.objectives, SECONDS, *info.scale]):
        if name not in arrays:
            yield f"{name}: missing; {METADATA_FILE} needs this array (got {', '.join(arrays)})"
    sizes = " x ".join(str(len(values)) for values in info.keys.values())
    for name, array in arrays.items():
        shapes = [[info.num_configs]] if name in PER_CONFIG else [[info.num_configs, info.epochs], [info.num_configs]]
        if list(array.shape) not in shapes:
            rule = " or ".join(map(str, shapes))
            yield f"{name}: must have the shape {rule}, as keys give {sizes} configs (got {list(array.shape)})"
        elif array.dtype.kind not in "biuf":
            yield f"{name}: must hold numbers (got the type {array.dtype})"


def _value_problems(info: TableInfo, arrays: Arrays) -> Iterator[str]:
    """Yields the problem of the first wrong value of each array; values after a failure do not count."""
    failed_after = arrays[FAILED_AFTER]
    if info.failure is None and np.isfinite(failed_after).any():
        classes = ", ".join(sorted(CONFIG_FAILURES))
        yield f"{FAILED_AFTER}: needs the class, failure in {METADATA_FILE} (got none). Known: {classes}"
    is_reported = np.arange(info.epochs) < num_reported(failed_after, info.epochs)[:, None]
    for name, array in arrays.items():
        is_unused = np.array(False) if name in PER_CONFIG else ~is_reported[:, 0] if array.ndim == 1 else ~is_reported
        rule, is_valid = _rule(name, array, info)
        if not (is_valid | is_unused).all():
            position = np.argwhere(~(is_valid | is_unused))[0].tolist()
            yield f"{name}: must be {rule} (got {array[tuple(position)]:g} at {position})"


def _rule(name: str, array: Floats, info: TableInfo) -> tuple[str, NDArray[np.bool_]]:
    """Returns the rule of an array, and where it holds."""
    if name == FAILED_AFTER:
        return f"0 to {info.epochs} epochs, or NaN for never", (array == np.inf) | (
            (array >= 0) & (array <= info.epochs)
        )
    if name == SECONDS:
        return "above 0", (array > 0) & np.isfinite(array)
    if name == "accuracy":
        return "in percent, 0 to 100; scale divides a stored array", (array >= 0) & (array <= 100)
    return "finite", np.isfinite(array)
