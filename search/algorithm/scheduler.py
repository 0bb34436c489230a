"""The policy of a search: which config comes next, who goes on, who waits. Pure: Ray and the simulator run the same.

`ask` gives the next job, `report` and `fail` take what came of it. Nothing here reads a clock, a file or a generator's
state, so the same answers in the same order lead to the same decisions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from config.errors import ConfigError, InfeasibleError
from search.algorithm import moasha, samplers
from search.algorithm.acquisition import Acquisition, Candidate
from search.algorithm.budget import Budget, Remaining
from search.algorithm.candidates import CandidateGenerator
from search.algorithm.rungs import Brackets
from search.algorithm.samplers import Suggestion
from search.algorithm.trial import Assignment, Trial, TrialStatus
from search.space import objectives
from search.space.feasibility import check_constraints
from search.space.space import Space

if TYPE_CHECKING:
    from trainers.epoch_metrics import EpochMetrics

Decision = Literal["continue", "pause", "stop", "complete"]
STATE_AFTER: Mapping[Decision, TrialStatus] = {"pause": "paused", "stop": "stopped", "complete": "complete"}

MAX_REFUSED_IN_A_ROW = 200
"""Draws that are refused, after which there seems to be nothing left to train."""
MAX_REFUSED_BY_SAMPLER = 20
"""Draws of a sampler that may be refused in a row; those after them are even over the space, whatever was seen."""
MAX_SAME_FAILURES = 5
"""This many failures of a kind that a config does not explain, in a row and alike, stop the search."""
NUMBER_PATTERN = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class NothingFeasibleError(ConfigError):
    """Every config that was drawn was refused."""


class TrialScheduler:
    """Decides for one search. `hours` tells how long it has run, for a budget in hours."""

    def __init__(self, space: Space, hours: Callable[[], float] = lambda: 0.0) -> None:
        self.space = space
        self.trials: dict[int, Trial] = {}
        self.running: dict[int, Trial] = {}
        self.resumable: list[int] = []
        self.brackets = Brackets(space)
        self.budget = Budget(space, hours, self.trials, self.running, self.brackets)
        self.acquisition = Acquisition(space)
        self.candidates = CandidateGenerator(space, self.trials, self.brackets.first, self.acquisition.similarity)
        self._recent_failures: list[str] = []

    def suggest(self) -> Assignment | None:
        """Returns the next job: a trial that was left unfinished, one that may go on, or a new one; None for none now.

        Raises NothingFeasibleError where every config is refused.
        """
        if not self.resumable and self._uses_acquisition():
            number = self._select_by_acquisition()
        else:
            number = self.resumable.pop(0) if self.resumable else self._next_promotable()
        if number is None and self.can_start_new():
            number = self._start_new()
        if number is None:
            number = self._start_with_remaining()
        if number is None:
            number = self._next_ignoring_pace()
        return None if number is None else self._assignment(number)

    def prepare(self) -> None:
        """Begins to learn what the next `ask` would learn first, and decides nothing by it."""
        if self._uses_acquisition():
            self.acquisition.prefit(self.trials)

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        """Takes in what a trial measured after an epoch and returns whether it goes on."""
        outcome = self.decide(number, report)
        self.commit(number, report, outcome)
        return outcome

    def decide(self, number: int, report: EpochMetrics) -> Decision:
        """Returns what `report` will decide, and changes nothing else than the rung that the trial has reached."""
        record = self.trials[number]
        if report.epoch >= self.space.budget.epochs:
            return "complete"
        bracket = self.brackets.bracket_of(record.number)
        if record.seed_of is not None or report.epoch not in bracket.rungs:
            return "continue"
        point = objectives.point(self.space, report.at_step, minimise=True)
        bracket.add(report.epoch, number, point, at_chance=self._is_at_chance(report))
        is_carried = self.budget.can_afford(number, report.epoch, self.budget.remaining(record, report.epoch))
        if self.space.settings.scheduler.mode == "stop":
            return "continue" if is_carried and bracket.survives(report.epoch, number) else "stop"
        return "continue" if is_carried and bracket.may_continue(report.epoch, number) else "pause"

    def commit(self, number: int, report: EpochMetrics, outcome: Decision) -> None:
        """Notes an epoch and what was decided on it."""
        record = self.trials[number]
        self.budget.epochs_spent += report.epoch not in record.epochs
        record.epochs[report.epoch] = report.at_step
        if outcome == "complete":
            record.read_outs = report.read_outs
        if report.is_at_chance:
            record.at_chance.add(report.epoch)
        bracket = self.brackets.bracket_of(record.number)
        if report.epoch in bracket.rungs and record.seed_of is None:
            point = objectives.point(self.space, report.at_step, minimise=True)
            bracket.add(report.epoch, number, point, at_chance=self._is_at_chance(report))
            if outcome == "continue":
                bracket.rungs[report.epoch].promoted.add(number)
        if outcome in ("stop", "complete") and report.is_at_chance:
            self.on_error(number, "at_chance", at_chance_reason(report.metrics))
        elif outcome != "continue":
            self._set_state(record, STATE_AFTER[outcome])
            self._recent_failures.clear()

    def on_error(self, number: int, kind: str, reason: str) -> None:
        """Notes that a trial failed: it is no rival of the others any more."""
        record = self.trials[number]
        self._set_state(record, "failed")
        record.failure_class, record.reason = kind, reason
        self.budget.epochs_spent += kind != "at_chance"  # the epoch that it did not come to the end of
        self.brackets.bracket_of(record.number).remove(number)
        self._recent_failures = [*self._recent_failures, f"{kind}: {reason}"] if kind in ("error", "killed") else []

    def on_stop(self, number: int) -> None:
        """Notes that a trial was ended for a reason that is no decision of a rung."""
        self._set_state(self.trials[number], "stopped")
        if number in self.resumable:
            self.resumable.remove(number)
        self._recent_failures.clear()

    def restore(self, record: Trial) -> None:
        """Takes in a trial of an earlier run, as the study holds it, with its epochs still to be recorded."""
        self._add(record)
        self.candidates.add_known(record)
        self.budget.space_exhausted |= len(self.candidates.known) >= self.space.size()

    def on_restart(self, peak: int) -> None:
        """Forgets, at a new start, which trials failed alike; `peak` ran together at most so far, 0 to count anew."""
        self._recent_failures.clear()
        self.budget.peak_parallel = max(peak, len(self.running)) if peak else 0

    def is_finished(self) -> bool:
        """Returns whether there is nothing left to run, now and whatever the running trials report."""
        if self.running or self.resumable or self.can_start_new():
            return False
        waits = (
            bool(self._resumable_within(self.budget.remaining()))
            if self._uses_acquisition()
            else self._next_promotable() is not None
        )
        return not waits and self._next_with_remaining() is None and self._next_ignoring_pace() is None

    def can_start_new(self) -> bool:
        """Returns whether a new trial may start."""
        if self.repeated_failure() is not None or (
            self.budget.space_exhausted and self.candidates.next_queued() is None
        ):
            return False
        return self.budget.can_start_new()

    def repeated_failure(self) -> str | None:
        """Returns the reason when the last trials all failed in the same way, which no further trial would mend."""
        last = self._recent_failures[-MAX_SAME_FAILURES:]
        return last[0] if len(last) == MAX_SAME_FAILURES and len(set(map(_signature, last))) == 1 else None

    def promote(self, number: int, level: int) -> None:
        """Lets a trial that waits at a rung go on from there."""
        record = self.trials[number]
        self.brackets.bracket_of(record.number).rungs[level].promoted.add(number)
        self._set_state(record, "running")

    def _add(self, record: Trial) -> None:
        """Adds a trial, which runs unless it was refused."""
        self.trials[record.number] = record
        self._set_state(record, record.state)
        self.budget.num_started += record.infeasible is None and record.seed_of is None

    def _set_state(self, record: Trial, state: TrialStatus) -> None:
        self.budget.num_completed += (state == "complete") - (record.state == "complete")
        record.state = state
        if state == "running":
            self.running[record.number] = record
            self.budget.peak_parallel = max(self.budget.peak_parallel, len(self.running))
        else:
            self.running.pop(record.number, None)

    def _assignment(self, number: int) -> Assignment:
        record = self.trials[number]
        waited = record.state == "paused"
        if waited:
            self.promote(number, record.epoch)
        return Assignment(number, record.suggestion.values, record.epoch, record.seed_of, waited)

    def _next_promotable(self) -> int | None:
        """Returns the next trial that may go on from its rung: from the highest level, the best there."""
        if (
            self.space.settings.scheduler.mode == "stop"
            or self.repeated_failure() is not None
            or self.budget.is_out_of_time
        ):
            return None
        found = sorted((pair for bracket in self.brackets for pair in bracket.promotable()), key=lambda pair: -pair[0])
        if not found:
            return None
        room = self.budget.remaining()
        waiting = (number for level, number in found if self._can_resume(self.trials[number], room, level))
        return next(waiting, None)

    def _uses_acquisition(self) -> bool:
        is_over = self.repeated_failure() is not None or self.budget.is_out_of_time
        return self.space.uses_acquisition() and not is_over and self.acquisition.is_ready(self.trials)

    def _select_by_acquisition(self) -> int | None:
        """Returns the most promising of the trials that may go on and of new configs; None where there is neither."""
        seed = samplers.derive_seed(self.space.settings.seed, len(self.trials), -4)
        options = [
            Candidate(r.suggestion.values, r.number, r.epoch) for r in self._resumable_within(self.budget.remaining())
        ]
        if self.can_start_new():
            queued = self.candidates.next_queued()
            if queued is not None:
                return self._start_new(queued)
            options += self.acquisition.pool(self.candidates.known, self.candidates.centers(), seed)
        if not options:
            return None
        recipes = [values for _, values in self.candidates.initial]
        chosen = self.acquisition.select(self.trials, options, seed, recipes, self.candidates.prior_probability())
        if chosen.number >= 0:
            return chosen.number
        return self._start_new((samplers.as_suggestion(self.space, chosen.values), chosen.source))

    def _resumable_within(self, room: Remaining) -> list[Trial]:
        """Returns the trials that are on hold and that have room to their next goal."""
        return [record for record in self.trials.values() if self._can_resume(record, room, record.epoch)]

    def _can_resume(self, record: Trial, room: Remaining, level: int) -> bool:
        """Returns whether a trial is on hold at a level and there is room for it to go on."""
        return record.state == "paused" and record.epoch == level and self.budget.can_afford(record.number, level, room)

    def _start_with_remaining(self) -> int | None:
        """Returns a trial that goes on, or a further seed, where no new trial may start."""
        found = self._next_with_remaining()
        if found is None:
            return None
        record = self.trials[found]
        return found if record.state == "paused" else self._start_seed_repeat(record)

    def _next_with_remaining(self) -> int | None:
        if self.repeated_failure() is not None or self.budget.is_out_of_time:
            return None
        return None if math.isinf(self.budget.remaining_epochs()) else self._best_use_of_remaining()

    def _best_use_of_remaining(self) -> int | None:
        """Returns whom to train with what is left of a budget in epochs or hours: the next best, then further seeds."""
        room = self.budget.remaining()
        waiting, ranks = self._resumable_within(room), self._ranks()
        places = [(ranks[r.number, r.epoch], -r.epoch, r.number) for r in waiting if (r.number, r.epoch) in ranks]
        if places:
            return min(places)[2]
        if not self.budget.num_completed and waiting:  # no better than a guess, so far
            return min(waiting, key=lambda record: (-record.epoch, record.number)).number
        too_little = min(room.free, room.time) < self.space.budget.epochs
        if self.budget.is_trials_only or too_little or "seed" in self.space.searched_keys():
            return None
        full = {
            record.number: objectives.point(self.space, record.epochs[self.space.budget.epochs], minimise=True)
            for record in self.trials.values()
            if record.state == "complete" and record.seed_of is None and not self._violates_constraints(record)
        }
        if not full:
            return None
        seeds = dict.fromkeys(sorted(moasha.front(full)), 0)
        for record in self.trials.values():
            if record.seed_of in seeds:
                seeds[record.seed_of] += 1
        return min(seeds, key=lambda number: (seeds[number], number))

    def _next_ignoring_pace(self) -> int | None:
        """Returns who goes on where hours are left, and by the pace so far, which may mislead, nothing could run."""
        if (
            self.running
            or self.repeated_failure() is not None
            or self.space.budget.hours is None
            or self.budget.is_out_of_time
        ):
            return None
        ranks = self._ranks()
        places = [
            (ranks.get((r.number, r.epoch), math.inf), r.number)
            for r in self._resumable_within(self.budget.remaining_ignoring_pace())
        ]
        return min(places)[1] if places else None

    def _ranks(self) -> dict[tuple[int, int], int]:
        """Returns the rank of each trial on the first fronts of a rung, by its number and the rung's epoch."""
        return {
            (number, level): rank
            for bracket in self.brackets
            for level, rung in bracket.rungs.items()
            for number, rank in rung.ranks().items()
        }

    def _violates_constraints(self, record: Trial) -> bool:
        last = record.epochs[self.space.budget.epochs]
        return any(amount > 0 for amount in objectives.violations(self.space, last).values())

    def _start_seed_repeat(self, record: Trial) -> int:
        others = sum(other.seed_of == record.number for other in self.trials.values())
        config = {**record.config, "seed": int(record.config["seed"]) + others + 1}
        again = Trial(len(self.trials), record.suggestion, config, source=f"seed of t{record.number:04d}")
        again.seed_of = record.number
        self._add(again)
        return again.number

    def _start_new(self, first: tuple[Suggestion, str] | None = None) -> int | None:
        """Opens a trial: of `first`, or of the next draw where that is refused. None where the space is exhausted."""
        for refused in range(MAX_REFUSED_IN_A_ROW):
            found, first = first or self.candidates.next(evenly=refused >= MAX_REFUSED_BY_SAMPLER), None
            if found is None:
                self.budget.space_exhausted = True
                return None
            draw, source = found
            try:
                config = self.space.train_config(draw.values)
                check_constraints(config, self.space.settings.constraints)
            except InfeasibleError as error:
                record = Trial(len(self.trials), draw, {**self.space.base, **draw.values}, source=source)
                record.state, record.failure_class, record.infeasible = "failed", "infeasible", str(error)
                self.restore(record)
                if self.space.settings.scheduler.brackets > 1 and not self.can_start_new():
                    return None  # the next number may be of a bracket with a longer way to its first rung
                continue
            self.restore(Trial(len(self.trials), draw, config.dump(), source=source))
            self.candidates.prefetch_next()
            return len(self.trials) - 1
        if all(record.infeasible is not None for record in self.trials.values()):
            raise NothingFeasibleError(
                f"{MAX_REFUSED_IN_A_ROW} configs in a row were refused; widen space or constraints"
            )
        self.budget.space_exhausted = True
        return None

    def _is_at_chance(self, report: EpochMetrics) -> bool:
        return report.is_at_chance and "accuracy" in self.space.objectives


def _signature(reason: str) -> str:
    """Returns what a reason has in common with that of another config: all but its numbers."""
    return NUMBER_PATTERN.sub("#", reason)


def at_chance_reason(metrics: Mapping[str, float]) -> str:
    """Returns the reason of a trial that fails as at_chance."""
    return f"accuracy {metrics['accuracy']:.2f} % is no better than a guess"
