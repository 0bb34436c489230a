"""The thin adapters between Ray Tune, which executes trials, and the study, which decides."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from config import cli, interrupts
from search.execution import gpu_shares
from search.execution.batching import TrialBatches
from search.execution.cluster import Slots, current_nodes
from search.execution.fault_tolerance import NotPickled, OnChange, RestartPolicy, StallDetector, may_retry_with_more
from search.execution.node_checks import NodeRegistry
from search.execution.worker import Failure, load_shared, placement, run_trial
from search.messages import TrialTask
from search.space.schema import Resources
from search.storage.study import Study
from trainers.config import TrainConfig, share_key
from trainers.epoch_metrics import EpochMetrics


def run_trials(
    study: Study,
    slots: Slots,
    on_change: OnChange,
    imports: Sequence[str] = (),
    between: Callable[[], None] = lambda: None,
    fuse: int = 1,
    nodes: NodeRegistry | None = None,
) -> None:
    """Runs trials until the study asks for no more, as many at a time as there are slots.

    Each change is passed on to `on_change`. Up to `fuse` trials train as one, in one slot.
    `imports` are packages of the user's own that every worker imports first; `between` is called between two steps of
    the loop and may raise Interrupted. Nodes that join are looked at by the roster, where there is one. Raises Failed
    where a trial finds that the machine is to blame: its disk is full, or the data are gone.
    """
    restarts = RestartPolicy(study, on_change, need=slots.need)
    scheduler = RayScheduler(study, slots.need, on_change, nodes)
    searcher = RaySearcher(study, slots, on_change, list(imports), fuse, nodes)
    with (
        tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(1, thread_name_prefix="ahead") as drawing,
        ThreadPoolExecutor(1, thread_name_prefix="learn") as learning,
        warnings.catch_warnings(),
    ):
        study.scheduler.candidates.prefetcher.submit = lambda work: drawing.submit(work).result
        study.scheduler.acquisition.submit = lambda work: learning.submit(work).result  # a draw may take seconds
        warnings.simplefilter("ignore")  # Tune's own notices; ours go through the progress display
        tuner = tune.Tuner(
            tune.with_resources(run_trial, placement),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=study.space.study,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=-1),  # Restarts counts them
                callbacks=[
                    StepHook(between, scheduler),
                    restarts,
                    StallDetector(study, on_change, restarts),
                    DroppedTrials(searcher),
                ],
            ),
        )
        with interrupts.deferred():  # an exception in the middle of Ray's own code becomes a SystemError
            tuner.fit()


class StepHook(NotPickled, tune.Callback):  # type: ignore[misc]  # ray has no types
    """Lets Ctrl-C and the user's orders in between two steps of Tune's loop, which take a tenth of a second.

    Ends the search where a trial told the scheduler of trouble.
    """

    def __init__(self, between: Callable[[], None], scheduler: RayScheduler) -> None:
        self.between = between
        self.scheduler = scheduler

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        interrupts.check()
        if self.scheduler.trouble is not None:
            raise cli.CommandError(cli.ENVIRONMENT, self.scheduler.trouble)
        self.between()


class RaySearcher(NotPickled, Searcher):  # type: ignore[misc]
    """Asks the study for the next trial, or for the next group of trials."""

    def __init__(
        self,
        study: Study,
        slots: Slots,
        on_change: OnChange,
        imports: list[str],
        fuse: int = 1,
        nodes: NodeRegistry | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.study = study
        self.slots = slots
        self.on_change = on_change
        self.imports = imports
        self._live: dict[str, float] = {}  # what each takes of the slots
        self.groups = TrialBatches(study, fuse)
        self._tasks: dict[str, list[TrialTask]] = {}
        self._shared: dict[tuple[Any, ...], Any] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if sum(self._live.values()) >= self.slots():
            return None
        group = self.groups.next()
        if not group:
            running = any(record.state == "running" for record in self.study.trials.values())
            return None if running else str(Searcher.FINISHED)
        self._tasks[trial_id] = group
        need = self._need(group)
        usual = self.slots.need
        self._live[trial_id] = max(need.cpu / usual.cpu, need.gpu / usual.gpu if usual.gpu else 0.0)
        for task in group:
            self.on_change(task.number)
        first, *others = map(vars, group)
        return {
            **first,
            "others": others,
            "imports": self.imports,
            "data": self._data(first["config"]),
            "need": need.model_dump(),
            "nodes": None if self.nodes is None else self.nodes.instructions(),
        }

    def _need(self, group: list[TrialTask]) -> Resources:
        """Returns the resources of a group: more where one of it has run out of memory before, or is foretold to."""
        need, records = self.slots.need, self.study.trials
        if len(group) == 1 and 0 < need.gpu < 1:
            need = gpu_shares.resources_for(group[0].config, records.values(), need, self._card_gib())
        if any("oom" in records[task.number].retried for task in group):
            return current_nodes().more_resources(need) or need
        return need

    def _card_gib(self) -> float | None:
        """Returns the memory of the smallest card that trials share."""
        return gpu_shares.card_gib() if self.nodes is None else self.nodes.card_gib

    def _data(self, keys: dict[str, Any]) -> Any:
        """Returns a reference to the config's data in Ray's object store, loaded once; None where it is streamed."""
        key = share_key(TrainConfig.model_validate(keys))
        if key is not None and key not in self._shared:
            self._shared[key] = load_shared.remote(keys, self.imports)
        return None if key is None else self._shared[key]

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Tells the study of a trial that ended without the scheduler's knowing."""
        group = self._tasks[trial_id]
        self._live.pop(trial_id, None)
        number = group[0].number
        if len(group) > 1:
            self.groups.requeue(group)
        elif number in self.study.to_requeue:
            self.study.to_requeue.remove(number)
            self.study.requeue(number)
        elif self.study.trials[number].state == "running" and not self.study.is_requeued(number):
            self.study.on_error(number, "error", "the training ended before its last epoch")
            self.on_change(number)

    def requeue(self, trial_id: str) -> None:
        """Has a trial or group that was handed out and never began handed out once more."""
        if self._live.pop(trial_id, None) is None:
            return
        group = self._tasks[trial_id]
        if len(group) > 1:
            self.groups.requeue(group)
        elif self.study.trials[group[0].number].state == "running":
            self.study.requeue(group[0].number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its database."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search goes on from its study."""


class DroppedTrials(NotPickled, tune.Callback):  # type: ignore[misc]
    """Has those trials handed out again that Tune gives up without telling its searcher, which would wait for ever.

    It does so where a worker has not come to the end of one trial when it is to take the next.
    """

    def __init__(self, searcher: RaySearcher) -> None:
        self.searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            if trial.status == "ERROR":
                self.searcher.requeue(trial.trial_id)


class RayScheduler(NotPickled, FIFOScheduler):  # type: ignore[misc]
    """Passes each report to the study and its decision back to Tune."""

    def __init__(self, study: Study, need: Resources, on_change: OnChange, nodes: NodeRegistry | None = None) -> None:
        super().__init__()
        self.nodes = nodes
        self.study = study
        self.need = need
        self.on_change = on_change
        self.trouble: str | None = None
        """What a trial found wrong with the machine; further trials would find the same."""

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def choose_trial_to_run(self, controller: Any) -> Any:
        """Chooses as Tune does; being asked at each step, it also has those trials ended that a user stopped."""
        for trial in list(controller.get_live_trials()) if self.study.to_end else ():
            ending = self.study.to_end & _numbers(trial.config)
            if ending:
                self.study.to_end -= ending
                controller.stop_trial(trial)
        return super().choose_trial_to_run(controller)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "node" in result:
            return self._admits(trial, result)
        if "group" in result:
            outcomes = result["group"].outcomes
        elif "failure" in result:
            outcomes = {trial.config["number"]: Failure(result["failure"], result["reason"])}
        else:
            outcomes = {trial.config["number"]: result["report"]}
        is_group = "group" in result
        go_on = [self._goes_on(number, outcome, is_group) for number, outcome in outcomes.items()]
        if not all(go_on):
            self.study.scheduler.prepare()  # whoever is free now asks in one of the loop's next steps
        return str(TrialScheduler.CONTINUE if go_on and all(go_on) else TrialScheduler.STOP)

    def _admits(self, trial: Any, result: dict[str, Any]) -> str:
        """Says of a trial's node, which joined during the search, whether the trial may run there; if not, it waits."""
        assert self.nodes is not None
        if self.nodes.admits(result["node"], result["facts"]):
            return str(TrialScheduler.CONTINUE)
        if not trial.config["others"]:  # a group is handed out again anyway
            self.study.requeue(trial.config["number"])
        return str(TrialScheduler.STOP)

    def _goes_on(self, number: int, outcome: EpochMetrics | Failure, is_group: bool) -> bool:
        """Takes in what became of a trial's epoch, and returns whether it goes on here."""
        if isinstance(outcome, Failure):
            if outcome.failure_class == "environment":  # the trial is not to blame, and goes on at the next start
                self.trouble = f"t{number:04d}: {outcome.reason}"
                self.study.requeue(number)
            elif outcome.failure_class != "oom" or not may_retry_with_more(
                self.study, self.need, number, outcome.reason
            ):
                self.study.on_error(number, outcome.failure_class, outcome.reason)
            elif not is_group:  # whoever of a group still runs is handed out again anyway
                self.study.requeue(number)
            goes_on = False
        else:
            goes_on = self.study.on_result(number, outcome) == "continue"
        self.on_change(number)
        return goes_on


def _numbers(config: dict[str, Any]) -> set[int]:
    return {config["number"], *(other["number"] for other in config["others"])}
