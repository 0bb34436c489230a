"""Schedulers of the small space, run to their end without a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.algorithm.scheduler import TrialScheduler
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

Report = Callable[[dict[str, Any], int], EpochMetrics]


@pytest.fixture(scope="session")
def new_scheduler(read_space: Callable[..., Space]) -> Callable[..., TrialScheduler]:
    """Returns a scheduler of the small space, with `key=value` overrides."""

    def make(*overrides: str, **options: Any) -> TrialScheduler:
        space = read_space(*overrides)
        return TrialScheduler(space, space.feasible_config, **options)

    return make


@pytest.fixture(scope="session")
def play() -> Callable[..., list[str]]:
    """Runs a scheduler to its end, every worker one epoch in turn, and returns what happened, in order."""

    def run(scheduler: TrialScheduler, report: Report, workers: int = 1) -> list[str]:
        happened: list[str] = []
        busy: list[tuple[int, int]] = []
        while True:
            while len(busy) < workers and (job := scheduler.suggest()) is not None:
                happened.append(f"run {job.number} from {job.epoch}")
                busy.append((job.number, job.epoch))
            if not busy:
                return happened
            number, epoch = busy.pop(0)
            decision = scheduler.on_result(number, report(scheduler.trials[number].config, epoch + 1))
            if decision == "continue":
                busy.append((number, epoch + 1))
            else:
                happened.append(f"{decision} {number} at {epoch + 1}")

    return run


@pytest.fixture(scope="session")
def by_tau(epoch: Callable[..., EpochMetrics]) -> Report:
    """Accuracy grows with tau, and so do the spikes; each epoch adds a little."""

    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        accuracy = 40.0 + 20.0 * config["tau"] + number / 10
        return epoch(number, accuracy, 0.05 + 0.02 * config["tau"] ** 2, config["step"])

    return report


@pytest.fixture(scope="session")
def at_chance(epoch: Callable[..., EpochMetrics]) -> Report:
    """No config is better than chance."""
    return lambda config, number: epoch(number, 10.0, 0.05 + 0.02 * config["tau"], config["step"])
