"""A search on recorded learning curves instead of trainings: discrete events, any number of workers. Pure.

Nothing is drawn in order: which seed's curve a config shows, how fast a worker is, which epoch a process dies in are
hashes of the run's seed and of what they belong to, so that every policy meets the same world.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, Protocol

from search.algorithm.trial import Assignment

if TYPE_CHECKING:
    from search.simulation.recorded_curves import Curve
    from trainers.epoch_metrics import EpochMetrics

MAX_DEATHS = 3
"""Times that a trial whose process died is started again, as in a real search."""

Decision = Literal["continue", "pause", "stop", "complete"]
EventKind = Literal["start", "resume", "epoch", "stop", "pause", "complete", "fail", "death", "cut"]


class Scheduler(Protocol):
    """What decides in a search: it sees what a real one sees, and nothing of the table."""

    def suggest(self) -> Assignment | None:
        """Returns a trial to start or to resume, or None while there is nothing to do; asked again after any event."""

    def on_result(self, number: int, report: EpochMetrics) -> Decision:
        """Decides after each epoch; a paused trial gives its worker up and may come back through `ask`."""

    def on_error(self, number: int, kind: str, reason: str) -> None: ...


class CurveSource(Protocol):
    """Learning curves by config: a table, or a study's own trials."""

    @property
    def epochs(self) -> int: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    def index(self, values: Mapping[str, Any]) -> int: ...

    def curve(self, index: int, seed_position: int) -> Curve: ...


@dataclass(frozen=True)
class SimulatedCluster:
    """What the simulated machines are like; delays are in epochs of the trial that waits."""

    workers: int = 8
    speed_spread: float = 0.2
    """Standard deviation of the logarithm of a worker's speed."""
    start_delay: float = 0.05
    load_delay: float = 0.05
    """Before the first epoch of a resumed trial: its checkpoint is loaded."""
    deaths: float = 0.001
    """Processes that die, an epoch trained; the epoch is lost, and paid."""
    equal_costs: bool = False
    """Whether every epoch takes the same time, instead of the CPU seconds that were recorded."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a trial; `spent` is what all had begun by then, in epochs."""

    time: float
    spent: float
    trial: int
    config: int
    epoch: int
    state: EventKind


@dataclass
class Trace:
    """What a simulated search did, in order. `busy` is the time that workers trained, all together."""

    workers: int
    epochs: int
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

    def select(self, *states: EventKind) -> list[Event]:
        return [event for event in self.events if event.state in states]


def simulate(table: CurveSource, policy: Scheduler, world: SimulatedCluster, budget: float, run: int = 0) -> Trace:
    """Runs a policy until `budget` epochs are spent or it has nothing left to do; `run` seeds all chance.

    An epoch is paid when it begins, and begins only where the budget holds it whole.
    """
    return _Simulation(table, policy, world, budget, run).play()


def uniform(*key: object) -> float:
    """Returns a number in 0..1 (both excluded) that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


def seed_shown(run: int, config: int, seeds: int) -> int:
    """Returns the position of the seed whose curve a config shows in a run."""
    return int(uniform(run, "seed", config) * seeds)


@dataclass
class _Training:
    number: int
    config: int
    curve: Curve
    worker: int
    epoch: int
    deaths: int = 0


class _Simulation:
    def __init__(self, table: CurveSource, policy: Scheduler, world: SimulatedCluster, budget: float, run: int) -> None:
        self.table, self.policy, self.world, self.budget, self.run = table, policy, world, budget, run
        self.now = self.spent = 0.0
        self.count = 0
        self.free = list(range(world.workers))
        self.queue: list[tuple[float, int, EventKind, _Training]] = []
        self.seeds_begun: Counter[int] = Counter()
        self.further: dict[int, int] = {}
        self.trace = Trace(world.workers, table.epochs)
        normal = NormalDist(0.0, world.speed_spread) if world.speed_spread else None
        self.slowness = [
            math.exp(normal.inv_cdf(uniform(run, "speed", worker))) if normal else 1.0
            for worker in range(world.workers)
        ]

    def play(self) -> Trace:
        self.fill()
        while self.queue:
            self.now, _, kind, training = heapq.heappop(self.queue)
            {"epoch": self.end_epoch, "fail": self.abort, "death": self.die}[kind](training)
            self.fill()
        return self.trace

    def fill(self) -> None:
        """Gives the free workers trials, as long as there are any and the budget lasts."""
        while self.free and self.spent + 1.0 <= self.budget:
            job = self.policy.suggest()
            if job is None:
                return
            config = self.table.index(job.values)
            training = _Training(job.number, config, self.curve(job, config), heapq.heappop(self.free), job.epoch)
            self._log(training, "resume" if job.epoch else "start")
            self.begin_epoch(training, self.world.load_delay if job.epoch else self.world.start_delay)

    def curve(self, job: Assignment, config: int) -> Curve:
        """Returns what a trial will show: its config's seed of this run; a further seed the next one of the table."""
        if job.number not in self.further:
            self.seeds_begun[config] += job.seed_of is not None
            self.further[job.number] = self.seeds_begun[config] if job.seed_of is not None else 0
        seeds = len(self.table.seeds)
        return self.table.curve(config, (seed_shown(self.run, config, seeds) + self.further[job.number]) % seeds)

    def begin_epoch(self, training: _Training, delay: float = 0.0) -> None:
        if self.spent + 1.0 > self.budget:
            self.leave(training, "cut")
            return
        share, kind = self.fate(training)
        duration = self.cost(training) * self.slowness[training.worker]
        self.spent += share
        self.trace.busy += share * duration
        self.count += 1
        heapq.heappush(self.queue, (self.now + (delay + share) * duration, self.count, kind, training))

    def fate(self, training: _Training) -> tuple[float, EventKind]:
        """Returns how much of the next epoch is trained, and what ends it."""
        aborted, failure = 1.0, training.curve.failure
        kind: EventKind = "epoch"
        if failure is not None and failure[1] <= training.epoch + 1:
            aborted, kind = max(failure[1] - training.epoch, 0.0), "fail"
        chance = uniform(self.run, "death", training.config, training.epoch, training.deaths)
        dies = -math.log1p(-chance) / self.world.deaths if self.world.deaths else math.inf
        return (dies, "death") if dies < aborted else (aborted, kind)

    def cost(self, training: _Training) -> float:
        seconds = training.curve.cpu_s
        if self.world.equal_costs:
            return 1.0
        if not seconds:  # it diverged in its first epoch, whose time nobody noted
            return self.trace.busy / self.spent if self.spent else 1.0
        return seconds[min(training.epoch, len(seconds) - 1)]

    def end_epoch(self, training: _Training) -> None:
        training.epoch += 1
        decision = self.policy.on_result(training.number, training.curve.epochs[training.epoch - 1])
        if training.epoch == self.table.epochs:
            self.leave(training, "complete")
        elif decision == "continue":
            self._log(training, "epoch")
            self.begin_epoch(training)
        else:
            assert decision != "complete", f"trial {training.number} is called complete at epoch {training.epoch}"
            self.leave(training, decision)

    def abort(self, training: _Training) -> None:
        assert training.curve.failure is not None
        self.policy.on_error(training.number, training.curve.failure[0], "as recorded")
        self.leave(training, "fail")

    def die(self, training: _Training) -> None:
        training.deaths += 1
        if training.deaths > MAX_DEATHS:
            self.policy.on_error(training.number, "killed", "the process ended")
            self.leave(training, "fail")
            return
        self._log(training, "death")
        self.begin_epoch(training, self.world.load_delay if training.epoch else self.world.start_delay)

    def leave(self, training: _Training, state: EventKind) -> None:
        self._log(training, state)
        heapq.heappush(self.free, training.worker)

    def _log(self, training: _Training, state: EventKind) -> None:
        self.trace.events.append(Event(self.now, self.spent, training.number, training.config, training.epoch, state))
