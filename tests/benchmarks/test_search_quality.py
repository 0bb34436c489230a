from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from benchmarks import search_quality
from benchmarks.plays import OURS, Play, Played, load, make, play, recipes
from benchmarks.quality_figures import HEADLINE
from benchmarks.rivals import RIVALS
from search.simulation.simulator import SimulatedCluster, simulate

KEYS = {
    *("speedup_vs_random", "speedup_vs_ray_optuna_asha", "speedup_vs_nsga2", "speedup_vs_tpe"),
    *("speedup_vs_moasha_random", "regret_24", "regret_50", "regret_100", "false_stop_rate"),
}
WITH_RECIPES = {"speedup_with_good_recipes", "slowdown_with_bad_recipes"}


def made(tasks: Iterable[Play]) -> list[Played]:
    """Plays that were not played: rivals are at 0.9 after 54 trainings, ours after 9 and at 0.96 after 18."""
    found = []
    for task in tasks:
        ours = [(0.0, 0.0), (9 * 27.0, 0.9), (18 * 27.0, 0.96)]
        curve = ours if task.policy in OURS else [(0.0, 0.0), (54 * 27.0, 0.9)]
        fates = {"complete": 270.0, "stop 1": 30.0}
        found.append(Played(task, 27, curve, (1, 20), 0.97, 2700.0, 60, fates, {7: "pause 1"}, 1.0))
    return found


@pytest.mark.parametrize("parts", [(), ("recipes",), search_quality.PARTS])
def test_the_figures_on_top_are_those_of_the_table(parts: tuple[str, ...]) -> None:
    played = made(search_quality.plan("some", 4, parts))
    found = search_quality.table_figures(played, draws=20)
    assert found.keys() == KEYS | {"pairs"} | (WITH_RECIPES if "recipes" in parts else set())
    for rival in HEADLINE:
        assert found[f"speedup_vs_{rival}"] == pytest.approx(6.0)
    assert [found[f"regret_{budget}"] for budget in (24, 50, 100)] == pytest.approx([0.04] * 3)
    assert found["false_stop_rate"] == pytest.approx(0.05)


def test_all_plays_of_a_table_are_planned_once_with_thirty_repeats_for_what_stands_on_top() -> None:
    plays = search_quality.plan("some", 30)
    assert len(set(plays)) == len(plays)
    for policy in (*HEADLINE, "ours"):
        runs = {task.run for task in plays if (task.policy, task.workers) == (policy, 8)}
        assert runs == set(range(30))
    assert {task.policy for task in plays} == {*RIVALS, *OURS}
    assert {task.workers for task in plays} == {1, 8, 64}


def test_where_a_hundred_trainings_do_not_do_ours_is_given_three_hundred() -> None:
    played = made(search_quality.plan("some", 4, ("workers",)))
    assert search_quality.longer(played) == []
    far = [one for one in played if (one.play.policy, one.play.workers) == ("tpe", 64)]
    others = [one for one in played if one not in far]
    far = [replace(one, curve=[(0.0, 0.0), (54 * 27.0, 0.97)]) for one in far]
    found = search_quality.longer([*others, *far])
    assert {(task.policy, task.workers, task.trainings) for task in found} == {("ours", 64, 300)}
    table = search_quality.table_figures([*others, *far, *made(found)], draws=20)
    assert table["pairs"]["accuracy/spike_rate"]["64 workers"]["speedups"]["tpe"]["our_epochs"] == 300 * 27


def test_few_repeats_of_what_takes_longest_are_halved() -> None:
    runs = {policy: set[int]() for policy in (*HEADLINE, "ours")}
    for task in search_quality.plan("some", 2, ()):
        runs[task.policy].add(task.run)
    assert runs.pop("ray_optuna_asha") == {0}
    assert all(found == {0, 1} for found in runs.values())


def test_what_the_plays_say_stands_below() -> None:
    found = search_quality.table_figures(made(search_quality.plan("some", 4)), draws=20)
    own = found["pairs"]["accuracy/spike_rate"]["8 workers"]
    assert own["missed_by_ours"] == {"7": {"pause 1": 4}}
    assert own["epochs_of_ours"] == {"complete": 0.9, "stop 1": 0.1}
    assert own["ablations"].keys() == {name for name in OURS if name != "ours" and "recipes" not in name}
    assert found["pairs"].keys() == {"accuracy/spike_rate", "accuracy/synops"}


def test_recipes_are_three_of_the_best_and_of_the_worst_tenth() -> None:
    _, judge = load("synthetic", "spike_rate")
    ranked = judge.ranked()
    tenth = len(ranked) // 10
    for is_good, pool in ((True, ranked[:tenth]), (False, ranked[-tenth:])):
        chosen = recipes(judge, is_good)
        assert len(set(chosen)) == 3
        assert set(chosen) <= set(pool)
        assert chosen == recipes(judge, is_good)


def test_recipes_run_first() -> None:
    task = Play("synthetic", "spike_rate", "ours_good_recipes", 1, 0, 3)
    table, judge = load(task.table, task.cost)
    trace = simulate(table, make(task, table, judge), SimulatedCluster(workers=1), 3 * 27)
    assert {event.config for event in trace.select("start")[:3]} == set(recipes(judge, True))


@pytest.mark.parametrize("policy", ["ours", "random"])
def test_a_play_is_the_same_again(policy: str) -> None:
    task = Play("synthetic", "synops", policy, 4, 3, 6)
    first, second = (replace(play(task), cpu_s=0.0) for _ in range(2))
    assert first == second
    assert first.spent <= 6 * 27
    assert sum(first.fates.values()) <= first.spent
    assert first.curve[0] == (0.0, 0.0)
    assert first.curve[-1][1] > 0.0
