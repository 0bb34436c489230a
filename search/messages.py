"""Messages between the driver and its workers: tasks out, reports back.

Ray Tune passes dicts in both directions and flattens nested ones, but it leaves objects alone. So each message is one
object: a trial's config is `{TASK: WorkerTask}`, and a result is `{REPORT: Report}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from search.space.schema import Resources
from trainers.diagnostics.health import FailureClass
from trainers.epoch_metrics import EpochMetrics
from trainers.exits.settings import DEFAULTS, ExitSettings

TASK, REPORT = "task", "report"


@dataclass(frozen=True)
class TrialTask:
    """One trial to train: its number, its train file, and its checkpoints.

    Checkpoints are in `folder`. With a `store_uri` they are stored there, and a worker trains in a temporary folder.
    `exits` says how many exit points are measured, if the train file has an exit rule.
    """

    number: int
    config: dict[str, Any] = field(repr=False)  # Tune builds a tag from the text of a task
    folder: str
    store_uri: str | None = None
    exits: ExitSettings = field(default=DEFAULTS, repr=False)


@dataclass(frozen=True)
class NodeRequirements:
    """Nodes that the driver has checked, and what a worker on any other node checks: a token file and a data folder."""

    checked: tuple[str, ...]
    unfit: tuple[str, ...]
    token_path: str
    data_dir: str | None


@dataclass(frozen=True)
class WorkerTask:
    """The work of one worker: one trial, or several that train as one batched model.

    `data` is a reference to the training data in Ray's object store, or None where the worker reads it.
    """

    trials: tuple[TrialTask, ...]
    resources: Resources = field(default_factory=Resources)
    imports: tuple[str, ...] = ()
    data: Any = None
    nodes: NodeRequirements | None = None

    @property
    def number(self) -> int:
        """Returns the number of the first trial, which stands for the whole batch."""
        return self.trials[0].number

    @property
    def is_batch(self) -> bool:
        """Returns whether several trials train as one."""
        return len(self.trials) > 1


@dataclass(frozen=True)
class EpochReport:
    """The metrics of one epoch of a single trial."""

    metrics: EpochMetrics


@dataclass(frozen=True)
class BatchProgress:
    """The progress of a single trial within an epoch: batches trained, of all."""

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class Failure:
    """The class of a failure and its reason; `environment` if the machine caused it, not the trial."""

    failure_class: FailureClass | Literal["environment"]
    reason: str


@dataclass(frozen=True)
class BatchReport:
    """One epoch of a batch: the metrics or the failure of each trial; empty if the batch failed as a whole."""

    outcomes: Mapping[int, EpochMetrics | Failure]


@dataclass(frozen=True)
class NodeInfo:
    """Properties of a node: package versions (None if missing), the token it read, and its smallest GPU's memory."""

    versions: Mapping[str, str | None]
    token: str | None
    has_data: bool
    gpu_memory_gib: float | None = None


@dataclass(frozen=True)
class NodeReport:
    """The properties of a node that joined during the search; the worker waits for the driver's decision."""

    node_id: str
    info: NodeInfo


Report = EpochReport | BatchProgress | BatchReport | Failure | NodeReport


def task_of(trial: Any) -> WorkerTask:
    """Returns the task of one of Ray Tune's trials."""
    task: WorkerTask = trial.config[TASK]
    return task
