"""Files of a table from elsewhere: each broken rule is named with file, key, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import ConfigError
from search.simulation import table_files
from tests.support.foreign_folder import CONFIGS, EPOCHS, arrays, write_table


def changed(name: str, value: float, *position: int) -> dict[str, Any]:
    array = arrays()[name].copy()
    array[position] = value
    return {name: array}


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"objectives": None}, "objectives: missing"),
        (
            {"objectives": {"accuracy": "max"}},
            r"objectives.accuracy: must be one of maximize or minimize \(got 'max'\)",
        ),
        ({"objectives": {}}, r"objectives: must be non-empty \(got {}\)"),
        ({"epochs": 0}, r"epochs: must be >= 1 \(got 0\)"),
        ({"chance": "ten"}, r"chance: must be a number \(got 'ten'\)"),
        ({"keys": {"lr": [0.1, 0.1]}}, r"keys.lr: must be a list of numbers or texts, each different \(got \[0.1, 0.1"),
        ({"keys": {"lr": [[1]]}}, "keys.lr: must be a list of numbers or texts"),
        ({"keys": {"lr": []}}, "keys.lr: must be a list of numbers or texts"),
        ({"scale": {"accuracy": 0}}, r"scale.accuracy: must be > 0.0 \(got 0\)"),
        ({"failure": "crashed"}, r"failure: unknown class \(got 'crashed'\). Known: at_chance"),
        ({"reference": {"costs": 1.0}}, r"reference: unknown objective \(got 'costs'\).*Did you mean cost\?"),
        ({"references": {}}, r"references: unknown key. Did you mean reference\?"),
    ],
)
def test_wrong_keys_of_the_description_are_named(info: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"table\.json: {message}"):
        table_files.read(write_table(tmp_path, **info))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cost": None}, r"cost: missing; table.json needs this array \(got accuracy, epoch_s\)"),
        ({"epoch_s": None}, "epoch_s: missing"),
        (
            {"accuracy": np.ones((35, 4))},
            r"accuracy: must have the shape \[36, 4\] or \[36\], .*3 x 4 x 3 x 1 .*\[35, 4\]",
        ),
        ({"epoch_s": np.ones((36, 4))}, r"epoch_s: must have the shape \[36\], .*\(got \[36, 4\]\)"),
        ({"cost": np.array(["dear"] * 36)}, "cost: must hold numbers"),
        ({"cost": np.array([None] * 36)}, "is damaged"),
        (changed("accuracy", np.nan, 5, 2), r"accuracy: must be in percent, 0 to 100; .*\(got nan at \[5, 2\]\)"),
        (changed("accuracy", 4718.0, 0, 0), r"accuracy: .*scale divides a stored array \(got 4718 at \[0, 0\]\)"),
        (changed("cost", np.inf, 9), r"cost: must be finite \(got inf at \[9\]\)"),
        (changed("epoch_s", 0.0, 1), r"epoch_s: must be above 0 \(got 0 at \[1\]\)"),
        ({"group": np.full(36, np.nan)}, "group: must be finite"),
        ({"failed_after": np.full(36, 2.0)}, "failed_after: needs the class, failure in table.json"),
        (
            {"failed_after": np.full(36, 5.0)},
            r"failed_after: must be 0 to 4 epochs, or NaN for never \(got 5 at \[0\]\)",
        ),
    ],
)
def test_wrong_arrays_are_named(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"curves\.npz: {message}"):
        table_files.read(write_table(tmp_path, more))


def test_a_scale_without_its_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"curves\.npz: loss: missing"):
        table_files.read(write_table(tmp_path, scale={"loss": 2.0}))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY and so on", b"{}"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = write_table(tmp_path) / "curves.npz"
    path.write_bytes(path.read_bytes()[:300] if content == b"PK" else content)
    with pytest.raises(ConfigError, match=r"curves\.npz: is damaged .*; write it by numpy.savez_compressed"):
        table_files.read(tmp_path)
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"table\.json: "):
        table_files.read(tmp_path)


def test_values_after_a_failure_do_not_count(tmp_path: Path) -> None:
    failed = np.full(len(CONFIGS), np.nan)
    failed[5], failed[6] = 1.5, 0.0
    curves = arrays()["accuracy"].copy()
    curves[5, 1:], curves[6] = np.nan, -1.0
    cost = changed("cost", np.nan, 6)
    info, found = table_files.read(
        write_table(tmp_path, {"accuracy": curves, **cost, "failed_after": failed}, failure="oom")
    )
    assert np.isinf(found["failed_after"]).sum() == len(CONFIGS) - 2
    assert table_files.num_reported(found["failed_after"][5:8], EPOCHS).tolist() == [1, 0, 4]
    assert info.failure == "oom"
