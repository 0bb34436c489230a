"""Discrete-event simulation of a search on recorded learning curves, with any number of workers. Pure.

Randomness is keyed: hashes of the run and the subject decide which seed's curve a config shows, how fast a worker is
and in which epoch a process crashes. All schedulers therefore run under the same conditions.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, Protocol

from search.algorithm.trial import Assignment, Decision
from search.simulation.recorded_curves import Curve
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

MAX_RESTARTS = 3
"""Restarts of a trial whose process crashed, as in a real search."""

EventType = Literal["start", "resume", "epoch", "stop", "pause", "complete", "fail", "crash", "cut"]


class Scheduler(Protocol):
    """A trial scheduler as the simulator calls it; it observes what a real one does, and nothing else of the table."""

    def suggest(self) -> Assignment | None:
        """Returns a trial to start or to resume, or None if there is none now; called again after any event."""

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        """Decides after each epoch; a paused trial frees its worker and may be resumed by `suggest`."""

    def on_error(self, number: int, failure_class: str, reason: str) -> None: ...


class CurveTable(Protocol):
    """Learning curves of numbered configs: a recorded table, or the trials of a study."""

    @property
    def space(self) -> Space: ...

    @property
    def configs(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def epochs(self) -> int: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    def index(self, values: Mapping[str, Any]) -> int: ...

    def curve(self, index: int, seed_position: int) -> Curve: ...


@dataclass(frozen=True)
class SimulatedCluster:
    """Workers of a simulated search; delays are in epochs of the delayed trial."""

    workers: int = 8
    speed_spread: float = 0.2
    """Standard deviation of the logarithm of a worker's speed."""
    start_delay: float = 0.05
    load_delay: float = 0.05
    """Before the first epoch of a resumed trial, to load its checkpoint."""
    crash_rate: float = 0.001
    """Process crashes per trained epoch; the epoch is lost, and paid."""
    equal_costs: bool = False
    """Whether every epoch takes 1 s, instead of the CPU seconds that were recorded."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a trial; `spent` are the epochs that had been started by then, over all trials."""

    time: float
    spent: float
    trial: int
    config: int
    epoch: int
    state: EventType


@dataclass
class Trace:
    """The events of a simulated search, in order; `busy` is the time that workers trained, summed over them."""

    workers: int
    events: list[Event] = field(default_factory=list)
    busy: float = 0.0

    @property
    def spent(self) -> float:
        """Returns the epochs paid, partial and lost ones included."""
        return max((event.spent for event in self.events), default=0.0)

    @property
    def busy_share(self) -> float:
        """Returns the share of the workers' time, up to the last event, in which they trained."""
        end = self.events[-1].time if self.events else 0.0
        return self.busy / (self.workers * end) if end else 0.0

    def last(self) -> dict[int, Event]:
        """Returns the last event of each trial."""
        return {event.trial: event for event in self.events}

    def select(self, *states: EventType) -> list[Event]:
        return [event for event in self.events if event.state in states]


def simulate(table: CurveTable, scheduler: Scheduler, cluster: SimulatedCluster, budget: float, run: int = 0) -> Trace:
    """Runs a scheduler until `budget` epochs are spent or it has no more trials; `run` seeds all randomness.

    An epoch is paid when it starts, and starts only if the remaining budget covers it.
    """
    return _Simulation(table, scheduler, cluster, budget, run).simulate()


def uniform(*key: object) -> float:
    """Returns a number in (0, 1) that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def observed_seed(run: int, config: int, seeds: int) -> int:
    """Returns the position of the seed whose curve a config shows in a run."""
    return int(uniform(run, "seed", config) * seeds)


@dataclass
class _Training:
    number: int
    config: int
    curve: Curve
    worker: int
    epoch: int
    crashes: int = 0


class _Simulation:
    def __init__(
        self, table: CurveTable, scheduler: Scheduler, cluster: SimulatedCluster, budget: float, run: int
    ) -> None:
        self.table, self.scheduler, self.cluster, self.budget, self.run = table, scheduler, cluster, budget, run
        self.time, self.spent, self.order = 0.0, 0.0, itertools.count()
        self.free_workers = list(range(cluster.workers))
        self.queue: list[tuple[float, int, EventType, _Training]] = []
        self.num_repeats: Counter[int] = Counter()
        self.seed_offsets: dict[int, int] = {}
        self.trace = Trace(cluster.workers)
        logs = [NormalDist().inv_cdf(uniform(run, "speed", worker)) for worker in range(cluster.workers)]
        self.slowness = [math.exp(cluster.speed_spread * log) for log in logs]

    def simulate(self) -> Trace:
        self._start_trials()
        while self.queue:
            self.time, _, event, training = heapq.heappop(self.queue)
            {"epoch": self._end_epoch, "fail": self._fail, "crash": self._crash}[event](training)
            self._start_trials()
        return self.trace

    def _start_trials(self) -> None:
        """Assigns trials to the free workers, as long as there are any and the budget lasts."""
        while self.free_workers and self.spent + 1.0 <= self.budget and (job := self.scheduler.suggest()):
            config = self.table.index(job.values)
            worker = heapq.heappop(self.free_workers)
            training = _Training(job.number, config, self._curve(job, config), worker, job.epoch)
            self._start(training, "resume" if job.epoch else "start")

    def _curve(self, job: Assignment, config: int) -> Curve:
        """Returns the curve of the run's seed of this config; a repeat with a further seed shows the table's next."""
        if job.number not in self.seed_offsets:
            self.num_repeats[config] += job.seed_of is not None
            self.seed_offsets[job.number] = self.num_repeats[config] if job.seed_of is not None else 0
        seeds, offset = len(self.table.seeds), self.seed_offsets[job.number]
        return self.table.curve(config, (observed_seed(self.run, config, seeds) + offset) % seeds)

    def _start(self, training: _Training, event: EventType) -> None:
        """Starts a process, with a delay before its first epoch."""
        self._log(training, event)
        self._start_epoch(training, self.cluster.load_delay if training.epoch else self.cluster.start_delay)

    def _start_epoch(self, training: _Training, delay: float = 0.0) -> None:
        if self.spent + 1.0 > self.budget:
            self._end(training, "cut")
            return
        share, event = self._next_event(training)
        duration = self._epoch_s(training) * self.slowness[training.worker]
        self.spent += share
        self.trace.busy += share * duration
        heapq.heappush(self.queue, (self.time + (delay + share) * duration, next(self.order), event, training))

    def _next_event(self, training: _Training) -> tuple[float, EventType]:
        """Returns the share of the next epoch that is trained, and what ends it."""
        end, failure = 1.0, training.curve.failure
        event: EventType = "epoch"
        if failure is not None and failure[1] <= training.epoch + 1:
            end, event = max(failure[1] - training.epoch, 0.0), "fail"
        # "death" is part of the hash: another word would change every simulated search
        chance = uniform(self.run, "death", training.config, training.epoch, training.crashes)
        crash = -math.log1p(-chance) / self.cluster.crash_rate if self.cluster.crash_rate else math.inf
        return (crash, "crash") if crash < end else (end, event)

    def _epoch_s(self, training: _Training) -> float:
        seconds = training.curve.cpu_s
        if self.cluster.equal_costs:
            return 1.0
        if not seconds:  # it diverged in its first epoch, whose time is not recorded
            return self.trace.busy / self.spent if self.spent else 1.0
        return seconds[min(training.epoch, len(seconds) - 1)]

    def _end_epoch(self, training: _Training) -> None:
        training.epoch += 1
        decision = self.scheduler.on_result(training.number, training.curve.epochs[training.epoch - 1])
        if training.epoch == self.table.epochs:
            self._end(training, "complete")
        elif decision == "continue":
            self._log(training, "epoch")
            self._start_epoch(training)
        else:
            assert decision != "complete", f"trial {training.number} is called complete at epoch {training.epoch}"
            self._end(training, decision)

    def _fail(self, training: _Training) -> None:
        assert training.curve.failure is not None
        self.scheduler.on_error(training.number, training.curve.failure[0], "as recorded")
        self._end(training, "fail")

    def _crash(self, training: _Training) -> None:
        training.crashes += 1
        if training.crashes <= MAX_RESTARTS:
            self._start(training, "crash")
        else:
            self.scheduler.on_error(training.number, "killed", "the process ended")
            self._end(training, "fail")

    def _end(self, training: _Training, event: EventType) -> None:
        self._log(training, event)
        heapq.heappush(self.free_workers, training.worker)

    def _log(self, training: _Training, event: EventType) -> None:
        self.trace.events.append(Event(self.time, self.spent, training.number, training.config, training.epoch, event))
