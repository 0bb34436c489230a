"""The trial scheduler of Ray Tune: passes each report to the study, and the study's decision to Tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.execution.fault_tolerance import NotPickled, OnChange, retry_with_more
from search.execution.node_checks import NodeRegistry
from search.messages import (
    REPORT,
    BatchProgress,
    BatchReport,
    EpochReport,
    Failure,
    NodeReport,
    Report,
    WorkerTask,
    task_of,
)
from search.space.schema import Resources
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics


class RayScheduler(NotPickled, FIFOScheduler):  # type: ignore[misc]  # ray has no types
    """Decides by the study. `environment_error` is set if the machine caused a failure: any trial would fail, too."""

    def __init__(self, study: Study, need: Resources, on_change: OnChange, nodes: NodeRegistry | None = None) -> None:
        super().__init__()
        self.nodes = nodes
        self.study = study
        self.need = need
        self.on_change = on_change
        self.environment_error: str | None = None

    def choose_trial_to_run(self, controller: Any) -> Any:
        """Chooses as FIFOScheduler. Since Tune calls it in each step, it also stops the trials in `study.to_stop`."""
        for trial in list(controller.get_live_trials()) if self.study.to_stop else ():
            stopping = self.study.to_stop.intersection(member.number for member in task_of(trial).trials)
            if stopping:
                self.study.to_stop -= stopping
                controller.stop_trial(trial)
        return super().choose_trial_to_run(controller)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        may_continue = self._process(task_of(trial), result[REPORT])
        return str(TrialScheduler.CONTINUE if may_continue else TrialScheduler.STOP)

    def _process(self, task: WorkerTask, report: Report) -> bool:
        """Returns whether the worker continues with its task."""
        match report:
            case NodeReport():
                return self._admit(task, report)
            case BatchReport(outcomes):
                return self._apply(outcomes, task.is_batch)
            case Failure():
                return self._apply({task.number: report}, task.is_batch)
            case BatchProgress(epoch, batch, batches):
                self.study.trials[task.number].batch = (epoch, batch, batches)
                return self.study.trials[task.number].state == "running"
            case EpochReport(metrics):
                return self._apply({task.number: metrics}, task.is_batch)

    def _admit(self, task: WorkerTask, report: NodeReport) -> bool:
        """Returns whether the task may run on a node that joined during the search; else its trial is requeued."""
        assert self.nodes is not None
        if self.nodes.admits(report.node_id, report.info):
            return True
        if not task.is_batch:  # the members of a batch are requeued when Tune has ended it
            self.study.requeue(task.number)
        return False

    def _apply(self, outcomes: Mapping[int, EpochMetrics | Failure], is_batch: bool) -> bool:
        """Returns whether all trials of an epoch continue; if one of a batch ends, the others form a new batch."""
        continuing = [self._continues(number, outcome, is_batch) for number, outcome in outcomes.items()]
        return bool(continuing) and all(continuing)

    def _continues(self, number: int, outcome: EpochMetrics | Failure, is_batch: bool) -> bool:
        if isinstance(outcome, Failure):
            self._fail(number, outcome, is_batch)
            continues = False
        else:
            continues = self.study.on_result(number, outcome) == "continue"
        self.on_change(number)
        return continues

    def _fail(self, number: int, failure: Failure, is_batch: bool) -> None:
        if failure.failure_class == "environment":  # the trial itself resumes at the next start
            self.environment_error = f"t{number:04d}: {failure.reason}"
            self.study.requeue(number)
        elif failure.failure_class != "oom" or not retry_with_more(self.study, self.need, number, failure.reason):
            self.study.on_error(number, failure.failure_class, failure.reason)
        elif not is_batch:
            self.study.requeue(number)
