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
from search.algorithm.acquisition import Guide, Option
from search.algorithm.budget import Purse, Room
from search.algorithm.candidates import Draws
from search.algorithm.rungs import Brackets
from search.algorithm.samplers import Draw
from search.algorithm.trial import Job, Record, State
from search.space import objectives
from search.space.feasibility import refuse
from search.space.space import Space

if TYPE_CHECKING:
    from trainers.epoch_metrics import EpochMetrics

Outcome = Literal["continue", "pause", "stop", "complete"]
AFTER: Mapping[Outcome, State] = {"pause": "paused", "stop": "stopped", "complete": "complete"}

MAX_REFUSED_IN_A_ROW = 200
"""Draws that are refused, after which there seems to be nothing left to train."""
REFUSED_BY_SAMPLER = 20
"""Draws of a sampler that may be refused in a row; those after them are even over the space, whatever was seen."""
SAME_FAILURES = 5
"""This many failures of a kind that a config does not explain, in a row and alike, stop the search."""
NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class NothingFeasibleError(ConfigError):
    """Every config that was drawn was refused."""


class Policy:
    """Decides for one search. `hours` tells how long it has run, for a budget in hours."""

    def __init__(self, space: Space, hours: Callable[[], float] = lambda: 0.0) -> None:
        self.space = space
        self.records: dict[int, Record] = {}
        self.running: dict[int, Record] = {}
        self.resumable: list[int] = []
        self.brackets = Brackets(space)
        self.purse = Purse(space, hours, self.records, self.running, self.brackets)
        self.guide = Guide(space)
        self.draws = Draws(space, self.records, self.brackets.first, self.guide.near)
        self._alike: list[str] = []

    def ask(self) -> Job | None:
        """Returns the next job: a trial that was left unfinished, one that may go on, or a new one; None for none now.

        Raises NothingFeasibleError where every config is refused.
        """
        if not self.resumable and self._is_guided():
            number = self._guided()
        else:
            number = self.resumable.pop(0) if self.resumable else self._promotable()
        if number is None and self.may_open():
            number = self._open()
        if number is None:
            number = self._leftover()
        if number is None:
            number = self._before_late()
        return None if number is None else self._job(number)

    def prepare(self) -> None:
        """Begins to learn what the next `ask` would learn first, and decides nothing by it."""
        if self._is_guided():
            self.guide.prepare(self.records)

    def report(self, number: int, report: EpochMetrics) -> Outcome:
        """Takes in what a trial measured after an epoch and returns whether it goes on."""
        outcome = self.judge(number, report)
        self.record(number, report, outcome)
        return outcome

    def judge(self, number: int, report: EpochMetrics) -> Outcome:
        """Returns what `report` will decide, and changes nothing else than the rung that the trial has reached."""
        record = self.records[number]
        if report.epoch >= self.space.budget.epochs:
            return "complete"
        bracket = self.brackets.of(record.number)
        if record.seed_of is not None or report.epoch not in bracket.rungs:
            return "continue"
        point = objectives.point(self.space, report.at_step, minimise=True)
        bracket.enter(report.epoch, number, point, at_chance=self._is_at_chance(report))
        is_carried = self.purse.carries(number, report.epoch, self.purse.room(record, report.epoch))
        if self.space.settings.scheduler.mode == "stop":
            return "continue" if is_carried and bracket.survives(report.epoch, number) else "stop"
        return "continue" if is_carried and bracket.goes_on(report.epoch, number) else "pause"

    def record(self, number: int, report: EpochMetrics, outcome: Outcome) -> None:
        """Notes an epoch and what was decided on it."""
        record = self.records[number]
        self.purse.spent += report.epoch not in record.epochs
        record.epochs[report.epoch] = report.at_step
        if outcome == "complete":
            record.read_outs = report.read_outs
        if report.is_at_chance:
            record.at_chance.add(report.epoch)
        bracket = self.brackets.of(record.number)
        if report.epoch in bracket.rungs and record.seed_of is None:
            point = objectives.point(self.space, report.at_step, minimise=True)
            bracket.enter(report.epoch, number, point, at_chance=self._is_at_chance(report))
            if outcome == "continue":
                bracket.rungs[report.epoch].passed.add(number)
        if outcome in ("stop", "complete") and report.is_at_chance:
            self.fail(number, "at_chance", chance_sentence(report.metrics))
        elif outcome != "continue":
            self._turn(record, AFTER[outcome])
            self._alike.clear()

    def fail(self, number: int, kind: str, reason: str) -> None:
        """Notes that a trial failed: it is no rival of the others any more."""
        record = self.records[number]
        self._turn(record, "failed")
        record.failure, record.reason = kind, reason
        self.purse.spent += kind != "at_chance"  # the epoch that it did not come to the end of
        self.brackets.of(record.number).leave(number)
        self._alike = [*self._alike, f"{kind}: {reason}"] if kind in ("error", "killed") else []

    def stop(self, number: int) -> None:
        """Notes that a trial was ended for a reason that is no decision of a rung."""
        self._turn(self.records[number], "stopped")
        if number in self.resumable:
            self.resumable.remove(number)
        self._alike.clear()

    def remember(self, record: Record) -> None:
        """Takes in a trial of an earlier run, as the study holds it, with its epochs still to be recorded."""
        self._take(record)
        self.draws.note(record)
        self.purse.exhausted |= len(self.draws.known) >= self.space.size()

    def begin_anew(self, peak: int) -> None:
        """Forgets, at a new start, which trials failed alike; `peak` ran together at most so far, 0 to count anew."""
        self._alike.clear()
        self.purse.peak = max(peak, len(self.running)) if peak else 0

    def is_over(self) -> bool:
        """Returns whether there is nothing left to run, now and whatever the running trials report."""
        if self.running or self.resumable or self.may_open():
            return False
        waits = bool(self._waiting(self.purse.room())) if self._is_guided() else self._promotable() is not None
        return not waits and self._leftover_next() is None and self._before_late() is None

    def may_open(self) -> bool:
        """Returns whether a new trial may start."""
        if self.broken() is not None or (self.purse.exhausted and self.draws.queued() is None):
            return False
        return self.purse.opens()

    def broken(self) -> str | None:
        """Returns the reason when the last trials all failed in the same way, which no further trial would mend."""
        last = self._alike[-SAME_FAILURES:]
        return last[0] if len(last) == SAME_FAILURES and len(set(map(_signature, last))) == 1 else None

    def promote(self, number: int, level: int) -> None:
        """Lets a trial that waits at a rung go on from there."""
        record = self.records[number]
        self.brackets.of(record.number).rungs[level].passed.add(number)
        self._turn(record, "running")

    def _take(self, record: Record) -> None:
        """Adds a trial, which runs unless it was refused."""
        self.records[record.number] = record
        self._turn(record, record.state)
        self.purse.opened += record.refused is None and record.seed_of is None

    def _turn(self, record: Record, state: State) -> None:
        self.purse.completed += (state == "complete") - (record.state == "complete")
        record.state = state
        if state == "running":
            self.running[record.number] = record
            self.purse.peak = max(self.purse.peak, len(self.running))
        else:
            self.running.pop(record.number, None)

    def _job(self, number: int) -> Job:
        record = self.records[number]
        waited = record.state == "paused"
        if waited:
            self.promote(number, record.epoch)
        return Job(number, record.draw.values, record.epoch, record.seed_of, waited)

    def _promotable(self) -> int | None:
        """Returns the next trial that may go on from its rung: from the highest level, the best there."""
        if self.space.settings.scheduler.mode == "stop" or self.broken() is not None or self.purse.is_late:
            return None
        found = sorted((pair for bracket in self.brackets for pair in bracket.promotable()), key=lambda pair: -pair[0])
        if not found:
            return None
        room = self.purse.room()
        waiting = (number for level, number in found if self._waits(self.records[number], room, level))
        return next(waiting, None)

    def _is_guided(self) -> bool:
        is_over = self.broken() is not None or self.purse.is_late
        return self.space.is_guided() and not is_over and self.guide.is_ready(self.records)

    def _guided(self) -> int | None:
        """Returns the most promising of the trials that may go on and of new configs; None where there is neither."""
        seed = samplers.draw_seed(self.space.settings.seed, len(self.records), -4)
        options = [Option(r.draw.values, r.number, r.epoch) for r in self._waiting(self.purse.room())]
        if self.may_open():
            queued = self.draws.queued()
            if queued is not None:
                return self._open(queued)
            options += self.guide.pool(self.draws.known, self.draws.centers(), seed)
        if not options:
            return None
        recipes = [values for _, values in self.draws.recipes]
        chosen = self.guide.best(self.records, options, seed, recipes, self.draws.odds())
        if chosen.number >= 0:
            return chosen.number
        return self._open((samplers.fixed(self.space, chosen.values), chosen.source))

    def _waiting(self, room: Room) -> list[Record]:
        """Returns the trials that are on hold and that have room to their next goal."""
        return [record for record in self.records.values() if self._waits(record, room, record.epoch)]

    def _waits(self, record: Record, room: Room, level: int) -> bool:
        """Returns whether a trial is on hold at a level and there is room for it to go on."""
        return record.state == "paused" and record.epoch == level and self.purse.carries(record.number, level, room)

    def _leftover(self) -> int | None:
        """Returns a trial that goes on, or a further seed, where no new trial may start."""
        found = self._leftover_next()
        if found is None:
            return None
        record = self.records[found]
        return found if record.state == "paused" else self._open_seed(record)

    def _leftover_next(self) -> int | None:
        if self.broken() is not None or self.purse.is_late:
            return None
        return None if math.isinf(self.purse.left()) else self._spending()

    def _spending(self) -> int | None:
        """Returns whom to train with what is left of a budget in epochs or hours: the next best, then further seeds."""
        room = self.purse.room()
        waiting, ranks = self._waiting(room), self._ranks()
        places = [(ranks[r.number, r.epoch], -r.epoch, r.number) for r in waiting if (r.number, r.epoch) in ranks]
        if places:
            return min(places)[2]
        if not self.purse.completed and waiting:  # no better than a guess, so far
            return min(waiting, key=lambda record: (-record.epoch, record.number)).number
        too_little = min(room.free, room.time) < self.space.budget.epochs
        if self.purse.counts_trials or too_little or "seed" in self.space.searched():
            return None
        full = {
            record.number: objectives.point(self.space, record.epochs[self.space.budget.epochs], minimise=True)
            for record in self.records.values()
            if record.state == "complete" and record.seed_of is None and not self._breaks_bounds(record)
        }
        if not full:
            return None
        seeds = dict.fromkeys(sorted(moasha.front(full)), 0)
        for record in self.records.values():
            if record.seed_of in seeds:
                seeds[record.seed_of] += 1
        return min(seeds, key=lambda number: (seeds[number], number))

    def _before_late(self) -> int | None:
        """Returns who goes on where hours are left, and by the pace so far, which may mislead, nothing could run."""
        if self.running or self.broken() is not None or self.space.budget.hours is None or self.purse.is_late:
            return None
        ranks = self._ranks()
        places = [(ranks.get((r.number, r.epoch), math.inf), r.number) for r in self._waiting(self.purse.rest())]
        return min(places)[1] if places else None

    def _ranks(self) -> dict[tuple[int, int], int]:
        """Returns the rank of each trial on the first fronts of a rung, by its number and the rung's epoch."""
        return {
            (number, level): rank
            for bracket in self.brackets
            for level, rung in bracket.rungs.items()
            for number, rank in rung.ranks().items()
        }

    def _breaks_bounds(self, record: Record) -> bool:
        last = record.epochs[self.space.budget.epochs]
        return any(amount > 0 for amount in objectives.violations(self.space, last).values())

    def _open_seed(self, record: Record) -> int:
        others = sum(other.seed_of == record.number for other in self.records.values())
        config = {**record.config, "seed": int(record.config["seed"]) + others + 1}
        again = Record(len(self.records), record.draw, config, source=f"seed of t{record.number:04d}")
        again.seed_of = record.number
        self._take(again)
        return again.number

    def _open(self, first: tuple[Draw, str] | None = None) -> int | None:
        """Opens a trial: of `first`, or of the next draw where that is refused. None where the space is exhausted."""
        for refused in range(MAX_REFUSED_IN_A_ROW):
            found, first = first or self.draws.next(evenly=refused >= REFUSED_BY_SAMPLER), None
            if found is None:
                self.purse.exhausted = True
                return None
            draw, source = found
            try:
                config = self.space.config(draw.values)
                refuse(config, self.space.settings.constraints)
            except InfeasibleError as error:
                record = Record(len(self.records), draw, {**self.space.base, **draw.values}, source=source)
                record.state, record.failure, record.refused = "failed", "infeasible", str(error)
                self.remember(record)
                if self.space.settings.scheduler.brackets > 1 and not self.may_open():
                    return None  # the next number may be of a bracket with a longer way to its first rung
                continue
            self.remember(Record(len(self.records), draw, config.dump(), source=source))
            self.draws.begin_next()
            return len(self.records) - 1
        if all(record.refused is not None for record in self.records.values()):
            raise NothingFeasibleError(
                f"{MAX_REFUSED_IN_A_ROW} configs in a row were refused; widen space or constraints"
            )
        self.purse.exhausted = True
        return None

    def _is_at_chance(self, report: EpochMetrics) -> bool:
        return report.is_at_chance and "accuracy" in self.space.objectives


def _signature(reason: str) -> str:
    """Returns what a reason has in common with that of another config: all but its numbers."""
    return NUMBER.sub("#", reason)


def chance_sentence(metrics: Mapping[str, float]) -> str:
    """Returns the reason of a trial that fails as at_chance."""
    return f"accuracy {metrics['accuracy']:.2f} % is no better than a guess"
