"""The thin adapters between Ray Tune, which executes trials, and the study, which decides."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.space import Resources
from search.study import Study
from search.trial import load_shared, run_trial
from trainers import command
from trainers.config import TrainConfig
from trainers.data import share_key

MAX_RESTARTS = 3
"""Times a trial whose process died is started again, from its checkpoint."""

OnChange = Callable[[int], None]
"""Told the number of a trial that started, reported or ended."""


def execute(
    study: Study, concurrency: int, resources: Resources, on_change: OnChange, imports: Sequence[str] = ()
) -> None:
    """Runs trials until the study asks for no more; each change is passed on to `on_change`.

    `imports` are packages of the user's own that every worker imports first.
    """
    with tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tune's own notices; ours go through the progress display
        tuner = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": resources.cpu, "gpu": resources.gpu}),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(study, on_change, list(imports)),
                scheduler=_Scheduler(study, on_change),
                num_samples=-1,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=study.space.study,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
                callbacks=[_Interruptible()],
            ),
        )
        with command.deferred():  # an exception in the middle of Ray's own code becomes a SystemError
            tuner.fit()


class _Unpickled:
    """Tune pickles its parts for a resume that we never use; the live study stays out of it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Interruptible(tune.Callback):  # type: ignore[misc]  # ray has no types
    """Lets Ctrl-C out between two steps of Tune's loop, which take a tenth of a second."""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        command.check()


class _Searcher(_Unpickled, Searcher):  # type: ignore[misc]
    """Asks the study for the next trial."""

    def __init__(self, study: Study, on_change: OnChange, imports: list[str]) -> None:
        super().__init__()
        self.study = study
        self.on_change = on_change
        self.imports = imports
        self._numbers: dict[str, int] = {}
        self._shared: dict[tuple[Any, ...], Any] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        task = self.study.ask()
        if task is None:
            running = any(record.state == "running" for record in self.study.records.values())
            return None if running else str(Searcher.FINISHED)
        self._numbers[trial_id] = task.number
        self.on_change(task.number)
        return {
            "number": task.number,
            "config": task.config,
            "folder": task.folder,
            "imports": self.imports,
            "data": self._data(task.config),
        }

    def _data(self, keys: dict[str, Any]) -> Any:
        """Returns a reference to the config's data in Ray's object store, loaded once; None where it is streamed."""
        key = share_key(TrainConfig.model_validate(keys))
        if key is not None and key not in self._shared:
            self._shared[key] = load_shared.remote(keys, self.imports)
        return None if key is None else self._shared[key]

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Tells the study of a trial that ended without the scheduler's knowing, its process dead or its code done."""
        number = self._numbers[trial_id]
        if self.study.records[number].state == "running":
            died = f"its process ended {MAX_RESTARTS + 1} times"
            kind, reason = ("killed", died) if error else ("error", "the training ended before its last epoch")
            self.study.fail(number, kind, reason)
            self.on_change(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in its database."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search goes on from its study."""


class _Scheduler(_Unpickled, FIFOScheduler):  # type: ignore[misc]
    """Passes each report to the study and its decision back to Tune."""

    def __init__(self, study: Study, on_change: OnChange) -> None:
        super().__init__()
        self.study = study
        self.on_change = on_change

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if "failure" in result:
            self.study.fail(number, result["failure"], result["reason"])
            decision = "stop"
        else:
            decision = self.study.report(number, result["report"])
        self.on_change(number)
        return str(TrialScheduler.CONTINUE if decision == "continue" else TrialScheduler.STOP)
