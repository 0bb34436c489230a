"""Budget accounting: remaining and reserved epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from results.study import TrialStatus
from search.algorithm.rungs import Brackets
from search.algorithm.trial import ALIVE, Trial
from search.space.space import Space

MAX_IDLE_TRAININGS = 2.0
"""Idle time of all workers at the end of a search, in full trainings at their mean cost so far."""


@dataclass(frozen=True)
class Remaining:
    """The epochs that a budget has left at one moment.

    Of the free `epochs`, `to_completion` are reserved to train one trial in full. A paused trial resumes only if it
    takes at most `max_increment` epochs to its next rung.
    """

    epochs: float
    to_completion: float
    max_increment: float


class Budget:
    """The budget of one search, in trials, epochs and hours.

    A trial starts or resumes only if the remaining budget covers it to its next rung. Until one trial is trained in
    full, enough must then remain to train some trial to its end, unless the budget is in hours. Otherwise many workers
    would use up a small budget, and no trial would have a final value. From then on, while new trials could start
    instead, no trial resumes that would keep many workers idle at the end. A trial starts its last stage only if the
    budget also covers the trainings of its config with further seeds.

    `hours` returns the hours spent. Trials that are refused or repeat a config do not count in `num_started`.
    """

    def __init__(
        self, space: Space, hours: Callable[[], float], trials: Mapping[int, Trial], brackets: Brackets
    ) -> None:
        self.space, self.hours, self.trials, self.brackets = space, hours, trials, brackets
        self.running: dict[int, Trial] = {}
        self.epochs_spent = self.num_started = self.num_completed = 0
        self.seeds = space.settings.seeds
        self.num_repeats = Counter[int]()
        """The number of trials that repeat a trial's config with another seed."""
        self.peak_parallel = 0
        """The largest number of trials that ran at the same time."""
        self.space_exhausted = False
        """Whether no untried config is left."""
        self.is_finishing = False
        """Whether no trial starts any more, and the trials of the first fronts are trained in full without limits."""

    def add(self, trial: Trial) -> None:
        """Accounts for a trial that starts, or is restored from an earlier run."""
        self.num_started += trial.is_counted
        if trial.seed_of is not None:
            self.num_repeats[trial.seed_of] += 1
        self.set_state(trial, trial.state)

    def set_state(self, trial: Trial, state: TrialStatus) -> None:
        """Changes the state of a trial, and the counts that depend on it."""
        self.num_completed += (state == "complete") - (trial.state == "complete")
        trial.state = state
        if state == "running":
            self.running[trial.number] = trial
            self.peak_parallel = max(self.peak_parallel, len(self.running))
        else:
            self.running.pop(trial.number, None)

    @property
    def is_trials_only(self) -> bool:
        """Returns whether the budget limits the number of trials alone."""
        budget = self.space.budget
        return budget.trials is not None and budget.epochs_total is None and budget.hours is None

    @property
    def is_out_of_time(self) -> bool:
        """Returns whether the hours are spent."""
        budget = self.space.budget
        return not self.is_finishing and budget.hours is not None and self.hours() >= budget.hours

    def can_start_new(self) -> bool:
        """Returns whether the budget covers a new trial, and then full trainings of the best trials so far."""
        if self.is_finishing or self.is_out_of_time or self._all_started():
            return False
        if self.is_trials_only:
            return True
        number, remaining = len(self.trials), self.remaining()
        if not self.can_afford(number, 0, remaining):
            return False
        first_rung = self.brackets.bracket_of(number).next_rung(0)
        return remaining.epochs - first_rung >= self._reserved_for_best(remaining)

    def can_afford(self, number: int, epoch: int, remaining: Remaining) -> bool:
        """Returns whether a trial may be trained from `epoch` to its next rung."""
        next_rung = self.brackets.bracket_of(number).next_rung(epoch)
        if epoch and next_rung - epoch > remaining.max_increment:
            return False
        left = remaining.epochs - self._epochs_needed(epoch, next_rung)
        return left >= min(self._epochs_needed(next_rung, self.space.budget.epochs), remaining.to_completion)

    def to_repeat(self) -> Trial | None:
        """Returns the next trial whose config is trained with another seed; None if there is none or it is too late."""
        if self.seeds == 1 or self.is_finishing or self.is_out_of_time:
            return None
        left = self.remaining_epochs() - sum(self._target(trial) - trial.epoch for trial in self.running.values())
        return next(self._lacking_seeds(), None) if left >= self.space.budget.epochs else None

    def unsettled(self) -> set[int]:
        """Returns the trials whose configs have not been trained with all seeds yet."""
        repeats = (trial.seed_of for trial in self.running.values()) if self.seeds > 1 else ()
        lacking = (trial.number for trial in self._lacking_seeds())
        return {*lacking, *(number for number in repeats if number is not None)}

    def waiting(self) -> list[Trial]:
        """Returns the paused trials on the first fronts of their rungs."""
        ranks, paused = self.brackets.ranks(), (t for t in self.trials.values() if t.state == "paused")
        return [trial for trial in paused if ranks.get((trial.number, trial.epoch)) == 0]

    def resumable(self, remaining: Remaining) -> list[Trial]:
        """Returns the paused trials that `remaining` covers to their next rung."""
        return [trial for trial in self.trials.values() if self.can_resume(trial, remaining)]

    def can_resume(self, trial: Trial, remaining: Remaining) -> bool:
        return trial.state == "paused" and self.can_afford(trial.number, trial.epoch, remaining)

    def remaining(self, trial: Trial | None = None, epoch: int = 0) -> Remaining:
        """Returns the epochs that neither running trials nor trials still to be started need.

        A running `trial` is taken as paused at `epoch`.
        """
        if self.is_finishing:
            return Remaining(math.inf, 0, math.inf)
        released = 0 if trial is None else self._target(trial) - epoch
        left = self.remaining_epochs()
        free = left - self._committed() + released
        needs_completion = not self.num_completed and self.space.budget.hours is None  # hours give only an estimate
        return Remaining(free, self._to_completion() if needs_completion else 0, self._max_increment(left))

    def remaining_ignoring_pace(self) -> Remaining:
        """Returns what remains of a budget in epochs, without limits that follow from hours."""
        total = self.space.budget.epochs_total
        left = math.inf if total is None else total - self.epochs_spent
        return Remaining(left - self._committed(), 0, math.inf)

    def remaining_epochs(self) -> float:
        """Returns the unspent epochs; hours are converted by the pace so far."""
        budget, hours = self.space.budget, self.hours()
        left = math.inf if budget.epochs_total is None else budget.epochs_total - self.epochs_spent
        if budget.hours is not None and self.epochs_spent and hours > 0:
            left = min(left, self.epochs_spent * (budget.hours - hours) / hours)
        return left

    def _committed(self) -> int:
        """Returns the epochs that running trials need to their next rungs, and those of the further seeds."""
        repeats = (trial for trial in self.running.values() if trial.seed_of is not None)
        originals = (trial for trial in self.running.values() if trial.seed_of is None)
        epochs = sum(self._target(trial) - trial.epoch for trial in repeats)
        epochs += sum(self._epochs_needed(trial.epoch, self._target(trial)) for trial in originals)
        lacking = sum(self.seeds - 1 - self.num_repeats[trial.number] for trial in self._lacking_seeds())
        return epochs + lacking * self.space.budget.epochs

    def _epochs_needed(self, epoch: int, rung: int) -> int:
        """Returns the epochs to a rung; to a full training with those of the config's further seeds."""
        full = self.space.budget.epochs
        return rung - epoch + ((self.seeds - 1) * full if epoch < rung == full else 0)

    def _lacking_seeds(self) -> Iterator[Trial]:
        """Yields the trials that were trained in full, and not yet repeated with all further seeds."""
        for trial in self.trials.values() if self.seeds > 1 else ():
            is_original = trial.state == "complete" and trial.seed_of is None
            if is_original and self.num_repeats[trial.number] < self.seeds - 1:
                yield trial

    def _reserved_for_best(self, remaining: Remaining) -> int:
        """Returns the epochs to train the trials on the first front of a rung in full, as far as time allows."""
        best = [self.trials[number] for number in {n for (n, _), rank in self.brackets.ranks().items() if rank == 0}]
        reached, full = [self._reached(trial) for trial in best if trial.state in ALIVE], self.space.budget.epochs
        return sum(self._epochs_needed(epoch, full) for epoch in reached if full - epoch <= remaining.max_increment)

    def _to_completion(self) -> int:
        """Returns the epochs that the most advanced trial needs, from its next rung if it runs, to a full training."""
        reached = (self._reached(trial) for trial in self.trials.values() if trial.state in ALIVE)
        return self._epochs_needed(max(reached, default=0), self.space.budget.epochs)

    def _max_increment(self, left: float) -> float:
        """Returns the epochs that all workers could still train at once, plus the idle time allowed at the end."""
        if not self.num_completed or self.is_trials_only or self.space_exhausted or self._all_started():
            return math.inf
        return (left + MAX_IDLE_TRAININGS * self.epochs_spent / self.num_completed) / max(self.peak_parallel, 1)

    def _all_started(self) -> bool:
        trials = self.space.budget.trials
        return trials is not None and self.num_started >= trials

    def _reached(self, trial: Trial) -> int:
        """Returns the epoch at which a trial is paused, or to which it runs."""
        return self._target(trial) if trial.state == "running" else trial.epoch

    def _target(self, trial: Trial) -> int:
        """Returns the epoch to which a running trial is trained; a repeat with another seed is trained in full."""
        is_repeat = trial.seed_of is not None
        return self.space.budget.epochs if is_repeat else self.brackets.bracket_of(trial.number).next_rung(trial.epoch)
