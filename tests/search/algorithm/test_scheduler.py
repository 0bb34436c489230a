"""The scheduler without a database: the order of trials, and the decisions on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Assignment
from trainers.epoch_metrics import EpochMetrics

New = Callable[..., TrialScheduler]
Play = Callable[..., list[str]]
Epoch = Callable[..., EpochMetrics]

DISCRETE = "space={tau: {choice: [1.2, 1.6, 2.0]}, step: {choice: [1, 2]}}"
PROMOTE = "scheduler.mode=promote"


def test_a_paused_trial_resumes_when_its_rung_has_filled(new_scheduler: New, play: Play, by_tau: Any) -> None:
    scheduler = new_scheduler(PROMOTE, "budget.trials=9")
    happened = play(scheduler, by_tau)
    assert happened[0:2] == ["run 0 from 0", "complete 0 at 9"]  # the first at its rungs
    assert [line for line in happened if line.startswith("pause")]
    resumed = [line for line in happened if not line.endswith("from 0") and line.startswith("run")]
    assert resumed
    assert scheduler.is_finished()


def test_a_third_of_the_trials_is_promoted_besides_the_first_ones(new_scheduler: New, play: Play, epoch: Epoch) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        return epoch(number, 40.0 + 20.0 * config["tau"] + number, 0.5 - 0.1 * config["tau"])  # one best trial

    scheduler = new_scheduler(PROMOTE, "budget.trials=27")
    play(scheduler, report)
    rungs = scheduler.brackets.first.rungs
    assert len(rungs[1].points) == 27
    assert 9 <= len(rungs[3].points) <= 11
    assert 3 <= scheduler.budget.num_completed <= 5


def test_the_best_trial_is_trained_in_full_in_any_order(new_scheduler: New, play: Play, epoch: Epoch) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        best = config["tau"] > 2.5
        return epoch(number, 90.0 if best else 50.0 + config["tau"], 0.01 if best else 0.2, config["step"])

    for seed in range(5):
        scheduler = new_scheduler(PROMOTE, "budget.trials=18", f"seed={seed}")
        play(scheduler, report, workers=4)
        best = [trial for trial in scheduler.trials.values() if trial.config["tau"] > 2.5]
        assert not best or any(trial.state == "complete" for trial in best)


def test_a_remaining_budget_repeats_the_front_with_further_seeds(new_scheduler: New, play: Play, by_tau: Any) -> None:
    scheduler = new_scheduler(DISCRETE, "budget={epochs: 9, epochs_total: 120}", "scheduler.name=none")
    play(scheduler, by_tau, workers=2)
    repeats = [trial for trial in scheduler.trials.values() if trial.seed_of is not None]
    assert repeats
    for trial in repeats:
        original = scheduler.trials[trial.seed_of or 0]
        assert trial.config == {**original.config, "seed": trial.config["seed"]}
        assert trial.config["seed"] != original.config["seed"]
    assert len({(trial.seed_of, trial.config["seed"]) for trial in repeats}) == len(repeats)
    assert scheduler.budget.num_started == 6


def test_configs_that_violate_a_constraint_are_not_repeated(new_scheduler: New, play: Play, by_tau: Any) -> None:
    keys = ("budget={epochs_total: 60, epochs: 9}", "constraints={accuracy: {min: 200}}", DISCRETE)
    scheduler = new_scheduler(PROMOTE, *keys)
    play(scheduler, by_tau)
    assert any(trial.state == "complete" for trial in scheduler.trials.values())
    assert all(trial.seed_of is None for trial in scheduler.trials.values())


def test_trials_are_compared_by_their_point_at_step_not_at_read_step(new_scheduler: New, epoch: Epoch) -> None:
    keys = "space={tau: {uniform: [1.1, 3.0]}}"
    scheduler = new_scheduler("fixed.step=2", "fixed.read_step=1", PROMOTE, keys)
    job = scheduler.suggest()
    assert job is not None
    report = epoch(job.number, 50.0, 0.1, 2)
    last = {**report.read_outs[-1], "accuracy": 90.0}
    scheduler.on_result(job.number, EpochMetrics(1, report.metrics, [report.read_outs[0], last], []))
    assert scheduler.brackets.first.rungs[1].points[job.number][0] == -90.0
    assert scheduler.trials[job.number].epochs[1]["accuracy"] == 90.0


def test_the_state_of_a_scheduler_restores_what_is_not_in_its_trials(new_scheduler: New, by_tau: Any) -> None:
    first, second = new_scheduler(), new_scheduler()
    assert first.enqueue({"tau": 2.0, "step": 1}) is None
    assert first.enqueue({"tau": 2.0, "step": 1}) is None
    first.load_state({"start_with": [["recipe", {"tau": 1.5, "step": 2}]]})
    second.load_state(first.state())
    assert second.state() == first.state()
    assert first.state()["added"] == [{"tau": 2.0, "step": 1}]
    assert second.has_queued()
    jobs = [second.suggest() for _ in range(2)]
    assert [job.values for job in jobs if job is not None] == [{"tau": 2.0, "step": 1}, {"tau": 1.5, "step": 2}]
    assert not second.has_queued()
    assert second.enqueue({"tau": 1.5, "step": 2}) == 1


def test_a_requeued_trial_runs_before_all_others(new_scheduler: New, by_tau: Any) -> None:
    scheduler = new_scheduler()
    first = scheduler.suggest()
    assert first is not None
    scheduler.on_result(first.number, by_tau(scheduler.trials[0].config, 1))
    scheduler.requeue(first.number)
    assert scheduler.suggest() == Assignment(0, first.values, 1)
    scheduler.requeue(first.number)
    scheduler.on_stop(first.number)
    assert scheduler.requeued == []


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
@pytest.mark.parametrize("mode", ["promote", "stop"])
def test_an_option_that_can_never_be_built_is_never_trained(
    new_scheduler: New, play: Play, epoch: Epoch, mode: str, sampler: str
) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        return epoch(number, 50.0 + config["num_heads"], 0.1 * config["tau"])

    heads = "space={num_heads: {choice: [2, 3, 4, 5]}, tau: {uniform: [1.1, 3.0]}}"
    scheduler = new_scheduler(heads, f"scheduler.mode={mode}", f"sampler.name={sampler}", "budget.trials=40")
    play(scheduler, report, workers=4)
    trained = [trial for trial in scheduler.trials.values() if trial.infeasible is None and trial.seed_of is None]
    assert len(trained) == 40
    assert {trial.config["num_heads"] for trial in trained} == {2, 4}


@pytest.mark.parametrize("scheduler", ["scheduler.grace_epochs=1", "scheduler.grace_epochs=9", "scheduler.name=none"])
def test_a_search_without_rungs_below_a_full_training_runs_to_its_end(
    new_scheduler: New, play: Play, by_tau: Any, scheduler: str
) -> None:
    epochs = 1 if scheduler.endswith("=1") else 9
    tested = new_scheduler(PROMOTE, scheduler, f"budget={{trials: 14, epochs: {epochs}}}")
    play(tested, by_tau, workers=3)
    assert sum(trial.state == "complete" for trial in tested.trials.values()) == 14


def test_equal_failures_end_a_search_but_not_its_restart(new_scheduler: New) -> None:
    scheduler = new_scheduler()
    for number in range(5):
        job = scheduler.suggest()
        assert job is not None
        scheduler.on_error(job.number, "error", f"no disk at 0x{number}f")
    assert scheduler.repeated_failure() == "error: no disk at 0x0f"
    assert scheduler.suggest() is None
    scheduler.on_restart()
    assert scheduler.suggest() is not None


def test_keys_may_take_numbers_under_one_option_and_lists_under_another(
    new_scheduler: New, play: Play, by_tau: Any
) -> None:
    scheduler = new_scheduler(
        "space={tau: {uniform: [1.1, 3.0]}, model: {choice: {spikformer_cifar: {embed_dim: {choice: [16, 32]}}, "
        "qkformer_cifar: {embed_dim: {choice: [[16, 32, 32], [32, 32, 64]]}, patch_size: {choice: [4]}, "
        "depths: {choice: [[1, 1, 1]]}}}}}",
        "fixed={distort: false}",
        PROMOTE,
        "budget.trials=16",
    )
    play(scheduler, by_tau)
    trained = [trial for trial in scheduler.trials.values() if trial.infeasible is None]
    assert {isinstance(trial.config["embed_dim"], list) for trial in trained} == {True, False}


def test_finishing_trains_first_fronts_only_and_to_the_end_whatever_the_budget(
    new_scheduler: New, play: Play, epoch: Epoch
) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        gain = config["tau"] if number < 2 else abs(config["tau"] - 2.0)  # some are dominated at the second rung
        return epoch(number, 40.0 + 15.0 * gain + number, 0.05 + 0.1 * config["tau"])

    scheduler = new_scheduler(PROMOTE, "budget={epochs: 9, epochs_total: 50}")
    play(scheduler, report, workers=8)
    waiting = {trial.number: trial.epoch for trial in scheduler.budget.waiting()}
    num_started, others = len(scheduler.trials), [t for t in scheduler.trials.values() if t.number not in waiting]
    before = [(trial.number, trial.state, trial.epoch) for trial in others]
    assert len(waiting) > 2
    assert "paused" in str(before)
    scheduler.finish_front()
    happened = play(scheduler, report, workers=2)
    assert scheduler.is_finished()
    assert len(scheduler.trials) == num_started
    assert [(trial.number, trial.state, trial.epoch) for trial in others] == before
    assert {f"run {number} from {at}" for number, at in waiting.items()} <= set(happened)
    ends = {(scheduler.trials[number].state, scheduler.trials[number].epoch) for number in waiting}
    assert ends == {("complete", 9), ("paused", 3)}
    assert not scheduler.budget.waiting()


def test_a_dominated_member_of_a_front_pauses_at_its_next_rung(new_scheduler: New, epoch: Epoch) -> None:
    scheduler = new_scheduler(PROMOTE, "budget.trials=6")
    points = {0: (60.0, 0.1), 1: (70.0, 0.2), 2: (80.0, 0.3)}
    for number, (accuracy, rate) in points.items():
        assert scheduler.suggest() is not None
        scheduler.commit(number, epoch(1, accuracy, rate), "pause")
    scheduler.finish_front()
    first = scheduler.suggest()
    assert first is not None
    assert first.was_paused
    for number in (2, 3):
        assert scheduler.on_result(first.number, epoch(number, 90.0, 0.01)) == "continue"
    second = scheduler.suggest()
    assert second is not None
    scheduler.on_result(second.number, epoch(2, 50.0, 0.4))
    assert scheduler.on_result(second.number, epoch(3, 50.0, 0.4)) == "pause"


def test_the_search_continues_after_finishing(new_scheduler: New, play: Play, by_tau: Any) -> None:
    scheduler = new_scheduler(PROMOTE, "budget.trials=9")
    scheduler.finish_front()
    assert scheduler.suggest() is None
    assert scheduler.is_finished()
    scheduler.finish_front(is_finishing=False)
    play(scheduler, by_tau)
    assert scheduler.budget.num_started == 9


def _seeds(scheduler: TrialScheduler) -> dict[int, list[int]]:
    """Returns the seeds of the trainings of each trained config, by the trial that had it first."""
    found: dict[int, list[int]] = {}
    for trial in scheduler.trials.values():
        found.setdefault(trial.number if trial.seed_of is None else trial.seed_of, []).append(trial.config["seed"])
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_each_config_of_a_grid_is_trained_with_each_seed(
    new_scheduler: New, play: Play, by_tau: Any, workers: int
) -> None:
    keys = (DISCRETE, "budget={epochs: 3, trials: 6}", "scheduler.name=none", "sampler.name=random", "seeds=3")
    scheduler = new_scheduler(*keys)
    play(scheduler, by_tau, workers)
    first = scheduler.trials[0].config["seed"]
    assert list(_seeds(scheduler).values()) == [[first, first + 1, first + 2]] * 6
    assert scheduler.budget.num_started == 6
    assert scheduler.budget.epochs_spent == 6 * 3 * 3
    assert scheduler.is_finished()


def test_the_seeds_of_a_config_run_before_the_next_config(new_scheduler: New, play: Play, by_tau: Any) -> None:
    scheduler = new_scheduler("budget={epochs: 3, trials: 2}", "scheduler.name=none", "seeds=2")
    play(scheduler, by_tau)
    assert [trial.seed_of for trial in scheduler.trials.values()] == [None, 0, None, 2]


def test_with_rungs_only_full_trainings_are_repeated(new_scheduler: New, play: Play, epoch: Epoch) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        return epoch(number, 40.0 + 20.0 * config["tau"] + number, 0.5 - 0.1 * config["tau"])  # one best trial

    scheduler = new_scheduler(PROMOTE, "budget.trials=12", "seeds=3")
    play(scheduler, report, workers=3)
    for number, seeds in _seeds(scheduler).items():
        assert len(seeds) == (3 if scheduler.trials[number].state == "complete" else 1)
    assert {"paused", "complete"} == {trial.state for trial in scheduler.trials.values()}


@pytest.mark.parametrize("workers", [1, 4, 8])
@pytest.mark.parametrize("mode", ["stop", "promote"])
def test_a_full_training_starts_only_if_the_budget_covers_all_seeds(
    new_scheduler: New, play: Play, by_tau: Any, mode: str, workers: int
) -> None:
    scheduler = new_scheduler("budget={epochs: 9, epochs_total: 100}", f"scheduler.mode={mode}", "seeds=3")
    play(scheduler, by_tau, workers)
    complete = [t for t in scheduler.trials.values() if t.state == "complete" and t.seed_of is None]
    assert complete
    assert all(len(_seeds(scheduler)[trial.number]) == 3 for trial in complete)
    assert scheduler.budget.epochs_spent <= 100


def test_a_config_that_failed_or_is_refused_a_seed_by_the_user_gets_no_others(new_scheduler: New, by_tau: Any) -> None:
    scheduler = new_scheduler("budget={epochs: 1, trials: 2}", "scheduler.name=none", "seeds=2")
    job = scheduler.suggest()
    assert job is not None
    scheduler.on_error(job.number, "diverged", "loss is nan")
    second = scheduler.suggest()
    assert second is not None
    assert second.seed_of is None
    scheduler.on_result(second.number, by_tau(scheduler.trials[second.number].config, 1))
    repeat = scheduler.suggest()
    assert repeat is not None
    assert (repeat.seed_of, scheduler.budget.unsettled()) == (second.number, {second.number})
    scheduler.on_stop(repeat.number)
    assert scheduler.is_finished()
    assert not scheduler.budget.unsettled()


def test_seeds_that_are_raised_are_trained_when_the_search_resumes(new_scheduler: New, play: Play, by_tau: Any) -> None:
    keys = (DISCRETE, "budget={epochs: 3, trials: 6}", "scheduler.name=none")
    scheduler = new_scheduler(*keys)
    play(scheduler, by_tau)
    scheduler.budget.seeds = 2
    assert not scheduler.is_finished()
    play(scheduler, by_tau)
    assert {len(seeds) for seeds in _seeds(scheduler).values()} == {2}


def test_a_space_that_sets_the_seeds_repeats_no_config_further(new_scheduler: New, play: Play, by_tau: Any) -> None:
    keys = (DISCRETE, "budget={epochs: 3, epochs_total: 100}", "scheduler.name=none", "seeds=2")
    scheduler = new_scheduler(*keys)
    play(scheduler, by_tau)
    assert {len(seeds) for seeds in _seeds(scheduler).values()} == {2}
