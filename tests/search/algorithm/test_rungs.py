"""Rungs and brackets as results come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search.algorithm.rungs import NUM_RANKED_FRONTS, Bracket, Brackets, Rung
from search.algorithm.scheduler import TrialScheduler
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

New = Callable[..., TrialScheduler]


def filled_rung(margin: float = 0.0) -> Rung:
    """Returns a rung of six trials, each worse than the one before."""
    rung = Rung(3, margin)
    for number in range(6):
        rung.add(number, [float(number), float(number)], at_chance=False)
    return rung


def test_a_trial_is_promoted_once() -> None:
    rung = filled_rung()
    assert rung.promotable() == [0, 1]
    rung.promoted.add(0)
    assert rung.promotable() == [1]


def test_ranks_and_promotions_follow_new_points_and_removals() -> None:
    rung = filled_rung()
    assert list(rung.ranks().items())[:2] == [(0, 0), (1, 1)]
    rung.add(9, [-1.0, -1.0], at_chance=False)
    assert (list(rung.ranks().items())[:2], rung.promotable()) == ([(9, 0), (0, 1)], [9, 0])
    rung.remove(9)
    rung.remove(9)
    assert (list(rung.ranks().items())[:2], rung.promotable()) == ([(0, 0), (1, 1)], [0, 1])
    assert max(rung.ranks().values()) < NUM_RANKED_FRONTS


def test_a_trial_at_chance_has_no_rank_and_survives_only_without_better_ones() -> None:
    rung = filled_rung()
    rung.add(9, [-1.0, -1.0], at_chance=True)
    assert 9 not in rung.ranks()
    assert not rung.survives(9)
    assert rung.survives(0)


def test_within_the_noise_of_the_front_all_survive() -> None:
    assert filled_rung(margin=0.5).survives(2)
    assert not filled_rung().survives(2)


def test_a_promoted_trial_is_trained_to_the_next_rung() -> None:
    bracket = Bracket([1, 3, 9], 3, 0.0)
    assert [bracket.next_rung(epoch) for epoch in (0, 1, 2, 3, 8, 9)] == [1, 3, 3, 9, 9, 9]
    assert list(bracket.rungs) == [1, 3]


def test_promotable_trials_come_from_the_highest_rung_first() -> None:
    bracket = Bracket([1, 3, 9], 3, 0.0)
    for number in range(6):
        bracket.rungs[1].add(number, [float(number), 0.0], at_chance=False)
        if number < 3:
            bracket.rungs[3].add(number, [float(-number), 0.0], at_chance=False)
    assert bracket.promotable() == [(3, 2), (1, 0), (1, 1)]
    bracket.remove(2)
    assert bracket.promotable() == [(1, 0)]


def test_brackets_compare_some_trials_later(new_scheduler: New, play: Callable[..., Any], by_tau: Any) -> None:
    scheduler = new_scheduler("scheduler.brackets=2", "budget.trials=40")
    play(scheduler, by_tau)
    first, second = scheduler.brackets
    assert (list(first.rungs), list(second.rungs)) == ([1, 3], [3])
    assert len(first.rungs[1].points) + len(second.rungs[3].points) == 40
    assert min(len(first.rungs[1].points), len(second.rungs[3].points)) >= 10


def test_without_successive_halving_there_is_one_bracket_without_rungs(read_space: Callable[..., Space]) -> None:
    brackets = Brackets(read_space("scheduler.name=none", "scheduler.brackets=2"))
    assert [bracket.rungs for bracket in brackets] == [{}]
    assert brackets.first.first_rung is None
    assert brackets.bracket_of(5).next_rung(0) == 9
    assert brackets.ranks() == {}


def test_trials_at_chance_rank_last_however_few_their_spikes(
    new_scheduler: New, epoch: Callable[..., EpochMetrics]
) -> None:
    scheduler = new_scheduler("scheduler.mode=promote", "budget.trials=9")
    jobs = [scheduler.suggest() for _ in range(9)]
    promoted: set[int] = set()
    for number, job in enumerate(jobs):
        assert job is not None
        silent = number % 3 != 0
        decision = scheduler.on_result(
            job.number, epoch(1, 10.0 if silent else 40.0 + number, 0.0001 if silent else 0.1 + number / 100)
        )
        promoted |= {number} if decision == "continue" else set()
    promoted |= {job.number for job in (scheduler.suggest() for _ in range(3)) if job is not None}
    assert promoted == {0, 3, 6}
