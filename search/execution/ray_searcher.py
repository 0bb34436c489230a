"""The search algorithm of Ray Tune: passes on the study's next trial, or its next batch of trials."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from search.execution import gpu_shares
from search.execution.batching import TrialBatches
from search.execution.cluster import Slots, current_nodes
from search.execution.fault_tolerance import NotPickled, OnChange
from search.execution.node_checks import NodeRegistry
from search.execution.worker import load_shared
from search.messages import TASK, TrialTask, WorkerTask
from search.space.schema import Resources
from search.storage.study import Study
from trainers.config import TrainConfig, share_key


class RaySearcher(NotPickled, Searcher):  # type: ignore[misc]  # ray has no types
    """Suggests `{TASK: WorkerTask}` while there are free slots; up to `batch_size` trials train as one."""

    def __init__(
        self,
        study: Study,
        slots: Slots,
        on_change: OnChange,
        imports: tuple[str, ...] = (),
        batch_size: int = 1,
        nodes: NodeRegistry | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.study = study
        self.slots = slots
        self.on_change = on_change
        self.imports = imports
        self._batches = TrialBatches(study, batch_size)
        self._tasks: dict[str, tuple[TrialTask, ...]] = {}
        self._slots_used: dict[str, float] = {}
        self._shared_data: dict[tuple[Any, ...], Any] = {}

    def suggest(self, trial_id: str) -> dict[str, WorkerTask] | str | None:
        if sum(self._slots_used.values()) >= self.slots():
            return None
        trials = tuple(self._batches.next())
        if not trials:
            is_running = any(trial.state == "running" for trial in self.study.trials.values())
            return None if is_running else str(Searcher.FINISHED)
        resources, usual = self._resources(trials), self.slots.need
        self._tasks[trial_id] = trials
        self._slots_used[trial_id] = max(resources.cpu / usual.cpu, resources.gpu / usual.gpu if usual.gpu else 0.0)
        for trial in trials:
            self.on_change(trial.number)
        nodes = None if self.nodes is None else self.nodes.requirements()
        return {TASK: WorkerTask(trials, resources, self.imports, self._data(trials[0].config), nodes)}

    def _resources(self, tasks: tuple[TrialTask, ...]) -> Resources:
        """Returns more than usual if a trial ran out of memory before, or is predicted to."""
        need, trials = self.slots.need, self.study.trials
        if 0 < need.gpu < 1:
            gpu_memory_gib = gpu_shares.gpu_memory_gib() if self.nodes is None else self.nodes.gpu_memory_gib
            need = gpu_shares.resources_for([task.config for task in tasks], trials.values(), need, gpu_memory_gib)
        if any("oom" in trials[task.number].retried for task in tasks):
            return current_nodes().more_resources(need) or need
        return need

    def _data(self, keys: dict[str, Any]) -> Any:
        """Returns a reference to the config's data in Ray's object store, loaded once; None if it is streamed."""
        key = share_key(TrainConfig.model_validate(keys))
        if key is not None and key not in self._shared_data:
            self._shared_data[key] = load_shared.remote(keys, self.imports)
        return None if key is None else self._shared_data[key]

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Requeues the trials of an ended task that have to be retried, and fails one that ended without a report."""
        tasks = self._tasks[trial_id]
        self._slots_used.pop(trial_id, None)
        number = tasks[0].number
        if len(tasks) > 1:
            self._batches.requeue(tasks)
        elif number in self.study.to_requeue:
            self.study.to_requeue.remove(number)
            self.study.requeue(number)
        elif self.study.trials[number].state == "running" and not self.study.is_requeued(number):
            self.study.on_error(number, "error", "the training ended before its last epoch")
            self.on_change(number)

    def requeue_dropped(self, trials: list[Any]) -> None:
        """Requeues tasks that Tune dropped without a call, for which the search would wait forever.

        Tune does so if a worker has not ended its last task when it should start the next one.
        """
        for trial in trials:
            if trial.status != "ERROR" or self._slots_used.pop(trial.trial_id, None) is None:
                continue
            tasks = self._tasks[trial.trial_id]
            if len(tasks) > 1:
                self._batches.requeue(tasks)
            elif self.study.trials[tasks[0].number].state == "running":
                self.study.requeue(tasks[0].number)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a search resumes from its study's database."""
