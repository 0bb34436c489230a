"""Recorded tables: packing, loading, and errors of damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import table
from config.errors import ConfigError
from search.algorithm.samplers import config_key
from search.simulation import recorded_curves
from search.space import reader
from search.space.space import Space

KEYS: dict[str, Any] = {
    "node_type": {"choice": {"LIFNode": {"tau": {"choice": [1.5, 2.0]}}, "IFNode": None}},
    "step": {"choice": [1, 2]},
    "depths": {"int": [1, 2]},
}


@pytest.fixture
def space(tmp_path: Path) -> Callable[..., Space]:
    def make(keys: dict[str, Any] = KEYS, **more: Any) -> Space:
        settings = {
            "study": "small",
            "base": "spikformer/digits",
            "objectives": {"accuracy": "maximize", "spike_rate": "minimize"},
            "space": keys,
            "budget": {"trials": 4, "epochs": 3},
            **more,
        }
        (tmp_path / "space.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
        return reader.load(str(tmp_path / "space.yml"))

    return make


def training(config: int, seed: int, steps: int, rate: float = 0.25) -> dict[str, Any]:
    """Returns a training as the recorder writes it; its numbers say which one it is."""
    epochs = []
    for epoch in range(1, 4):
        read_outs = [
            {"read_step": t, "accuracy": 10.0 * config + seed + epoch / 8 + t, "chance": 12.0}
            for t in range(1, steps + 1)
        ]
        metrics = {"accuracy": read_outs[-1]["accuracy"], "images_per_s": 7.0}
        epochs.append({"metrics": metrics, "read_outs": read_outs, "rates": {"first": 0.25}, "cpu_s": epoch / 4})
    check = {"neurons": {"first": [rate, 0.0, 0.0]}, "gradients": {"conv": 1.0}}
    return {
        "config": config,
        "seed": seed,
        "epochs": epochs,
        "diverged": None,
        "batches": 5,
        "looks": [{"batch": batch, **check} for batch in (1, 4)],
        "routes": {"first": ["<input>"], "<output>": ["first"]},
    }


def packed(space: Space, folder: Path) -> Path:
    """Returns a table of two seeds: the first training is silent, the last one diverged in its second batch."""
    steps = [values["step"] for values in table.feasible_grid(space)]
    trainings = [training(i, seed, step) for i, step in enumerate(steps) for seed in range(2)]
    trainings[0] = training(0, 0, steps[0], rate=0.0)
    trainings[-1] = {**trainings[-1], "epochs": [], "looks": [], "diverged": 2}
    table.write(space, trainings, 2, folder)
    return folder


def test_a_config_with_fewer_seeds_shows_them_again(space: Callable[..., Space], tmp_path: Path) -> None:
    steps = [values["step"] for values in table.feasible_grid(space())]
    trainings = [training(i, seed, step) for i, step in enumerate(steps) for seed in range(1 if i else 2)]
    table.write(space(), trainings, 2, tmp_path)
    found = recorded_curves.load(tmp_path)
    assert [found.num_seeds(0), found.num_seeds(1)] == [2, 1]
    assert found.curve(1, 1) == found.curve(1, 0)
    assert found.curve(0, 1) != found.curve(0, 0)


def test_a_grid_holds_every_combination_once_with_active_keys_only(space: Callable[..., Space]) -> None:
    configs = table.feasible_grid(space())
    assert len(configs) == 3 * 2 * 2 == len({config_key(values) for values in configs})
    assert {"node_type": "IFNode", "step": 2, "depths": 1} in configs
    assert all(("tau" in values) == (values["node_type"] == "LIFNode") for values in configs)


def test_a_grid_leaves_out_what_cannot_be_built(space: Callable[..., Space]) -> None:
    configs = table.feasible_grid(space({"num_heads": {"choice": [3, 4]}, "step": {"choice": [1, 2]}}))
    assert [values["num_heads"] for values in configs] == [4, 4]


def test_a_continuous_key_has_no_grid(space: Callable[..., Space]) -> None:
    with pytest.raises(ConfigError, match=r"^lr: a table needs choice or int"):
        table.feasible_grid(space({"lr": {"log_uniform": [0.001, 0.1]}}))


def test_a_table_gives_back_what_was_recorded(space: Callable[..., Space], tmp_path: Path) -> None:
    found = recorded_curves.load(packed(space(), tmp_path))
    assert (found.epochs, found.seeds, len(found.configs)) == (3, (42, 43), 12)
    values = {"step": 2, "node_type": "IFNode", "depths": 1}  # in another order than the file's
    number = found.index(values)
    curve = found.curve(number, 1)
    assert found.configs[number] == values
    assert curve.cpu_s == (0.25, 0.5, 0.75)
    assert [report.epoch for report in curve.epochs] == [1, 2, 3]
    last = curve.epochs[-1]
    assert last.metrics == {"accuracy": 10.0 * number + 1 + 3 / 8 + 2, "images_per_s": 7.0}
    assert [row["read_step"] for row in last.read_outs] == [1, 2]
    assert not last.is_at_chance
    assert last.read_outs[0]["accuracy"] == last.metrics["accuracy"] - 1
    assert (curve.failure, found.curve(0, 0).failure) == (None, ("silent", pytest.approx(0.8)))


def test_a_net_that_diverged_has_no_further_epochs(space: Callable[..., Space], tmp_path: Path) -> None:
    found = recorded_curves.load(packed(space(), tmp_path))
    curve = found.curve(len(found.configs) - 1, 1)
    assert (curve.epochs, curve.cpu_s) == ((), ())
    assert curve.failure == ("diverged", pytest.approx(0.4))


def test_a_config_outside_the_grid_is_named(space: Callable[..., Space], tmp_path: Path) -> None:
    found = recorded_curves.load(packed(space(), tmp_path))
    with pytest.raises(ConfigError, match="holds no curve of"):
        found.index({"step": 3, "node_type": "IFNode", "depths": 1})


@pytest.mark.parametrize(
    "name", [recorded_curves.CURVES_FILE, recorded_curves.METADATA_FILE, recorded_curves.SPACE_FILE]
)
def test_a_missing_file_is_named(space: Callable[..., Space], tmp_path: Path, name: str) -> None:
    (packed(space(), tmp_path) / name).unlink()
    with pytest.raises(ConfigError, match=name) as error:
        recorded_curves.load(tmp_path)
    assert "no JSON" not in str(error.value)


def test_damaged_data_is_refused(space: Callable[..., Space], tmp_path: Path) -> None:
    data = packed(space(), tmp_path) / recorded_curves.CURVES_FILE
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="SHA-256"):
        recorded_curves.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": {}}'])
def test_damaged_metadata_are_refused(space: Callable[..., Space], tmp_path: Path, text: str) -> None:
    (packed(space(), tmp_path) / recorded_curves.METADATA_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"table\.json"):
        recorded_curves.load(tmp_path)
