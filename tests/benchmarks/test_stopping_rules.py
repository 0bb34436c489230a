"""Stopping rules of the rivals, compared with their libraries or on rungs written out."""

from __future__ import annotations

import json
import os
import random
import subprocess

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from benchmarks.stopping_rules import MultiMetricPruner, MultiObjective, RayAsha, Scalarised, SyneTune
from tests.support.synthetic_curves import Synthetic, make_table
from trainers.epoch_metrics import EpochMetrics

BRACKET = """
import json, sys
from syne_tune.optimizer.schedulers.asha import Bracket
from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

bracket = Bracket(1, 2, 3, 0, NonDominatedPriority())
points = json.load(sys.stdin)
print(json.dumps([bracket.on_result(i, 1, dict(enumerate(p))) == "CONTINUE" for i, p in enumerate(points)]))
"""


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


def reported(accuracy: float, rate: float) -> EpochMetrics:
    return EpochMetrics(1, {"accuracy": accuracy, "spike_rate": rate}, [], [])


@pytest.mark.parametrize(("size", "published"), [(3, 0.67), (10, 0.38), (30, 0.39)])
def test_syne_tunes_ranking_stops_trials_that_dominate_all_others(
    size: int, published: float, table: Synthetic
) -> None:
    rules = dict.fromkeys((SyneTune, MultiObjective), 0)
    for repeat in range(200):
        rng = random.Random(repeat)
        rung = {n: reported(50 + 40 * rng.random(), 0.1 + rng.random()) for n in range(size)}
        rung[size] = reported(95.0, 0.01)
        for rule in rules:
            rules[rule] += rule(table.space)(rung, size)
    assert rules[MultiObjective] == 200
    assert rules[SyneTune] / 200 == pytest.approx(published, abs=0.1)


def test_a_scalarised_trial_that_dominates_continues_and_one_that_is_dominated_stops(table: Synthetic) -> None:
    rung = {n: reported(60.0 + n, 0.5 - 0.01 * n) for n in range(9)}
    for run in range(20):
        rule = Scalarised(table.space, run)
        assert rule({**rung, 9: reported(99.0, 0.01)}, 9)
        assert not rule({**rung, 9: reported(20.0, 0.9)}, 9)


def test_the_rule_for_ray_decides_as_rays_bracket() -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    class Trial:
        def __init__(self, number: int) -> None:
            self.trial_id = str(number)

    bracket, rule, rng = _Bracket(1, 2, 3, 0), RayAsha(), random.Random(0)
    rung: dict[int, EpochMetrics] = {}
    for number in range(300):
        accuracy = round(rng.gauss(70, 10), 0)  # rounded, so that ties occur
        rung[number] = reported(accuracy, 0.1)
        continues: bool = bracket.on_result(Trial(number), 1, accuracy) == "CONTINUE"
        assert rule(rung, number) == continues


@pytest.mark.skipif("SYNE_TUNE_PYTHON" not in os.environ, reason="needs an environment with Syne Tune")
def test_the_rule_for_syne_tune_decides_as_its_bracket(table: Synthetic) -> None:
    rng = random.Random(0)
    points = [(-100 * rng.random(), rng.random()) for _ in range(60)]
    command = [os.environ["SYNE_TUNE_PYTHON"], "-I", "-c", BRACKET]
    real = subprocess.run(command, input=json.dumps(points), capture_output=True, text=True, check=True)
    rung: dict[int, EpochMetrics] = {}
    for number, continues in enumerate(json.loads(real.stdout)):
        rung[number] = reported(-points[number][0], points[number][1])
        assert SyneTune(table.space)(rung, number) == continues


def pruner_of(points: list[tuple[float, float]], epoch: int = 1) -> MultiMetricPruner:
    """Returns a pruner after the reports of ended trials."""
    pruner = MultiMetricPruner()
    for number, point in enumerate(points):
        pruner.report(number, epoch, list(point))
        pruner.ended.add(number)
    return pruner


def test_optunahubs_pruner_stops_by_the_median_of_pareto_ranks() -> None:
    chain = [(float(n), float(n)) for n in range(1, 6)]  # ranks 0 to 4
    for point, is_pruned in (((2.5, 2.5), False), ((3.5, 3.5), True), ((0.5, 9.0), False)):
        pruner = pruner_of(chain)
        pruner.report(5, 1, list(point))
        assert pruner.should_prune(5, 1) == is_pruned, point


def test_optunahubs_pruner_never_stops_a_trial_that_was_on_the_front() -> None:
    pruner = pruner_of([(5.0, 5.0)] * 4)
    for number in range(4):
        pruner.report(number, 2, [1.0, 1.0])
    pruner.report(4, 1, [4.0, 9.0])
    pruner.report(4, 2, [9.0, 9.0])
    assert pruner.ranks(4, 1)[0] == -1.0
    assert not pruner.should_prune(4, 2)
    pruner.report(5, 1, [6.0, 6.0])
    pruner.report(5, 2, [9.0, 9.0])
    assert pruner.should_prune(5, 2)


@pytest.mark.parametrize(
    ("others", "own", "rank", "is_pruned"), [((3, 3), (2, 4), 0.5, False), ((2, 4), (3, 3), 0.9, True)]
)
def test_optunahubs_pruner_breaks_ties_of_a_rank_by_hypervolume(
    others: tuple[float, float], own: tuple[float, float], rank: float, is_pruned: bool
) -> None:
    pruner = pruner_of([(1.0, 1.0), *[others] * 5])
    pruner.report(6, 1, list(own))
    found, ranks = pruner.ranks(6, 1)
    assert found == pytest.approx(rank)
    assert ranks[0] == 0.0
    assert sorted([found, *list(ranks.values())[1:]]) == pytest.approx([0.5, 0.58, 0.66, 0.74, 0.82, 0.9])
    assert pruner.should_prune(6, 1) == is_pruned


def test_optunahubs_pruner_waits_for_three_ended_trials_and_ignores_running_ones() -> None:
    pruner = pruner_of([(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)])
    pruner.report(3, 1, [2.0, 2.0])
    assert pruner.should_prune(3, 1)
    pruner.ended.discard(0)
    assert not pruner.should_prune(3, 1)


def test_optunahubs_pruner_decides_as_optunas_median_pruner_on_the_same_ranks() -> None:
    rng, decisions = random.Random(0), set()
    median = optuna.pruners.MedianPruner(n_startup_trials=3)
    for _ in range(40):
        pruner, last = (
            MultiMetricPruner(),
            {number: rng.randint(1, 3) for number in range(10)} | {10: rng.randint(1, 3)},
        )
        for number, epochs in last.items():
            for epoch in range(1, epochs + 1):
                pruner.report(number, epoch, [float(rng.randint(0, 9)), float(rng.randint(0, 9)), rng.random()])
        pruner.ended = set(rng.sample(range(10), rng.randint(2, 8)))
        seen = {epoch: pruner.ranks(10, epoch) for epoch in range(1, last[10] + 1)}
        study = optuna.create_study()
        for number in pruner.ended:
            values = {epoch: others[number] for epoch, (_, others) in seen.items() if number in others}
            study.add_trial(create_trial(value=0.0, intermediate_values=values))
        own = {epoch: rank for epoch, (rank, _) in seen.items()}
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=own)
        decisions.add(pruner.should_prune(10, last[10]))
        assert pruner.should_prune(10, last[10]) == median.prune(study, trial)
    assert decisions == {True, False}
