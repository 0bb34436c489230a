"""The policy without a database: what runs next, who waits, and how a budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from search.algorithm.scheduler import Decision, TrialScheduler
from search.algorithm.trial import Assignment
from search.simulate import changed
from search.simulation.simulator import SimulatedCluster, simulate
from search.space.space import Space
from tests.support import synthetic_curves
from trainers.epoch_metrics import EpochMetrics

Read = Callable[..., Space]
Epoch = Callable[..., EpochMetrics]

DISCRETE = "space={tau: {choice: [1.2, 1.6, 2.0]}, step: {choice: [1, 2]}}"


def play(policy: TrialScheduler, report: Callable[[dict[str, Any], int], EpochMetrics], workers: int = 1) -> list[str]:
    """Runs the policy to its end, every worker one epoch in turn. Returns what happened, in order."""
    told: list[str] = []
    busy: list[tuple[int, int]] = []
    while True:
        while len(busy) < workers and (job := policy.suggest()) is not None:
            told.append(f"run {job.number} from {job.epoch}")
            busy.append((job.number, job.epoch))
        if not busy:
            return told
        number, epoch = busy.pop(0)
        outcome = policy.on_result(number, report(policy.trials[number].config, epoch + 1))
        if outcome == "continue":
            busy.append((number, epoch + 1))
        else:
            told.append(f"{outcome} {number} at {epoch + 1}")


@pytest.fixture
def by_tau(epoch: Epoch) -> Callable[[dict[str, Any], int], EpochMetrics]:
    """Accuracy grows with tau, and so do the spikes; each epoch adds a little."""

    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        accuracy = 40.0 + 20.0 * config["tau"] + number / 10
        return epoch(number, accuracy, 0.05 + 0.02 * config["tau"] ** 2, config["step"])

    return report


def test_a_trial_that_waits_goes_on_when_the_rung_has_filled(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space("scheduler.mode=promote", "budget.trials=9"))
    told = play(policy, by_tau)
    assert told[0:4] == ["run 0 from 0", "pause 0 at 1", "run 1 from 0", "pause 1 at 1"]
    resumed = [line for line in told if not line.endswith("from 0") and line.startswith("run")]
    assert resumed
    assert policy.is_finished()


def test_with_nine_trials_three_go_on_and_one_is_trained_in_full(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space("scheduler.mode=promote", "budget.trials=9"))
    play(policy, by_tau)
    reached = sorted(record.epoch for record in policy.trials.values())
    assert reached == [1] * 6 + [3] * 2 + [9]


def test_the_best_trial_is_trained_in_full_whatever_the_order(read_space: Read, epoch: Epoch) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        best = config["tau"] > 2.5
        return epoch(number, 90.0 if best else 50.0 + config["tau"], 0.01 if best else 0.2, config["step"])

    for seed in range(5):
        policy = TrialScheduler(read_space("scheduler.mode=promote", "budget.trials=18", f"seed={seed}"))
        play(policy, report, workers=4)
        best = [r for r in policy.trials.values() if r.config["tau"] > 2.5]
        assert not best or any(record.state == "complete" for record in best)


def test_a_finite_space_is_searched_without_a_repetition_to_its_end(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space(DISCRETE, "scheduler.name=none", "budget.trials=50"))
    play(policy, by_tau, workers=2)
    configs = [tuple(record.suggestion.values.values()) for record in policy.trials.values()]
    assert sorted(configs) == sorted({(tau, step) for tau in (1.2, 1.6, 2.0) for step in (1, 2)})


@pytest.mark.parametrize("mode", ["stop", "promote"])
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_a_budget_in_epochs_is_kept_and_ends_in_full_trainings(
    read_space: Read, by_tau: Any, mode: str, workers: int
) -> None:
    policy = TrialScheduler(read_space("budget={epochs: 9, epochs_total: 120}", f"scheduler.mode={mode}"))
    play(policy, by_tau, workers)
    assert policy.budget.epochs_spent <= 120 + (0 if mode == "promote" else 9 * workers)
    assert policy.budget.epochs_spent > 120 - 9
    assert sum(record.state == "complete" for record in policy.trials.values()) >= 3


def test_what_is_left_of_a_budget_trains_the_front_with_further_seeds(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space(DISCRETE, "budget={epochs: 9, epochs_total: 120}", "scheduler.name=none"))
    play(policy, by_tau, workers=2)
    again = [record for record in policy.trials.values() if record.seed_of is not None]
    assert again
    for record in again:
        first = policy.trials[record.seed_of or 0]
        assert record.config == {**first.config, "seed": record.config["seed"]}
        assert record.config["seed"] != first.config["seed"]
    assert len({(record.seed_of, record.config["seed"]) for record in again}) == len(again)
    assert policy.budget.num_started == 6


def test_brackets_let_some_trials_be_compared_later(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space("scheduler.brackets=2", "budget.trials=40"))
    play(policy, by_tau)
    first, second = policy.brackets
    assert (first.levels, second.levels) == ([1, 3], [3])
    assert len(first.rungs[1].points) + len(second.rungs[3].points) == 40
    assert min(len(first.rungs[1].points), len(second.rungs[3].points)) >= 10


def test_trials_at_chance_come_last_in_their_rung_however_few_their_spikes(read_space: Read, epoch: Epoch) -> None:
    policy = TrialScheduler(read_space("scheduler.mode=promote", "budget.trials=9"))
    jobs = [policy.suggest() for _ in range(9)]
    gone_on: set[int] = set()
    for number, job in enumerate(jobs):
        assert job is not None
        silent = number % 3 != 0
        outcome = policy.on_result(
            job.number, epoch(1, 10.0 if silent else 40.0 + number, 0.0001 if silent else 0.1 + number / 100)
        )
        gone_on |= {number} if outcome == "continue" else set()
    gone_on |= {job.number for job in (policy.suggest() for _ in range(3)) if job is not None}
    assert gone_on == {0, 3, 6}


def test_trials_are_compared_by_their_point_at_step_not_at_read_step(read_space: Read, epoch: Epoch) -> None:
    keys = "space={tau: {uniform: [1.1, 3.0]}}"
    policy = TrialScheduler(read_space("fixed.step=2", "fixed.read_step=1", "scheduler.mode=promote", keys))
    job = policy.suggest()
    assert job is not None
    told = epoch(job.number, 50.0, 0.1, 2)
    last = {**told.read_outs[-1], "accuracy": 90.0}
    policy.on_result(job.number, EpochMetrics(1, told.metrics, [told.read_outs[0], last], []))
    assert policy.brackets.first.rungs[1].points[job.number][0] == -90.0
    assert policy.trials[job.number].epochs[1]["accuracy"] == 90.0


@pytest.mark.parametrize("threads", [0, 1])
def test_what_is_learned_early_is_not_learned_again_and_decides_nothing(threads: int) -> None:
    class Eager(TrialScheduler):
        reused = 0

        def on_result(self, number: int, report: EpochMetrics) -> Decision:
            outcome = super().on_result(number, report)
            self.prepare()
            return outcome

        def suggest(self) -> Assignment | None:
            if self.acquisition._learning is not None:
                self.acquisition._learning()
            before = self.acquisition._fitted, self.acquisition._hazard and self.acquisition._hazard._early
            job = super().suggest()
            after = self.acquisition._fitted, self.acquisition._hazard and self.acquisition._hazard._early
            self.reused += after[0] is not None and all(a is b for a, b in zip(before, after, strict=True))
            return job

    table = synthetic_curves.make_table(epochs=9)
    space = changed(table.space, ["budget.epochs_total=150"])
    usual, eager = TrialScheduler(space), Eager(space)
    expected = simulate(table, usual, SimulatedCluster(workers=3), 150)
    with ThreadPoolExecutor(1) as pool:
        if threads:
            eager.acquisition.submit = lambda work: pool.submit(work).result
        assert simulate(table, eager, SimulatedCluster(workers=3), 150) == expected
    assert eager.acquisition.fit == usual.acquisition.fit
    assert eager.reused > 0.6 * len(expected.select("start", "resume"))


PROMOTE = "scheduler.mode=promote"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("workers", [1, 4, 8, 32])
@pytest.mark.parametrize(
    "budget",
    [
        ("budget={trials: 2, epochs: 9}",),
        ("budget={trials: 6, epochs: 9}",),
        ("budget={trials: 40, epochs: 27}",),
        ("budget={epochs_total: 27, epochs: 27}",),
        ("budget={epochs_total: 270, epochs: 27}", "scheduler.brackets=2"),
        ("budget={epochs_total: 60, epochs: 27}", "scheduler.mode=stop"),
        ("budget={epochs_total: 60, epochs: 27}", "scheduler.mode=stop", "scheduler.brackets=3"),
    ],
)
def test_some_trial_is_trained_in_full_and_the_budget_kept_however_many_workers(
    read_space: Read, by_tau: Any, budget: tuple[str, ...], workers: int, sampler: str
) -> None:
    policy = TrialScheduler(read_space(PROMOTE, f"sampler.name={sampler}", *budget))
    play(policy, by_tau, workers)
    assert any(record.state == "complete" for record in policy.trials.values())
    total = policy.space.budget.epochs_total
    assert total is None or policy.budget.epochs_spent <= total


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
@pytest.mark.parametrize("mode", ["promote", "stop"])
def test_an_option_that_can_never_be_built_is_left_alone(
    read_space: Read, epoch: Epoch, mode: str, sampler: str
) -> None:
    def report(config: dict[str, Any], number: int) -> EpochMetrics:
        return epoch(number, 50.0 + config["num_heads"], 0.1 * config["tau"])

    heads = "space={num_heads: {choice: [2, 3, 4, 5]}, tau: {uniform: [1.1, 3.0]}}"
    policy = TrialScheduler(read_space(heads, f"scheduler.mode={mode}", f"sampler.name={sampler}", "budget.trials=40"))
    play(policy, report, workers=4)
    trained = [record for record in policy.trials.values() if record.infeasible is None and record.seed_of is None]
    assert len(trained) == 40
    assert {record.config["num_heads"] for record in trained} == {2, 4}


def test_where_next_to_nothing_can_be_built_the_search_ends_with_what_it_has(
    read_space: Read, by_tau: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 3)
    policy = TrialScheduler(read_space("space={num_heads: {int: [5, 128]}, tau: {uniform: [1.1, 3.0]}}"))
    policy.candidates.queue = [{"num_heads": 8, "tau": 2.0}]
    play(policy, lambda config, number: by_tau({**config, "step": 1}, number))
    assert {record.config["num_heads"] for record in policy.trials.values() if record.infeasible is None} <= {8, 16}
    assert policy.trials[0].state == "complete"
    assert policy.is_finished()


@pytest.mark.parametrize("scheduler", ["scheduler.grace_epochs=1", "scheduler.grace_epochs=9", "scheduler.name=none"])
def test_a_search_without_rungs_below_a_full_training_goes_on_to_its_end(
    read_space: Read, by_tau: Any, scheduler: str
) -> None:
    epochs = 1 if scheduler.endswith("=1") else 9
    policy = TrialScheduler(read_space(PROMOTE, scheduler, f"budget={{trials: 14, epochs: {epochs}}}"))
    play(policy, by_tau, workers=3)
    assert sum(record.state == "complete" for record in policy.trials.values()) == 14


def test_nothing_is_foretold_before_trials_have_come_to_where_they_are_compared(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(read_space(PROMOTE, "scheduler.grace_epochs=4", "budget={trials: 30, epochs: 12}"))
    jobs = [policy.suggest() for _ in range(12)]
    for job in jobs:
        assert job is not None
        policy.on_result(job.number, by_tau(policy.trials[job.number].config, 1))
    policy.on_error(0, "error", "x")
    policy.prepare()
    assert policy.suggest() is not None


def test_seeds_of_configs_that_break_a_bound_are_not_bought(read_space: Read, by_tau: Any) -> None:
    keys = ("budget={epochs_total: 60, epochs: 9}", "constraints={accuracy: {min: 200}}", DISCRETE)
    policy = TrialScheduler(read_space(PROMOTE, *keys))
    play(policy, by_tau)
    assert any(record.state == "complete" for record in policy.trials.values())
    assert all(record.seed_of is None for record in policy.trials.values())


def test_failures_before_a_new_start_do_not_end_it(read_space: Read) -> None:
    policy = TrialScheduler(read_space())
    for _ in range(5):
        job = policy.suggest()
        assert job is not None
        policy.on_error(job.number, "error", "the disk is gone")
    assert policy.repeated_failure() is not None
    policy.on_restart(policy.budget.peak_parallel)
    assert policy.suggest() is not None


def test_many_workers_end_together() -> None:
    table, workers = synthetic_curves.make_table(16), 32
    policy = TrialScheduler(
        changed(table.space, ["sampler.name=random", f"budget.epochs_total={3 * workers * table.epochs}"])
    )
    world = SimulatedCluster(workers=workers, speed_spread=0.0, deaths=0.0, equal_costs=True)
    trace = simulate(table, policy, world, 3 * workers * table.epochs)
    assert trace.busy_share > 0.9  # where the last stretches begin whenever there are epochs for them: 0.78
    assert len(trace.select("complete")) > workers


@pytest.mark.parametrize("workers", [1, 8, 30])
@pytest.mark.parametrize("keys", [("scheduler.name=none",), (DISCRETE, PROMOTE)])
def test_where_nothing_else_can_be_begun_a_budget_is_spent_however_long_the_others_wait(
    read_space: Read, by_tau: Any, keys: tuple[str, ...], workers: int
) -> None:
    policy = TrialScheduler(read_space(*keys, "budget={epochs_total: 153, epochs: 9}"))
    play(policy, by_tau, workers)
    assert policy.budget.epochs_spent > 153 - 9


def never(epoch: Epoch) -> Callable[[dict[str, Any], int], EpochMetrics]:
    """No config is ever better than a guess."""
    return lambda config, number: epoch(number, 10.0, 0.05 + 0.02 * config["tau"], config["step"])


@pytest.mark.parametrize("workers", [1, 8])
def test_a_budget_in_trials_is_stretched_by_one_full_training_at_most(
    read_space: Read, epoch: Epoch, workers: int
) -> None:
    policy = TrialScheduler(read_space("scheduler.mode=promote", "budget={epochs: 27, trials: 24}"))
    planned = policy.budget.remaining_epochs()
    play(policy, never(epoch), workers)
    assert policy.budget.num_completed == 0
    assert planned <= policy.budget.epochs_spent <= planned + 27


@pytest.mark.parametrize("budget", ["{epochs: 9, trials: 1}", "{epochs: 9, trials: 2}", "{epochs: 9, epochs_total: 9}"])
def test_a_trial_that_begins_as_a_guess_is_trained_with_the_epochs_kept_for_it(
    read_space: Read, by_tau: Any, epoch: Epoch, budget: str
) -> None:
    def late(config: dict[str, Any], number: int) -> EpochMetrics:
        return by_tau(config, number) if number > 1 else never(epoch)(config, number)

    policy = TrialScheduler(read_space("scheduler.mode=promote", f"budget={budget}"))
    play(policy, late)
    assert policy.budget.num_completed == 1


def test_hours_are_used_also_where_the_pace_of_a_slow_start_says_that_nothing_would_fit(
    read_space: Read, by_tau: Any
) -> None:
    clock = 0.3

    def later(config: dict[str, Any], number: int) -> EpochMetrics:
        nonlocal clock
        clock += 0.02
        found: EpochMetrics = by_tau(config, number)
        return found

    policy = TrialScheduler(read_space("scheduler.mode=promote", "budget={epochs: 9, hours: 1}"), lambda: clock)
    play(policy, later)
    assert 1.0 <= clock < 1.2
    assert policy.budget.num_completed >= 2
    assert policy.is_finished()


def test_refusals_lead_to_no_bracket_that_the_budget_does_not_carry(read_space: Read, by_tau: Any) -> None:
    space = "space={num_heads: {choice: [2, 3, 4, 5, 7, 9, 11]}, tau: {uniform: [1.1, 3.0]}}"
    for seed in range(6):
        how = [space, "scheduler.brackets=3", "budget={epochs: 27, epochs_total: 60}", "sampler.name=random"]
        policy = TrialScheduler(read_space("scheduler.mode=promote", *how, f"seed={seed}"))
        play(policy, lambda config, number: by_tau({"step": 2, **config}, number), workers=8)
        assert policy.budget.epochs_spent <= 60


def test_a_forecast_copes_with_numbers_and_lists_under_one_key(read_space: Read, by_tau: Any) -> None:
    policy = TrialScheduler(
        read_space(
            "space={tau: {uniform: [1.1, 3.0]}, model: {choice: {spikformer_cifar: {embed_dim: {choice: [16, 32]}}, "
            "qkformer_cifar: {embed_dim: {choice: [[16, 32, 32], [32, 32, 64]]}, patch_size: {choice: [4]}, "
            "depths: {choice: [[1, 1, 1]]}}}}}",
            "fixed={distort: false}",
            "scheduler.mode=promote",
            "budget.trials=16",
        )
    )
    play(policy, by_tau)
    tried = [record for record in policy.trials.values() if record.infeasible is None]
    assert {isinstance(record.config["embed_dim"], list) for record in tried} == {True, False}
    assert {record.source for record in tried} > {"sampler"}


def test_a_named_config_runs_also_where_too_many_draws_in_a_row_were_refused(
    read_space: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.algorithm.scheduler.MAX_REFUSED_IN_A_ROW", 3)
    space = "space={num_heads: {int: [5, 128]}, tau: {uniform: [1.1, 3.0]}}"
    policy = TrialScheduler(read_space(space, "budget={epochs: 9, epochs_total: 500}"))
    policy.candidates.queue.append({"num_heads": 8, "tau": 2.0})
    assert policy.suggest()
    assert policy.suggest() is None
    assert not policy.can_start_new()
    policy.candidates.queue.append({"num_heads": 16, "tau": 1.5})
    assert policy.can_start_new()
    job = policy.suggest()
    assert job is not None
    assert job.values == {"num_heads": 16, "tau": 1.5}
