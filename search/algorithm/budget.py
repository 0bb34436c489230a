"""What a search may still spend: the epochs that its budget has left, and what those that run or wait will need."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from search.algorithm.rungs import Brackets
from search.algorithm.trial import ALIVE, Trial
from search.space.space import Space

MAX_IDLE = 2.0
"""Full trainings, at what one has cost so far, that idle workers may waste all together while the last stretch runs."""


@dataclass(frozen=True)
class Remaining:
    """What the budget has at a moment.

    `free` epochs, those of them kept so that some trial comes to its `end`, and the epochs that one stretch may still
    take in `time`.
    """

    free: float
    end: float
    time: float


@dataclass
class Budget:
    """The budget of one search.

    `hours` tells how long it has run; `running` are those of the `records` that are being trained; `spent` are the
    epochs trained, of all trials; `opened` are the trials that count against a budget in trials: not those refused, nor
    further seeds; `completed` are those trained in full.

    As long as none is, and unless the budget is in hours, a stretch begins only where what is left then still carries
    some trial to its end; otherwise many workers would share out a small budget, and no trial would have a final value.
    Once one is, and as long as new trials may still be opened instead, none goes on that would keep many waiting
    at the end. `peak` is the number of trials that ran together at most; `exhausted` says that no config is left.
    """

    space: Space
    hours: Callable[[], float]
    trials: Mapping[int, Trial]
    running: Mapping[int, Trial]
    brackets: Brackets
    epochs_spent: int = 0
    num_started: int = 0
    num_completed: int = 0
    peak_parallel: int = 0
    space_exhausted: bool = False

    @property
    def is_trials_only(self) -> bool:
        """Returns whether the number of trials is all that the budget says."""
        budget = self.space.budget
        return budget.trials is not None and budget.epochs_total is None and budget.hours is None

    @property
    def is_out_of_time(self) -> bool:
        """Returns whether the hours are over."""
        budget = self.space.budget
        return budget.hours is not None and self.hours() >= budget.hours

    def can_start_new(self) -> bool:
        """Returns whether there is enough for a new trial, and to train the best so far in full."""
        if self.is_out_of_time or self._has_started_all_trials():
            return False
        if self.is_trials_only:
            return True
        number, room = len(self.trials), self.remaining()
        return self.can_afford(number, 0, room) and room.free - self.epochs_to_next_rung(number, 0) >= self.reserved(
            room
        )

    def remaining_ignoring_pace(self) -> Remaining:
        """Returns what there is where the pace so far is not believed: all of a budget in epochs, if there is one."""
        total = self.space.budget.epochs_total
        return Remaining(math.inf if total is None else total - self.epochs_spent - self.committed(), 0, math.inf)

    def epochs_to_next_rung(self, number: int, epoch: int) -> int:
        """Returns the epochs of a trial from `epoch` to its next goal, a rung of successive halving or the end."""
        return self._next_milestone(self.brackets.bracket_of(number).goals, epoch) - epoch

    def can_afford(self, number: int, epoch: int, room: Remaining) -> bool:
        """Returns whether a trial has room from `epoch` to its next goal, and some trial then has room to its end."""
        needed = self.epochs_to_next_rung(number, epoch)
        is_kept = room.free - needed >= min(self.space.budget.epochs - epoch - needed, room.end)
        return needed <= room.free and is_kept and (not epoch or needed <= room.time)

    def remaining(self, record: Trial | None = None, epoch: int = 0) -> Remaining:
        """Returns what neither running trials nor trials still to be opened will need.

        Where a running trial is given, it is what there will be once it is trained to `epoch`, its own need left out.
        """
        own = 0 if record is None else self._target(record) - epoch
        left = self.remaining_epochs()
        free = left - self.committed() - self._reserved_for_new() + own
        is_kept = not self.num_completed and self.space.budget.hours is None  # by the hours, what is left is a guess
        return Remaining(free, self._nearest_end() if is_kept else 0, self._time_limit(left))

    def remaining_epochs(self) -> float:
        """Returns the epochs that the budget still has, by the pace so far where it is in hours."""
        budget, hours = self.space.budget, self.hours()
        if self.is_trials_only and self.space.settings.scheduler.mode == "promote":
            planned = self._halving_cost() - self.epochs_spent
            if self.num_completed:
                return planned
            needed = self.committed() + self._reserved_for_new() + self._nearest_end()
            return max(planned, min(needed, planned + self.space.budget.epochs))
        left = math.inf if budget.epochs_total is None else budget.epochs_total - self.epochs_spent
        if budget.hours is not None and self.epochs_spent and hours > 0:
            left = min(left, self.epochs_spent * (budget.hours - hours) / hours)
        return left

    def committed(self) -> int:
        """Returns the epochs that running trials need to their next goals."""
        return sum(self._target(record) - record.epoch for record in self.running.values())

    def reserved(self, room: Remaining) -> int:
        """Returns the epochs that it takes to train in full whoever is on the first fronts of a rung, and has time."""
        total = 0
        rungs = [rung for bracket in self.brackets for rung in bracket.rungs.values()]
        for number in {number for rung in rungs for number in rung.ranks()}:
            record = self.trials[number]
            if record.state in ALIVE:
                needed = self.space.budget.epochs - self._reaches(record)
                total += needed if needed <= room.time else 0
        return total

    def _nearest_end(self) -> int:
        """Returns the fewest epochs that a trial still lacks to its end from where it waits, or to where it runs."""
        done = (self._reaches(record) for record in self.trials.values() if record.state in ALIVE)
        return self.space.budget.epochs - max(done, default=0)

    def _time_limit(self, left: float) -> float:
        """Returns the epochs that a stretch may take: to where all workers would end together, and somewhat beyond.

        Beyond it they wait for one; what they then waste, all together, is to stay below what `WORTH_WAITING` full
        trainings have cost so far.
        """
        if not self.num_completed or self.is_trials_only or self.space_exhausted or self._has_started_all_trials():
            return math.inf
        return (left + MAX_IDLE * self.epochs_spent / self.num_completed) / max(self.peak_parallel, 1)

    def _has_started_all_trials(self) -> bool:
        trials = self.space.budget.trials
        return trials is not None and self.num_started >= trials

    def _reaches(self, record: Trial) -> int:
        """Returns the epoch where a trial waits, or to which it runs."""
        return self._target(record) if record.state == "running" else record.epoch

    def _target(self, record: Trial) -> int:
        """Returns the epoch of a running trial's next goal."""
        goals = self.brackets.bracket_of(record.number).goals if record.seed_of is None else []
        return self._next_milestone(goals, record.epoch)

    def _next_milestone(self, goals: Sequence[int], epoch: int) -> int:
        """Returns the first of the goals above `epoch`, or the last epoch of a full training."""
        return next((goal for goal in goals if goal > epoch), self.space.budget.epochs)

    def _halving_cost(self) -> int:
        """Returns the epochs that successive halving spends on so many trials: a budget in trials stands for these."""
        steps = [0, *self.brackets.first.goals, self.space.budget.epochs]
        count, total = self.space.budget.trials or 0, 0
        for before, level in itertools.pairwise(steps):
            total += count * (level - before)
            count = math.ceil(count / self.brackets.first.factor)
        return total

    def _reserved_for_new(self) -> int:
        """Returns the epochs kept for the first rung of trials that a budget in trials still has to open."""
        if not self.is_trials_only:
            return 0
        return max((self.space.budget.trials or 0) - self.num_started, 0) * self._next_milestone(
            self.brackets.first.goals, 0
        )
