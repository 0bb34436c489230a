"""Suggestions of slow samplers: computed while trials run, and the same after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from search.algorithm import samplers
from search.algorithm.prefetching import Prefetcher
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Suggestion
from search.space.space import Space
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

New = Callable[..., TrialScheduler]
Epoch = Callable[..., EpochMetrics]

GP = ("sampler.name=gp", "scheduler.name=none", "budget={trials: 15, epochs: 2}")


def reports(epoch: Epoch, values: dict[str, Any]) -> list[EpochMetrics]:
    """Returns the two epochs of a trial."""
    accuracy, spike_rate = 40.0 + 10.0 * values["tau"], 0.02 * values["tau"] ** 2 + 0.01
    return [epoch(number, accuracy, spike_rate, values["step"]) for number in (1, 2)]


def suggested(scheduler: TrialScheduler, epoch: Epoch, count: int) -> list[dict[str, Any]]:
    """Returns the values of `count` trials, each of which ends before the next one starts."""
    found = []
    for _ in range(count):
        job = scheduler.suggest()
        assert job is not None
        found.append(job.values)
        for report in reports(epoch, job.values):
            scheduler.on_result(job.number, report)
    return found


def test_a_thread_suggests_the_same(new_scheduler: New, epoch: Epoch) -> None:
    usual, threaded = new_scheduler(*GP), new_scheduler(*GP)
    with ThreadPoolExecutor(1) as suggestions:
        threaded.run_in_background(suggestions)
        assert suggested(threaded, epoch, 13) == suggested(usual, epoch, 13)


def test_a_suggestion_starts_before_it_is_needed(new_scheduler: New, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, started = new_scheduler(*GP), threading.Event()
    suggest = samplers.suggest

    def noticed(*arguments: Any) -> Suggestion:
        started.set()
        return suggest(*arguments)

    monkeypatch.setattr(samplers, "suggest", noticed)
    with ThreadPoolExecutor(1) as suggestions:
        scheduler.run_in_background(suggestions)
        scheduler.suggest()
        started.clear()
        scheduler.suggest()
        assert started.wait(10)  # for the third trial


def test_a_trial_that_ends_during_a_suggestion_is_observed_by_the_next_one(new_scheduler: New, epoch: Epoch) -> None:
    scheduler = new_scheduler(*GP)
    measured: list[int] = []

    def submit(work: Any) -> Any:
        measured.append(sum(one.point is not None for one in work.args[2]))
        return work

    scheduler.candidates.prefetcher.submit = submit
    suggested(scheduler, epoch, 4)
    assert measured == [0, 0, 1, 2, 3]


def test_a_resumed_search_suggests_what_an_uninterrupted_one_does(
    new_scheduler: New, open_study: Callable[..., Study], epoch: Epoch, tmp_path: Path
) -> None:
    uninterrupted = suggested(new_scheduler(*GP), epoch, 13)
    found = []
    for count in (11, 2):
        study = open_study(*GP)
        for _ in range(count):
            task = study.next_task()
            assert task is not None
            values = study.trials[task.number].suggestion.values
            found.append(values)
            for report in reports(epoch, values):
                study.on_result(task.number, report)
        study.close()
    assert found == uninterrupted


def test_another_suggestion_for_the_same_trial_uses_the_same_observations(read_space: Callable[..., Space]) -> None:
    space = read_space(*GP)
    prefetcher = Prefetcher(space)
    prefetcher.start(0, [])
    assert prefetcher.result(0, 1) == samplers.suggest(space, 0, [], 1)
