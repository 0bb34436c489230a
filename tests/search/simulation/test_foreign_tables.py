"""Tables from elsewhere: configs, curves and true values, and searches on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.rivals import RIVALS
from config.errors import ConfigError
from search.algorithm.scheduler import TrialScheduler
from search.simulate import with_overrides
from search.simulation.evaluation import Evaluator
from search.simulation.foreign_tables import ForeignCurves, load, load_table
from search.simulation.recorded_curves import RecordedCurves
from search.simulation.simulator import SimulatedCluster, Trace, simulate
from tests.support.foreign_folder import CONFIGS, EPOCHS, arrays, write_table

DIGITS = Path(__file__).parents[3] / "benchmarks/tables/digits"
RATE = np.linspace(-3.0, 3.0, len(CONFIGS))
THREE: dict[str, Any] = {"reward": RATE, "delay": 2.0 - RATE, "loss": 1.0 + RATE**2}
DIRECTIONS = {"reward": "maximize", "delay": "minimize", "loss": "minimize"}


def search(table: ForeignCurves, *overrides: str, budget: int = 12) -> Trace:
    space = with_overrides(table.space, [f"budget.epochs_total={budget * table.epochs}", *overrides])
    scheduler = TrialScheduler(space, space.feasible_config)
    return simulate(table, scheduler, SimulatedCluster(workers=3), budget * table.epochs)


def failing(*numbers: int, after: float = 2.5) -> dict[str, Any]:
    found = np.full(len(CONFIGS), np.nan)
    found[list(numbers)] = after
    return {"failed_after": found}


def test_configs_are_numbered_as_the_product_of_the_keys(tmp_path: Path) -> None:
    table = load(write_table(tmp_path))
    assert list(table.configs) == CONFIGS == list(table.space.grid())
    assert [table.index(values) for values in CONFIGS] == list(range(len(CONFIGS)))
    with pytest.raises(ConfigError, match=r"made_up__small_ holds no curve of .*'width': 9"):
        table.index({**CONFIGS[0], "width": 9})


def test_a_curve_has_the_scaled_values_of_each_epoch(tmp_path: Path) -> None:
    stored = {"accuracy": np.round(arrays()["accuracy"] * 600).astype(np.uint16)}
    table = load(write_table(tmp_path, stored, scale={"accuracy": 600}))
    curve = table.curve(7, 0)
    assert curve.failure is None
    assert [one.epoch for one in curve.epochs] == [1, 2, 3, 4]
    assert [one.metrics["accuracy"] for one in curve.epochs] == pytest.approx(arrays()["accuracy"][7], abs=1e-3)
    assert {one.metrics["cost"] for one in curve.epochs} == {arrays()["cost"][7]}
    assert curve.cpu_s == (arrays()["epoch_s"][7],) * EPOCHS


def test_a_training_fails_after_its_epochs_and_has_no_value(tmp_path: Path) -> None:
    table = load(write_table(tmp_path, failing(4), failure="diverged"))
    assert table.curve(4, 0).failure == ("diverged", 2.5)
    assert len(table.curve(4, 0).epochs) == 2
    points = Evaluator(table).points
    assert [number for number, rows in enumerate(points) if not len(rows)] == [4]
    assert {event.state for event in search(table, "scheduler.name=none").events if event.config == 4} <= {
        "start",
        "fail",
    }


def test_a_group_counts_by_its_mean_and_fails_as_one(tmp_path: Path) -> None:
    group = np.arange(len(CONFIGS))
    group[[1, 2]], group[[3, 4]] = 1, 3
    table = load(write_table(tmp_path, {"group": group, **failing(4)}, failure="silent"))
    points, ends = Evaluator(table).points, arrays()["accuracy"][:, -1]
    assert points[1].tolist() == points[2].tolist()
    assert points[1][0][0] == pytest.approx(-(ends[1] + ends[2]) / 2)
    assert not len(points[3])
    assert not len(points[4])
    assert points[5][0][0] == -ends[5]


def test_the_corner_is_chance_and_the_largest_cost_unless_the_table_states_another(tmp_path: Path) -> None:
    largest = math.log10(arrays()["cost"].max())
    assert Evaluator(load(write_table(tmp_path))).reference.tolist() == pytest.approx([-10.0, largest])
    stated = load(write_table(tmp_path, reference={"accuracy": 60.0, "cost": 100.0}))
    assert Evaluator(stated).reference.tolist() == [-60.0, 2.0]


def test_a_search_does_not_depend_on_the_reference(tmp_path: Path) -> None:
    plain, stated = (load(write_table(tmp_path, reference=one)) for one in (None, {"accuracy": 60.0, "cost": 100.0}))
    assert plain.space == stated.space
    assert search(plain) == search(stated)


def test_no_config_at_chance_counts(tmp_path: Path) -> None:
    ends = arrays()["accuracy"][:, -1]
    chance = float(np.median(ends))
    points = Evaluator(load(write_table(tmp_path, chance=chance))).points
    assert [len(rows) for rows in points] == (ends > chance).astype(int).tolist()


def test_objectives_of_any_name_sign_and_number_are_searched(tmp_path: Path) -> None:
    table = load(write_table(tmp_path, {**THREE, "accuracy": None, "cost": None}, objectives=DIRECTIONS, chance=-3.0))
    assert table.space.linear_metrics == {"reward", "delay"}
    evaluator = Evaluator(table)
    assert evaluator.reference.tolist() == [3.0, 5.0, 10.0]
    trace = search(table, "constraints.delay.max=4.5", budget=20)
    assert len(trace.select("complete")) >= 3
    assert 0.0 < evaluator.share({event.config for event in trace.select("complete")}) <= 1.0


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "gp"])
def test_every_rival_searches_a_table(name: str, tmp_path: Path) -> None:
    table = load(write_table(tmp_path, {**THREE, "accuracy": None}, objectives=DIRECTIONS))
    trace = simulate(table, RIVALS[name](table, 0), SimulatedCluster(workers=3), 12 * EPOCHS)  # type: ignore[arg-type]
    assert trace.select("complete")


def test_a_search_ends_once_it_has_tried_every_config(tmp_path: Path) -> None:
    trace = search(load(write_table(tmp_path)), budget=300)
    assert {event.config for event in trace.select("complete")} <= set(range(len(CONFIGS)))
    assert {event.config for event in trace.select("start")} == set(range(len(CONFIGS)))


def test_settings_are_overridden_and_checked(tmp_path: Path) -> None:
    space = load(write_table(tmp_path)).space
    assert with_overrides(space, ["sampler.name=random"]).settings.sampler.name == "random"
    for override, message in {
        "objectives={accuracy: maximize, costs: minimize}": r"objectives.costs: unknown metric .*Did you mean cost\?",
        "sampler.name=tpee": "sampler.name: must be",
        "scheduler.grace_epochs=9": "grace_epochs <= budget.epochs must hold",
        "space={lr: {choice: [1]}}": "space: cannot be changed",
    }.items():
        with pytest.raises(ConfigError, match=message):
            with_overrides(space, [override])


def test_the_format_of_a_folder_is_recognized(tmp_path: Path) -> None:
    assert isinstance(load_table(write_table(tmp_path)), ForeignCurves)
    assert isinstance(load_table(DIGITS), RecordedCurves)
    with pytest.raises(ConfigError, match=r"none/table\.json: cannot be read"):
        load_table(tmp_path / "none")
    (tmp_path / "curves.npz").unlink()
    with pytest.raises(ConfigError, match=r"curves\.npz: cannot be read"):
        load_table(tmp_path)
    (tmp_path / "table.json").write_text(json.dumps({"sha256": {}}))
    with pytest.raises(ConfigError, match="fetch the table again"):
        load_table(tmp_path)


def test_a_table_without_any_success_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table\.json: no config ends without failure and above chance \(got .*99"):
        load(write_table(tmp_path, chance=99.0))
