"""The thin adapters between Ray Tune, which executes trials, and the study, which decides."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search import shares
from search.cluster import Slots, look, lost_nodes
from search.groups import Groups
from search.nodes import Roster
from search.records import Task
from search.space import Resources
from search.study import Study
from search.trial import Failure, load_shared, places, run_trial
from search.watchdog import Watchdog
from trainers import command
from trainers.config import TrainConfig
from trainers.datasets import share_key
from trainers.metrics import EpochMetrics

MAX_RESTARTS = 3
"""Times a trial whose process died is started again, from its checkpoint."""

OUT_OF_MEMORY = "out of memory (RAM): its process was ended when the machine ran out of it"

OnChange = Callable[[int], None]
"""Told the number of a trial that started, reported or ended."""


def execute(
    study: Study,
    slots: Slots,
    on_change: OnChange,
    imports: Sequence[str] = (),
    between: Callable[[], None] = lambda: None,
    fuse: int = 1,
    nodes: Roster | None = None,
) -> None:
    """Runs trials until the study asks for no more, as many at a time as there are slots.

    Each change is passed on to `on_change`. Up to `fuse` trials train as one, in one slot.
    `imports` are packages of the user's own that every worker imports first; `between` is called between two steps of
    the loop and may raise Interrupted. Nodes that join are looked at by the roster, where there is one. Raises Failed
    where a trial finds that the machine is to blame: its disk is full, or the data are gone.
    """
    restarts = _Restarts(study, on_change, need=slots.need)
    scheduler = _Scheduler(study, slots.need, on_change, nodes)
    searcher = _Searcher(study, slots, on_change, list(imports), fuse, nodes)
    with (
        tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool,
        warnings.catch_warnings(),
    ):
        study.policy.ahead.submit = lambda work: pool.submit(work).result
        warnings.simplefilter("ignore")  # Tune's own notices; ours go through the progress display
        tuner = tune.Tuner(
            tune.with_resources(run_trial, places),
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
                failure_config=tune.FailureConfig(max_failures=-1),  # _Restarts counts them
                callbacks=[
                    _Between(between, scheduler),
                    restarts,
                    _Progress(study, on_change, restarts),
                    _Dropped(searcher),
                ],
            ),
        )
        with command.deferred():  # an exception in the middle of Ray's own code becomes a SystemError
            tuner.fit()


class _Unpickled:
    """Tune pickles its parts for a resume that we never use; the live study stays out of it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Actors(RayActorManager):  # type: ignore[misc]
    """Tells Tune of a process that Ray ended for want of memory as of any that died; else Tune itself would end."""

    wanted_memory = False
    """Whether the death that Tune is told of at this moment is such a one."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        with self._as_death(exception) as death:
            super()._actor_start_failed(tracked_actor, death)

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        with self._as_death(exception) as death:
            super()._actor_task_failed(tracked_actor_task, death)

    @contextmanager
    def _as_death(self, exception: Exception) -> Iterator[Exception]:
        _Actors.wanted_memory = isinstance(exception, OutOfMemoryError)
        try:
            yield RayActorError(error_msg=str(exception)) if _Actors.wanted_memory else exception
        finally:
            _Actors.wanted_memory = False


tune_controller.RayActorManager = _Actors


class _Between(_Unpickled, tune.Callback):  # type: ignore[misc]  # ray has no types
    """Lets Ctrl-C and the user's orders in between two steps of Tune's loop, which take a tenth of a second.

    Ends the search where a trial told the scheduler of trouble.
    """

    def __init__(self, between: Callable[[], None], scheduler: _Scheduler) -> None:
        self.between = between
        self.scheduler = scheduler

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        command.check()
        if self.scheduler.trouble is not None:
            raise command.Failed(command.ENVIRONMENT, self.scheduler.trouble)
        self.between()


class _Restarts(_Unpickled, tune.Callback):  # type: ignore[misc]
    """Ends a trial whose process died too often. That a node was lost is no fault of the trials that ran there."""

    def __init__(
        self,
        study: Study,
        on_change: OnChange,
        lost: Callable[[], int] = lost_nodes,
        need: Resources = Resources(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self.study = study
        self.on_change = on_change
        self.need = need
        self.lost = lost
        self._lost_before = lost()
        self._at_start: dict[int, tuple[int, int]] = {}
        self._deaths: Counter[int] = Counter()
        self.ours: set[int] = set()  # whose processes we ended ourselves

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number, lost = trial.config["number"], self.lost()
        lost_then, deaths_then = self._at_start.get(number, (lost, 0))
        if lost > lost_then:  # what died since then may have died with the node
            self._deaths[number] = deaths_then
        self._at_start[number] = (lost, self._deaths[number])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        is_group = bool(trial.config.get("others"))
        if number in self.ours:
            self.ours.remove(number)
            if is_group or self.study.records[number].state != "running":
                self.study.to_end.add(number)
            return
        if _Actors.wanted_memory:
            self._ran_out_of_memory(number, is_group)
            return
        self._deaths[number] += 1
        lost_then, _ = self._at_start.get(number, (self._lost_before, 0))
        if self._deaths[number] > MAX_RESTARTS and self.lost() <= lost_then:
            self.study.to_end.add(number)
            if is_group:  # one of its members may be to blame
                self._deaths[number] = 0
                return
            self.study.fail(number, "killed", f"its process ended {self._deaths[number]} times")
            self.on_change(number)

    def _ran_out_of_memory(self, number: int, is_group: bool) -> None:
        """Has a trial tried once more, with more memory, when Tune has let go of it; of a group, each one alone."""
        self.study.to_end.add(number)
        if is_group:
            return
        if _may_try_with_more(self.study, self.need, number, OUT_OF_MEMORY):
            self.study.to_repeat.add(number)
        else:
            self.study.fail(number, "oom", OUT_OF_MEMORY)
        self.on_change(number)


class _Progress(_Unpickled, tune.Callback):  # type: ignore[misc]
    """Ends the processes of trials that make no progress; Tune then starts them again, from their checkpoints."""

    def __init__(self, study: Study, on_change: OnChange, restarts: _Restarts, dog: Watchdog | None = None) -> None:
        self.study = study
        self.on_change = on_change
        self.restarts = restarts
        self.dog = dog or Watchdog()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.started(trial, time.monotonic())

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if "node" not in result:
            self.dog.reported(trial, time.monotonic())

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.ended(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dog.ended(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial, seconds in self.dog.stalled(time.monotonic()).items():
            self._end(trial, f"no epoch for {seconds:.0f} s")
            self.dog.ended(trial)

    def _end(self, trial: Any, reason: str) -> None:
        number = trial.config["number"]
        is_group = bool(trial.config["others"])  # one of its members may be to blame: they are tried alone
        if not is_group and not self.study.retry(number, "stalled", reason):
            self.study.fail(number, "stalled", f"{reason}, for the second time")
        self.restarts.ours.add(number)
        self.on_change(number)
        ray.kill(trial.temporary_state.ray_actor)


class _Searcher(_Unpickled, Searcher):  # type: ignore[misc]
    """Asks the study for the next trial, or for the next group of trials."""

    def __init__(
        self,
        study: Study,
        slots: Slots,
        on_change: OnChange,
        imports: list[str],
        fuse: int = 1,
        nodes: Roster | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.study = study
        self.slots = slots
        self.on_change = on_change
        self.imports = imports
        self._live: dict[str, float] = {}  # what each takes of the slots
        self.groups = Groups(study, fuse)
        self._tasks: dict[str, list[Task]] = {}
        self._shared: dict[tuple[Any, ...], Any] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if sum(self._live.values()) >= self.slots():
            return None
        group = self.groups.next()
        if not group:
            running = any(record.state == "running" for record in self.study.records.values())
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
            "nodes": None if self.nodes is None else self.nodes.note(),
        }

    def _need(self, group: list[Task]) -> Resources:
        """Returns the resources of a group: more where one of it has run out of memory before, or is foretold to."""
        need, records = self.slots.need, self.study.records
        if len(group) == 1:
            need = shares.fitting(group[0].config, records.values(), need, self._card_gib())
        if any("oom" in records[task.number].retried for task in group):
            return look().bigger(need) or need
        return need

    def _card_gib(self) -> float | None:
        """Returns the memory of the smallest card that trials share."""
        return shares.card_gib() if self.nodes is None else self.nodes.card_gib

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
            self.groups.again(group)
        elif number in self.study.to_repeat:
            self.study.to_repeat.remove(number)
            self.study.again(number)
        elif self.study.records[number].state == "running" and not self.study.waits(number):
            self.study.fail(number, "error", "the training ended before its last epoch")
            self.on_change(number)

    def take_back(self, trial_id: str) -> None:
        """Has a trial or group that was handed out and never began handed out once more."""
        if self._live.pop(trial_id, None) is None:
            return
        group = self._tasks[trial_id]
        if len(group) > 1:
            self.groups.again(group)
        elif self.study.records[group[0].number].state == "running":
            self.study.again(group[0].number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its database."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search goes on from its study."""


class _Dropped(_Unpickled, tune.Callback):  # type: ignore[misc]
    """Has those trials handed out again that Tune gives up without telling its searcher, which would wait for ever.

    It does so where a worker has not come to the end of one trial when it is to take the next.
    """

    def __init__(self, searcher: _Searcher) -> None:
        self.searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial in trials:
            if trial.status == "ERROR":
                self.searcher.take_back(trial.trial_id)


class _Scheduler(_Unpickled, FIFOScheduler):  # type: ignore[misc]
    """Passes each report to the study and its decision back to Tune."""

    def __init__(self, study: Study, need: Resources, on_change: OnChange, nodes: Roster | None = None) -> None:
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
        return str(TrialScheduler.CONTINUE if go_on and all(go_on) else TrialScheduler.STOP)

    def _admits(self, trial: Any, result: dict[str, Any]) -> str:
        """Says of a trial's node, which joined during the search, whether the trial may run there; if not, it waits."""
        assert self.nodes is not None
        if self.nodes.admits(result["node"], result["facts"]):
            return str(TrialScheduler.CONTINUE)
        if not trial.config["others"]:  # a group is handed out again anyway
            self.study.again(trial.config["number"])
        return str(TrialScheduler.STOP)

    def _goes_on(self, number: int, outcome: EpochMetrics | Failure, is_group: bool) -> bool:
        """Takes in what became of a trial's epoch, and returns whether it goes on here."""
        if isinstance(outcome, Failure):
            if outcome.kind == "environment":  # the trial is not to blame, and goes on at the next start
                self.trouble = f"t{number:04d}: {outcome.reason}"
                self.study.again(number)
            elif outcome.kind != "oom" or not _may_try_with_more(self.study, self.need, number, outcome.reason):
                self.study.fail(number, outcome.kind, outcome.reason)
            elif not is_group:  # whoever of a group still runs is handed out again anyway
                self.study.again(number)
            goes_on = False
        else:
            goes_on = self.study.report(number, outcome) == "continue"
        self.on_change(number)
        return goes_on


def _may_try_with_more(study: Study, need: Resources, number: int, reason: str) -> bool:
    """Returns whether a trial that ran out of memory is tried again: once, where there is more to be had."""
    return look().bigger(need) is not None and study.retry(number, "oom", reason)


def _numbers(config: dict[str, Any]) -> set[int]:
    return {config["number"], *(other["number"] for other in config["others"])}
