"""Figures of the search against its rivals, from synthetic results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import search_quality, table_shares
from benchmarks.quality_figures import HEADLINE
from benchmarks.rivals import RIVALS
from benchmarks.simulations import OURS, SimulationResult, SimulationTask
from tests.support.foreign_folder import write_table

KEYS = {
    *("speedup_vs_random", "speedup_vs_ray_optuna_asha", "speedup_vs_nsga2", "speedup_vs_tpe"),
    *("speedup_vs_moasha_random", "regret_24", "regret_50", "regret_100", "false_stop_rate"),
}
WITH_RECIPES = {"speedup_with_good_recipes", "slowdown_with_bad_recipes"}


def results_of(tasks: Iterable[SimulationTask]) -> list[SimulationResult]:
    """Synthetic results: rivals reach 0.9 after 54 trainings, our search after 9, and 0.96 after 18."""
    found = []
    for task in tasks:
        ours = [(0.0, 0.0), (9 * 27.0, 0.9), (18 * 27.0, 0.96)]
        curve = ours if task.method in OURS else [(0.0, 0.0), (54 * 27.0, 0.9)]
        epochs = {"complete": 270.0, "stop 1": 30.0}
        found.append(SimulationResult(task, 27, curve, (1, 20), 0.97, 2700.0, 60, epochs, {7: "pause 1"}, 1.0))
    return found


@pytest.mark.parametrize("parts", [(), ("recipes",), search_quality.PARTS])
def test_the_top_level_figures_are_those_of_the_table(parts: tuple[str, ...]) -> None:
    results = results_of(search_quality.plan("some", 4, parts))
    found = search_quality.table_figures(results, num_bootstraps=20)
    assert found.keys() == KEYS | {"pairs"} | (WITH_RECIPES if "recipes" in parts else set())
    for rival in HEADLINE:
        assert found[f"speedup_vs_{rival}"] == pytest.approx(6.0)
    assert [found[f"regret_{budget}"] for budget in (24, 50, 100)] == pytest.approx([0.04] * 3)
    assert found["false_stop_rate"] == pytest.approx(0.05)


def test_all_searches_of_a_table_are_planned_once_with_thirty_repeats_for_the_top_level_figures() -> None:
    tasks = search_quality.plan("some", 30)
    assert len(set(tasks)) == len(tasks)
    for method in (*HEADLINE, "ours"):
        runs = {task.run for task in tasks if (task.method, task.workers) == (method, 8)}
        assert runs == set(range(30))
    assert {task.method for task in tasks} == {*RIVALS, *OURS}
    assert {task.workers for task in tasks} == {1, 8, 64}


def test_our_search_is_repeated_with_300_trainings_if_100_are_too_few() -> None:
    results = results_of(search_quality.plan("some", 4, ("workers",)))
    assert search_quality.longer(results) == []
    far = [one for one in results if (one.task.method, one.task.workers) == ("tpe", 64)]
    others = [one for one in results if one not in far]
    far = [replace(one, curve=[(0.0, 0.0), (54 * 27.0, 0.97)]) for one in far]
    found = search_quality.longer([*others, *far])
    assert {(task.method, task.workers, task.budget) for task in found} == {("ours", 64, 300)}
    table = search_quality.table_figures([*others, *far, *results_of(found)], num_bootstraps=20)
    assert table["pairs"]["accuracy/spike_rate"]["64 workers"]["speedups"]["tpe"]["our_epochs"] == 300 * 27


def test_few_repeats_of_the_slowest_rivals_are_halved() -> None:
    runs = {method: set[int]() for method in (*HEADLINE, "ours")}
    for task in search_quality.plan("some", 2, ()):
        runs[task.method].add(task.run)
    assert runs.pop("ray_optuna_asha") == {0}
    assert all(found == {0, 1} for found in runs.values())


def test_results_are_summarized_by_pair() -> None:
    found = search_quality.table_figures(results_of(search_quality.plan("some", 4)), num_bootstraps=20)
    own = found["pairs"]["accuracy/spike_rate"]["8 workers"]
    assert own["missed_by_ours"] == {"7": {"pause 1": 4}}
    assert own["epochs_of_ours"] == {"complete": 0.9, "stop 1": 0.1}
    assert own["ablations"].keys() == {name for name in OURS if name != "ours" and "recipes" not in name}
    assert found["pairs"].keys() == {"accuracy/spike_rate", "accuracy/synops"}


def test_policies_are_compared_on_folders_of_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_table(tmp_path / name, name=name)) for name in ("a", "b")]
    arguments = [
        "--repeats",
        "2",
        "--workers",
        "2",
        "--budget",
        "14",
        "--jobs",
        "1",
        "--policies",
        "ours",
        "moasha_tpe",
    ]
    search_quality.main(["--tables", *folders, *arguments, "--json", str(tmp_path / "figures.json")])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tables"].keys() == figures["details"]["standard_errors"].keys() == {"a", "b"}
    assert figures["tables"]["a"] == figures["tables"]["b"]
    for shares in figures["tables"]["a"].values():
        assert list(shares) == ["6", "12", "14"]
        assert 0.0 <= shares["6"] <= shares["12"] <= shares["14"] <= 1.0
    assert sum(figures["mean_ranks"]["14"].values()) == 3.0
    assert figures["speedups"]["moasha_tpe"].keys() == {"median", "a", "b"}
    printed = capsys.readouterr().out
    assert printed.count("mean rank") == 3
    assert "times as soon" in printed


def test_a_speed_up_is_the_trainings_of_a_rival_over_ours() -> None:
    def searches(*shares: float) -> list[Any]:
        return [SimpleNamespace(epochs=9, curve=[(0.0, 0.0), (90.0, share), (450.0, 2 * share)]) for share in shares]

    found = table_shares.speedups({"a": {"ours": searches(0.3, 0.5), "random": searches(0.1, 0.3)}}, 50)
    assert found == {"random": {"median": 5.0, "a": 5.0}}  # 0.4 after 10 and after 50 trainings
    found = table_shares.speedups({"a": {"ours": searches(0.1), "random": searches(0.3)}}, 50)
    assert found["random"]["a"] == 0.0


def test_tables_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_table(tmp_path / name)) for name in ("a", "b")]
    with pytest.raises(SystemExit, match="2"):
        search_quality.main(["--tables", *folders])
    assert "must differ from that of the other tables (got made_up__small_)" in capsys.readouterr().err
