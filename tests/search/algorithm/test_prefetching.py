"""Slow samplers draw while trials run, from what was known before, and after a restart as without one."""

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
from search.space.space import Space
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

Read = Callable[..., Space]
Epoch = Callable[..., EpochMetrics]

GP = ("sampler.name=gp", "scheduler.name=none", "budget={trials: 15, epochs: 2}")


def train(policy: TrialScheduler, epoch: Epoch, number: int) -> None:
    values = policy.trials[number].suggestion.values
    for done in (1, 2):
        report = epoch(number, 40.0 + 10.0 * values["tau"], 0.02 * values["tau"] ** 2 + 0.01, values["step"])
        policy.on_result(number, EpochMetrics(done, report.metrics, report.read_outs, []))


def drawn(policy: TrialScheduler, epoch: Epoch, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        job = policy.suggest()
        assert job is not None
        found.append(job.values)
        train(policy, epoch, job.number)
    return found


def test_a_thread_draws_the_same(read_space: Read, epoch: Epoch) -> None:
    space = read_space(*GP)
    usual, threaded = TrialScheduler(space), TrialScheduler(space)
    with ThreadPoolExecutor(1) as pool:
        threaded.candidates.prefetcher.submit = lambda work: pool.submit(work).result
        assert drawn(threaded, epoch, 13) == drawn(usual, epoch, 13)


def test_a_draw_is_under_way_while_its_predecessor_is_trained(
    read_space: Read, epoch: Epoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, begun = TrialScheduler(read_space(*GP)), threading.Event()
    suggest = samplers.suggest

    def noticed(*arguments: Any) -> samplers.Suggestion:
        begun.set()
        return suggest(*arguments)

    monkeypatch.setattr(samplers, "suggest", noticed)
    with ThreadPoolExecutor(1) as pool:
        policy.candidates.prefetcher.submit = lambda work: pool.submit(work).result
        policy.suggest()
        begun.clear()
        policy.suggest()
        assert begun.wait(10)  # the third trial's, though nobody has asked for it


def test_what_ends_meanwhile_is_known_one_draw_later(read_space: Read, epoch: Epoch) -> None:
    policy = TrialScheduler(read_space(*GP))
    seen: list[int] = []
    policy.candidates.prefetcher.submit = lambda work: (
        seen.append(sum(s.point is not None for s in work.args[2])) or work
    )  # type: ignore[attr-defined, func-returns-value]
    drawn(policy, epoch, 4)
    assert seen == [0, 0, 1, 2, 3]


def test_a_search_that_goes_on_draws_what_it_would_have_drawn(
    read_space: Read, open_study: Callable[..., Study], epoch: Epoch, tmp_path: Path
) -> None:
    undisturbed = drawn(TrialScheduler(read_space(*GP)), epoch, 13)
    found = []
    for count in (11, 2):
        study = open_study(*GP)
        for _ in range(count):
            task = study.next_task()
            assert task is not None
            values = study.trials[task.number].suggestion.values
            found.append(values)
            for done in (1, 2):
                told = epoch(task.number, 40.0 + 10.0 * values["tau"], 0.02 * values["tau"] ** 2 + 0.01, values["step"])
                study.on_result(task.number, EpochMetrics(done, told.metrics, told.read_outs, []))
        study.close()
    assert found == undisturbed


def test_another_draw_in_its_place_knows_no_more(read_space: Read) -> None:
    space = read_space(*GP)
    ahead = Prefetcher(space)
    ahead.start(0, [])
    assert ahead.result(0, 1) == samplers.suggest(space, 0, [], 1)
