"""Trial scheduler: starts, promotes, pauses and stops trials.

It reads no file, clock, network or generator state: the same calls in the same order lead to the same decisions, under
Ray, in simulation and in a replay. The hours spent, and the train file of a config, come from callables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from config.errors import ConfigError
from results.study import TrialStatus
from search.algorithm import moasha
from search.algorithm.budget import Budget, Remaining
from search.algorithm.candidates import MODEL, CandidateGenerator, Resolve
from search.algorithm.observations import ranked_point
from search.algorithm.rungs import NUM_RANKED_FRONTS, Brackets, Rung
from search.algorithm.trial import Assignment, Decision, Suggestion, Trial
from search.space.objectives import is_violating, objective_vector
from search.space.space import Space

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from trainers.epoch_metrics import EpochMetrics

STATUS_AFTER: Mapping[Decision, TrialStatus] = {"pause": "paused", "stop": "stopped", "complete": "complete"}

MAX_REFUSED_IN_A_ROW = 200
"""Infeasible configs in a row after which the space counts as exhausted."""
MAX_REFUSED_BY_SAMPLER = 20
"""Infeasible configs in a row after which configs are sampled uniformly from the space."""
MAX_SAME_FAILURES = 5
"""Equal failures in a row, of a class that configs do not explain, that stop the search."""
NUMBER_PATTERN = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class NothingFeasibleError(ConfigError):
    """Every suggested config was refused."""


class TrialScheduler:
    """The scheduler of one search.

    `resolve` returns the train file of a config or raises InfeasibleError; `hours` returns the time spent.
    """

    def __init__(self, space: Space, resolve: Resolve, hours: Callable[[], float] = lambda: 0.0) -> None:
        self.space = space
        self.trials: dict[int, Trial] = {}
        self.requeued: list[int] = []
        self.brackets = Brackets(space)
        self.budget = Budget(space, hours, self.trials, self.brackets)
        self.running = self.budget.running
        self.candidates = CandidateGenerator(space, resolve, self.trials, self.brackets)
        self._recent_failures: list[str] = []

    def suggest(self) -> Assignment | None:
        """Returns the next trial to run: requeued, promoted or new; None if none can run now.

        Raises NothingFeasibleError if every config is refused.
        """
        trial = self._next_trial()
        if trial is None:
            return None
        was_paused = trial.state == "paused"
        if was_paused:
            self.promote(trial.number, trial.epoch)
        return Assignment(trial.number, trial.suggestion.values, trial.epoch, trial.seed_of, was_paused)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        """Decides on a trial after an epoch and commits the decision."""
        decision = self.decide(number, report)
        self.commit(number, report, decision)
        return decision

    def decide(self, number: int, report: EpochMetrics) -> Decision:
        """Returns the decision on an epoch. Changes nothing but the rung that the trial has reached."""
        trial = self.trials[number]
        if report.epoch >= self.space.budget.epochs:
            return "complete"
        rung = self._add_to_rung(trial, report)
        if rung is None:
            return "continue"
        can_pause = self.space.settings.scheduler.mode == "promote"
        if self.budget.is_finishing and can_pause:
            return "continue" if rung.ranks().get(number) == 0 else "pause"
        can_afford = self.budget.can_afford(number, report.epoch, self.budget.remaining(trial, report.epoch))
        is_among_best = rung.is_promoted_at_once(number) if can_pause else rung.survives(number)
        if can_afford and (is_among_best or self._skips(trial, rung)):
            return "continue"
        return "pause" if can_pause else "stop"

    def commit(self, number: int, report: EpochMetrics, decision: Decision) -> None:
        """Records an epoch and the decision on it."""
        trial = self.trials[number]
        self.budget.epochs_spent += report.epoch not in trial.epochs
        trial.epochs[report.epoch] = report.at_step
        if decision == "complete":
            trial.read_outs = report.read_outs
        if report.is_at_chance:
            trial.at_chance.add(report.epoch)
        rung = self._add_to_rung(trial, report)
        if rung is not None and decision == "continue":
            rung.promoted.add(number)
        if trial.seed_of is None:
            self.candidates.observe(number, report)
        if decision in ("stop", "complete") and report.is_at_chance:
            self.on_error(number, "at_chance", at_chance_reason(report.metrics))
        elif decision != "continue":
            self.budget.set_state(trial, STATUS_AFTER[decision])
            self._recent_failures.clear()

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        """Records the failure of a trial and removes it from its rungs."""
        trial = self.trials[number]
        self.budget.set_state(trial, "failed")
        trial.failure_class, trial.reason = failure_class, reason
        self.budget.epochs_spent += failure_class != "at_chance"  # the epoch that it did not complete
        self.brackets.bracket_of(number).remove(number)
        self.candidates.observe_failure(number, failure_class)
        is_unexplained = failure_class in ("error", "killed")
        self._recent_failures = [*self._recent_failures, f"{failure_class}: {reason}"] if is_unexplained else []

    def on_stop(self, number: int) -> None:
        """Records that a trial was stopped for a reason other than a decision at a rung."""
        self.budget.set_state(self.trials[number], "stopped")
        if number in self.requeued:
            self.requeued.remove(number)
        self._recent_failures.clear()

    def on_restart(self, peak_parallel: int | None = None) -> None:
        """Forgets equal failures. `peak_parallel` is the largest number of trials that ran at once, 0 if unknown."""
        self._recent_failures.clear()
        if peak_parallel is not None:
            self.budget.peak_parallel = max(peak_parallel, len(self.running)) if peak_parallel else 0

    def restore(self, trial: Trial) -> None:
        """Adds a new trial, or one of an earlier run whose epochs follow."""
        self.trials[trial.number] = trial
        self.budget.add(trial)
        self.candidates.add_evaluated(trial)
        self.budget.space_exhausted |= len(self.candidates.evaluated) >= self.space.size()

    def promote(self, number: int, epoch: int) -> None:
        """Resumes a trial that is paused at an epoch; an earlier version of the algorithm also paused between rungs."""
        if (rung := self.brackets.bracket_of(number).rungs.get(epoch)) is not None:
            rung.promoted.add(number)
        self.budget.set_state(self.trials[number], "running")

    def requeue(self, number: int) -> None:
        """Queues a trial to run before all others."""
        self.requeued.append(number)

    def enqueue(self, values: dict[str, Any]) -> int | None:
        """Queues a config to run before all other new ones. Returns the trial that has it already, if any."""
        trial = self.candidates.find(values)
        if trial is None and values not in self.candidates.queue:
            self.candidates.queue.append(values)
        return trial

    def has_queued(self) -> bool:
        """Returns whether a config that was added or is in `start_with` has not run yet."""
        return self.candidates.next_queued() is not None

    def state(self) -> dict[str, Any]:
        """Returns what a later run needs besides the trials, as plain data by the study's attribute names."""
        return {
            "start_with": list(self.candidates.initial),
            "added": list(self.candidates.queue),
            "kernels": dict(self.candidates.model.kernels),
            "together": self.budget.peak_parallel,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned, as far as given; the number of parallel trials is for `on_restart`."""
        if "start_with" in state:
            self.candidates.initial = [(name, values) for name, values in state["start_with"]]
        self.candidates.queue = list(state.get("added", self.candidates.queue))
        self.candidates.model.kernels |= state.get("kernels", {})

    def finish_front(self, *, is_finishing: bool = True) -> None:
        """Starts no more trials: only the paused ones on the first fronts of their rungs resume, whatever the budget.

        One that is dominated at its next rung pauses there. `is_finishing` False returns to the search.
        """
        self.budget.is_finishing = is_finishing

    def run_in_background(self, suggestions: Executor) -> None:
        """Runs slow suggestions in an executor of one worker."""
        self.candidates.prefetcher.submit = lambda work: suggestions.submit(work).result

    def is_finished(self) -> bool:
        """Returns whether nothing can run, now or after any result of the running trials."""
        if self.running or self.requeued or self.can_start_new() or self._next_to_repeat() is not None:
            return False
        return self._next_promotable() is None and self._select_for_remainder() is None

    def can_start_new(self) -> bool:
        """Returns whether a new trial may start."""
        if self.repeated_failure() is not None or (self.budget.space_exhausted and not self.has_queued()):
            return False
        return self.budget.can_start_new()

    def repeated_failure(self) -> str | None:
        """Returns the common reason if the last trials all failed in the same way; further trials would, too."""
        last = self._recent_failures[-MAX_SAME_FAILURES:]
        is_repeated = len(last) == MAX_SAME_FAILURES and len({NUMBER_PATTERN.sub("#", reason) for reason in last}) == 1
        return last[0] if is_repeated else None

    def _next_trial(self) -> Trial | None:
        if self.requeued:
            return self.trials[self.requeued.pop(0)]
        if (original := self._next_to_repeat()) is not None:
            return self._start_repeat(original)
        trial = self._next_promotable()
        if trial is None and self.can_start_new():
            trial = self._start_new()
        if trial is None:
            trial = self._select_for_remainder()
            if trial is not None and trial.state == "complete":
                trial = self._start_repeat(trial)
        return trial

    def _is_over(self) -> bool:
        return self.repeated_failure() is not None or self.budget.is_out_of_time

    def _next_to_repeat(self) -> Trial | None:
        return None if self._is_over() else self.budget.to_repeat()

    def _next_promotable(self) -> Trial | None:
        """Returns the next trial to promote: from the highest rung, the best there."""
        if self.space.settings.scheduler.mode == "stop" or self.budget.is_finishing or self._is_over():
            return None
        found = sorted((pair for bracket in self.brackets for pair in bracket.promotable()), key=lambda pair: -pair[0])
        if not found:
            return None
        remaining = self.budget.remaining()
        promotable = (self.trials[number] for epoch, number in found if epoch == self.trials[number].epoch)
        return next((trial for trial in promotable if self.budget.can_resume(trial, remaining)), None)

    def _select_for_remainder(self) -> Trial | None:
        """Returns a paused trial to resume, or a complete one to repeat, when no new trial can start."""
        if self._is_over():
            return None
        if self.budget.is_finishing:
            return min(self.budget.waiting(), key=lambda trial: (-trial.epoch, trial.number), default=None)
        remaining = self.budget.remaining()
        return self._best_paused(remaining) or self._best_to_repeat(remaining) or self._best_paused_ignoring_pace()

    def _best_paused(self, remaining: Remaining) -> Trial | None:
        """Returns the best of the paused trials on the first fronts of their rungs.

        A budget in trials alone covers those on the first front. Until a trial is complete, all paused trials count,
        as those at chance level may improve.
        """
        paused, ranks = self.budget.resumable(remaining), self.brackets.ranks()
        last = 0 if self.budget.is_trials_only else NUM_RANKED_FRONTS - 1
        ranked = [trial for trial in paused if ranks.get((trial.number, trial.epoch), math.inf) <= last]
        if ranked:
            return min(ranked, key=lambda trial: (ranks[trial.number, trial.epoch], -trial.epoch, trial.number))
        if self.budget.num_completed or (self.budget.is_trials_only and self._is_any_trained_in_full()):
            return None
        return min(paused, key=lambda trial: (-trial.epoch, trial.number), default=None)

    def _is_any_trained_in_full(self) -> bool:
        """Returns whether a trial was trained in full, or may be by what runs now."""
        return bool(self.running) or any(trial.epoch == self.space.budget.epochs for trial in self.trials.values())

    def _best_to_repeat(self, remaining: Remaining) -> Trial | None:
        """Returns the trial of the front with the fewest repeats, if the budget covers another full training.

        A space that sets the number of seeds has no others.
        """
        epochs = self.space.budget.epochs
        is_affordable = min(remaining.epochs, remaining.max_increment) >= epochs
        if self.budget.is_trials_only or not is_affordable or self.budget.seeds > 1:
            return None
        if "seed" in self.space.searched_keys():
            return None
        complete = [trial for trial in self.trials.values() if trial.state == "complete" and trial.seed_of is None]
        points = {
            trial.number: objective_vector(self.space, trial.epochs[epochs], minimise=True)
            for trial in complete
            if not is_violating(self.space, trial.epochs[epochs])
        }
        if not points:
            return None
        return self.trials[min(moasha.front(points), key=lambda number: (self.budget.num_repeats[number], number))]

    def _best_paused_ignoring_pace(self) -> Trial | None:
        """Returns a paused trial if hours remain but the pace so far, an estimate, allows nothing to run."""
        if self.running or self.space.budget.hours is None:
            return None
        paused, ranks = self.budget.resumable(self.budget.remaining_ignoring_pace()), self.brackets.ranks()
        key = {trial.number: ranks.get((trial.number, trial.epoch), math.inf) for trial in paused}
        return min(paused, key=lambda trial: (key[trial.number], trial.number), default=None)

    def _skips(self, trial: Trial, rung: Rung) -> bool:
        """Returns whether a trial continues from a rung without a comparison: the model ranks better than the first."""
        return trial.source == MODEL and rung is self.brackets.bracket_of(trial.number).first_rung

    def _start_repeat(self, original: Trial) -> Trial:
        """Starts a trial with the config of another and a new seed."""
        seed = int(original.config["seed"]) + self.budget.num_repeats[original.number] + 1
        source = f"seed of t{original.number:04d}"
        config = {**original.config, "seed": seed}
        trial = Trial(len(self.trials), original.suggestion, config, source=source, seed_of=original.number)
        self.restore(trial)
        return trial

    def _start_new(self, first: tuple[Suggestion, str] | None = None) -> Trial | None:
        """Starts a trial with `first`, or with the next suggestion that is feasible; None if the space is exhausted."""
        for refused in range(MAX_REFUSED_IN_A_ROW):
            found, first = first or self.candidates.next(evenly=refused >= MAX_REFUSED_BY_SAMPLER), None
            if found is None:
                break
            trial = self.candidates.trial_of(*found)
            self.restore(trial)
            if trial.state == "running":
                self.candidates.prefetch_next()
                return trial
            if self.space.settings.scheduler.brackets > 1 and not self.can_start_new():
                return None  # the next number may belong to a bracket with a later first rung
        else:
            if all(trial.infeasible is not None for trial in self.trials.values()):
                message = f"{MAX_REFUSED_IN_A_ROW} configs in a row were refused; widen space or constraints"
                raise NothingFeasibleError(message)
        self.budget.space_exhausted = True
        return None

    def _add_to_rung(self, trial: Trial, report: EpochMetrics) -> Rung | None:
        """Adds a trial's point to the rung of its epoch and returns the rung, None if there is none."""
        rung = self.brackets.bracket_of(trial.number).rungs.get(report.epoch)
        if rung is None or trial.seed_of is not None:
            return None
        point, at_chance = ranked_point(self.space, report)
        rung.add(trial.number, point, at_chance=at_chance)
        return rung


def at_chance_reason(metrics: Mapping[str, float]) -> str:
    """Returns the reason of failure of a trial at chance level."""
    return f"accuracy {metrics['accuracy']:.2f} % is no better than a guess"
