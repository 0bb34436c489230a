"""Choice of new configs by a model of the rungs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from search.algorithm import mobo
from search.algorithm.encoder import Encoder
from search.algorithm.mobo import ModelSampler
from search.algorithm.scheduler import TrialScheduler
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

New = Callable[..., TrialScheduler]
ReadSpace = Callable[..., Space]
KEYS = "space={tau: {uniform: [1.1, 3.0]}, threshold: {uniform: [0.5, 1.5]}, step: {choice: [1, 2, 4]}}"


def never(values: Mapping[str, Any]) -> bool:
    return False


def sampler_of(space: Space, count: int, level: int = 9, **flags: Any) -> ModelSampler:
    """Returns a sampler after `count` trials: tau alone decides about accuracy, and step about the cost."""
    rng = np.random.default_rng(0)
    configs = [
        {"tau": rng.uniform(1.1, 3.0), "threshold": rng.uniform(0.5, 1.5), "step": int(rng.choice([1, 2, 4]))}
        for _ in range(count)
    ]
    sampler = ModelSampler(space, Encoder(space), lambda number: configs[number])
    for number, config in enumerate(configs):
        point = [-100.0 + 10.0 * abs(config["tau"] - 2.0), 0.1 * config["step"]]
        sampler.add(number, level, point, at_chance=number in flags.get("at_chance", ()), is_violating=False)
    return sampler


def test_there_is_no_model_before_a_high_rung_has_ten_trials(read_space: ReadSpace) -> None:
    space = read_space(KEYS)
    assert sampler_of(space, 9).suggest(0, never) is None
    assert sampler_of(space, 30, level=1).suggest(0, never) is None
    assert sampler_of(space, 30, level=5).suggest(0, never) is None
    assert sampler_of(space, 10).suggest(0, never) is not None


def test_suggestions_approach_the_best_value_of_a_key(read_space: ReadSpace) -> None:
    sampler = sampler_of(read_space(KEYS), 25)
    found = [sampler.suggest(seed, never) for seed in range(30)]
    assert all(one is not None for one in found)
    distances = [abs(one["tau"] - 2.0) for one in found if one is not None]
    assert np.median(distances) < 0.15  # 0.45 of uniform samples
    assert {one["step"] for one in found if one is not None} >= {1, 2}


def test_tried_configs_are_not_suggested(read_space: ReadSpace) -> None:
    sampler = sampler_of(read_space(KEYS), 12)
    chosen = sampler.suggest(3, never)
    assert chosen is not None
    assert sampler.suggest(3, lambda values: values == chosen) not in (chosen, None)
    assert sampler.suggest(3, lambda values: True) is None


def test_a_suggestion_depends_on_the_seed_and_the_trials_alone(read_space: ReadSpace) -> None:
    space = read_space(KEYS)
    one, other = sampler_of(space, 30), sampler_of(space, 30)
    assert [one.suggest(seed, never) for seed in range(5)] == [other.suggest(seed, never) for seed in range(5)]
    assert one.kernels == other.kernels


@pytest.mark.parametrize("scale", [lambda x: x**3, lambda x: np.expm1(x / 10.0)])
def test_a_suggestion_does_not_depend_on_units_and_tails(
    read_space: ReadSpace, scale: Callable[[float], float]
) -> None:
    space = read_space(KEYS)
    usual, scaled = sampler_of(space, 30), sampler_of(space, 30)
    for number, point in list(usual.tables[9].points.items()):
        scaled.add(number, 9, [float(scale(point[0])), 1e6 * point[1]], at_chance=False, is_violating=False)
    assert [usual.suggest(seed, never) for seed in range(5)] == [scaled.suggest(seed, never) for seed in range(5)]


def test_failed_trials_and_those_at_chance_repel(read_space: ReadSpace) -> None:
    space = read_space(KEYS)
    plain, repelled = sampler_of(space, 40), sampler_of(space, 40)
    bad = [number for number in range(40) if repelled.configs(number)["threshold"] > 1.0]
    for number in bad[::2]:
        repelled.add_failed(number)
    for number in bad[1::2]:
        repelled.add(number, 9, [-10.0, 0.0], at_chance=True, is_violating=False)

    def above(sampler: ModelSampler) -> float:
        found = [sampler.suggest(seed, never) for seed in range(20)]
        return float(np.mean([one is not None and one["threshold"] > 1.05 for one in found]))

    assert above(repelled) < 0.2 < above(plain)


def test_violations_count_at_the_highest_rung_alone(read_space: ReadSpace) -> None:
    sampler = sampler_of(read_space(KEYS), 30)
    for number in range(30):
        sampler.add(number, 1, [-50.0, 0.1], at_chance=False, is_violating=True)
    for number in range(10):
        sampler.add(number, 9, [-100.0, 0.0], at_chance=False, is_violating=True)
    assert sampler._last(1, is_highest=False) == set()
    assert sampler._last(9, is_highest=True) == set(range(10))
    for number in range(30):
        sampler.add(number, 9, [-100.0, 0.0], at_chance=False, is_violating=True)
    assert sampler._last(9, is_highest=True) == set()


def test_the_model_uses_a_bounded_number_of_trials(read_space: ReadSpace) -> None:
    sampler = sampler_of(read_space(KEYS), 300)
    numbers, scores = sampler._scores(9, is_highest=True)
    assert len(numbers) == len(set(numbers)) == len(scores) == mobo.MAX_POINTS
    points = sampler.tables[9].points
    assert set(mobo.moasha.best(points, mobo.MAX_POINTS // 3)) <= set(numbers)


def test_a_trial_that_the_machine_ended_is_forgotten(read_space: ReadSpace) -> None:
    sampler = sampler_of(read_space(KEYS), 12)
    sampler.remove(3)
    assert 3 not in sampler.tables[9].points
    assert sampler.failed == set()


def test_a_third_of_the_new_configs_is_uniform_and_the_model_chooses_the_others(
    new_scheduler: New, play: Callable[..., Any], epoch: Callable[..., EpochMetrics]
) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        return epoch(number, 90.0 - 20.0 * abs(config["tau"] - 2.0) + number, 0.1 * config["threshold"])

    scheduler = new_scheduler(KEYS, "sampler.name=mobo", "budget={epochs: 9, epochs_total: 600}")
    play(scheduler, report, workers=4)
    sources = [trial.source for trial in scheduler.trials.values() if trial.seed_of is None]
    first = sources.index("model")
    assert set(sources) == {"uniform", "model"}
    assert 0.5 < np.mean([source == "model" for source in sources[first:]]) < 0.85
    chosen = [abs(trial.config["tau"] - 2.0) for trial in scheduler.trials.values() if trial.source == "model"]
    uniform = [abs(trial.config["tau"] - 2.0) for trial in scheduler.trials.values() if trial.source == "uniform"]
    assert np.mean(chosen) < 0.6 * np.mean(uniform)


def test_the_model_s_choices_are_not_compared_at_the_first_rung(
    new_scheduler: New, play: Callable[..., Any], by_tau: Any
) -> None:
    scheduler = new_scheduler("sampler.name=mobo", "scheduler.mode=promote", "budget={epochs: 9, trials: 60}")
    happened = play(scheduler, by_tau, workers=4)
    paused_early = {int(line.split()[1]) for line in happened if line.startswith("pause") and line.endswith("at 1")}
    chosen = {number for number, trial in scheduler.trials.items() if trial.source == "model"}
    assert chosen
    assert paused_early
    assert not paused_early & chosen
