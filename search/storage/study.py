"""The state of a search: Optuna's database holds it, and every decision is written before it takes effect.

Ray trains what `next_task` returns and reports to `on_result`. MLflow is a mirror. Opening a study resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from results.study import StudyResult, TrialResult, build_study
from search.algorithm.scheduler import TrialScheduler, at_chance_reason
from search.algorithm.trial import ALIVE, Trial
from search.messages import TrialTask
from search.space.space import Space
from search.storage import event_log, optuna_trials, study_metadata
from search.storage.checkpoint_store import CheckpointStore, Cleaner, delete_except, store_uri
from search.storage.database import merge_journal, sync_to_disk
from search.storage.event_log import EventLog
from search.storage.optuna_trials import FAILURE, PROMOTED_AT, RETRIED, STOP_REASON, OptunaTrials
from trainers.epoch_metrics import EpochMetrics

WorkerDecision = Literal["continue", "stop"]

SAVE_HOURS_S = 60.0
"""Seconds between two writes of the time spent, which counts against a budget in hours also after a crash."""


class Study:
    """A search in progress: the scheduler that decides, the database and the event log that store its decisions."""

    def __init__(self, space: Space, folder: Path, storage: optuna.storages.BaseStorage) -> None:
        """Opens or creates the study in `storage`. Raises ConfigError if the space differs from the study's own."""
        self.space = space
        self.folder = folder
        self.optuna = optuna.create_study(
            storage=storage, study_name=space.study, directions=list(space.objectives.values()), load_if_exists=True
        )
        self._database = OptunaTrials(self.optuna)
        self._results: dict[int, tuple[str, int, TrialResult]] = {}
        self.scheduler = TrialScheduler(space, space.feasible_config, self.hours)
        self.trials = self.scheduler.trials
        self.to_stop: set[int] = set()  # stopped by the user, may still run on a worker
        self.to_requeue: set[int] = set()  # requeued as soon as their worker has ended
        uri = store_uri(space, Path("checkpoints"))
        self._store_cleaner = None if uri is None else Cleaner(uri)
        attrs = study_metadata.update_metadata(self.optuna, space, folder, self.scheduler.state())
        self.scheduler.load_state(attrs)
        self._has_finished = attrs.get(study_metadata.FINISHED_BUDGET) == study_metadata.search_end(attrs["space"])
        self.may_continue = False  # after `finish_front`
        self._events = EventLog(folder / event_log.NAME, self.scheduler.budget.seeds)
        self._started = self._hours_saved = time.monotonic()
        self.hours_before = float(attrs.get(study_metadata.HOURS, 0.0))
        for frozen in self.optuna.get_trials(deepcopy=False):
            self._restore(frozen)
        self._num_stored = len(self.trials)
        self.scheduler.on_restart(attrs.get(study_metadata.PEAK_PARALLEL, 0))
        self.unfinished = list(self.scheduler.running)
        for number in self.unfinished:
            self.requeue(number)
        self._saved_state = self.scheduler.state()
        self.front_result = self._measured_front()
        self._delete_checkpoints()

    def next_task(self) -> TrialTask | None:
        """Returns the next trial to train, resumed or new; None if none can start now."""
        budget = self.scheduler.budget
        self._events.set_seeds(budget.seeds)
        self._events.set_mode(budget.is_finishing, (trial.number for trial in budget.waiting()))
        try:
            assignment = self.scheduler.suggest()
        finally:  # refused configs are stored even if no feasible one was found
            for number in range(self._num_stored, len(self.trials)):
                self._add(self.trials[number])
        self._save_scheduler_state()
        if assignment is None:
            return None
        number, folder = assignment.number, _checkpoint_folder(assignment.number)
        if assignment.was_paused:
            self._database.set_attr(number, PROMOTED_AT, assignment.epoch)
            self._events.write("promote", number, epoch=assignment.epoch)
        sync_to_disk(self.folder)
        config = study_metadata.task_config(self.trials[number].config, self.space)
        path, exits = str((self.folder / folder).absolute()), self.space.settings.exit_settings
        return TrialTask(number, config, path, store_uri(self.space, folder), exits)

    def is_finished(self) -> bool:
        """Returns whether nothing remains to run; a finished search does not spend a remainder of its budget."""
        is_finishing = self.scheduler.budget.is_finishing
        is_over = self._has_finished and not is_finishing and not self.scheduler.has_queued()
        return is_over or self.scheduler.is_finished()

    def waiting(self) -> list[Trial]:
        """Returns the trials that `finish_front` would train, while none is being trained.

        They are paused on the first front of their rung, or were interrupted.
        """
        return [*self.scheduler.budget.waiting(), *self.scheduler.running.values()]

    def finish_front(self) -> None:
        """Starts no more trials, but trains those that wait to the end, whatever the budget.

        A search that was not finished can continue later.
        """
        self.may_continue = not self.is_finished()
        self.scheduler.finish_front()

    def on_result(self, number: int, report: EpochMetrics) -> WorkerDecision:
        """Decides on an epoch and stores both in one write before the decision takes effect.

        A resumed trial reports its last epoch twice; the second report changes nothing.
        """
        trial = self.trials[number]
        if trial.state != "running":
            return "stop"
        if report.epoch in trial.epochs:
            return "continue"
        if time.monotonic() - self._hours_saved > SAVE_HOURS_S:
            self.save_hours()
        decision = self.scheduler.decide(number, report)
        self._database.save_epoch(number, report, decision)
        self.scheduler.commit(number, report, decision)
        self._events.write(**event_log.decision_event(self.space, number, report, decision))
        if trial.state in ALIVE:
            sync_to_disk(self.folder)
        else:
            self._end(trial)
        return "continue" if decision == "continue" else "stop"

    def on_error(self, number: int, failure_class: str, reason: str) -> None:
        """Records the failure of a trial."""
        trial = self.trials[number]
        if trial.state == "running":
            self.scheduler.on_error(number, failure_class, reason)
            self._end(trial)

    def record_retry(self, number: int, failure_class: str, reason: str) -> bool:
        """Records that a failed trial is retried. Returns False if it was before, for this class of failure."""
        trial = self.trials[number]
        if trial.state != "running" or failure_class in trial.retried:
            return False
        trial.retried.add(failure_class)
        self._database.set_attr(number, f"{RETRIED}{failure_class}", reason)
        self._events.write("retry", number, failure_class=failure_class, reason=reason)
        return True

    def requeue(self, number: int) -> None:
        """Requeues a trial ahead of all others."""
        self.scheduler.requeue(number)

    def is_requeued(self, number: int) -> bool:
        """Returns whether a trial is queued to resume."""
        return number in self.scheduler.requeued

    def stop(self, number: int, reason: str) -> None:
        """Stops a running or paused trial for a reason other than a decision at a rung."""
        trial = self.trials[number]
        if trial.state not in ALIVE:
            return
        self._database.set_attr(number, STOP_REASON, reason)
        if trial.state == "running" and not self.is_requeued(number):
            self.to_stop.add(number)
        self.to_requeue.discard(number)
        self.scheduler.on_stop(number)
        self._events.write("stop", number, epoch=trial.epoch, stop_reason=reason)
        self._end(trial)

    def finish(self) -> None:
        """Ends the paused trials once nothing remains to run: as stopped, or as failed if at chance.

        Those on the first fronts of their rungs wait, and `finish_front` resumes them. After repeated failures, and if
        `finish_front` came before the end of the search, all remain paused, since a resumed search may continue.
        """
        if self.repeated_failure() is not None or self.may_continue:
            return
        paused = [trial for trial in self.trials.values() if trial.state == "paused"]
        for trial in (trial for trial in paused if trial.epoch in trial.at_chance):
            self.scheduler.on_error(trial.number, "at_chance", at_chance_reason(trial.epochs[trial.epoch]))
            self._end(trial)
        waiting = sorted(trial.number for trial in self.waiting())  # without those that have failed
        for trial in (trial for trial in paused if trial.state == "paused" and trial.number not in waiting):
            self.scheduler.on_stop(trial.number)
            self._end(trial)
        self.optuna.set_user_attr(study_metadata.WAITING, waiting)
        if not self.scheduler.budget.space_exhausted:
            self.optuna.set_user_attr(study_metadata.FINISHED_BUDGET, study_metadata.search_end(self.space.raw))

    def download_front_checkpoints(self) -> None:
        """Copies the checkpoints of the front from the checkpoint store, if there is one, into the study's folder."""
        for number in self._front_trials():
            folder = _checkpoint_folder(number)
            if (uri := store_uri(self.space, folder)) is not None:
                CheckpointStore(uri).download(self.folder / folder)

    def enqueue(self, values: Mapping[str, Any]) -> int | None:
        """Queues values of the searched keys to run before all other new configs.

        Returns the trial that has them already, if any. Raises ConfigError if they are not a point of the space.
        """
        inside = self.space.values_of(values)
        self.space.train_config(inside)
        existing = self.scheduler.enqueue(inside)
        self._save_scheduler_state()
        return existing

    def repeated_failure(self) -> str | None:
        """Returns the common reason if the last trials all failed in the same way, else None."""
        return self.scheduler.repeated_failure()

    def result(self) -> StudyResult:
        """Returns all results so far."""
        trials = [self.trial_result(number) for number in self.trials]
        return build_study(self.space.study, self.optuna.user_attrs, trials)

    def trial_result(self, number: int) -> TrialResult:
        """Returns the stored results of a trial; a trial that does not run is read from the database once."""
        trial = self.trials[number]
        state, epoch, result = self._results.get(number, (None, 0, None))
        if result is None or (state, epoch) != (trial.state, trial.epoch):
            result = self._database.result(number)
            if trial.state != "running":
                self._results[number] = (trial.state, trial.epoch, result)
        return result

    def started(self) -> list[Trial]:
        """Returns all trials but those refused before training."""
        return [trial for trial in self.trials.values() if trial.infeasible is None]

    def hours(self) -> float:
        """Returns the hours that the search has run, earlier runs included."""
        return self.hours_before + (time.monotonic() - self._started) / 3600

    def save_hours(self) -> None:
        """Stores the time spent."""
        self._hours_saved = time.monotonic()
        self.optuna.set_user_attr(study_metadata.HOURS, self.hours())

    def record_confirmation(self, rows: list[dict[str, Any]]) -> None:
        """Stores the validation metrics of all trainings with fresh seeds."""
        self.optuna.set_user_attr(study_metadata.CONFIRMED, rows)

    def end_confirmation(self, failed: Mapping[int, str], skipped: Iterable[int]) -> None:
        """Stores the complete trials that a confirmation compared, and those that failed with a new seed.

        A trial in `skipped` could not be trained; it still counts by its own training.
        """
        complete = {trial.number for trial in self.trials.values() if trial.state == "complete"}
        content = {"trials": sorted(complete.difference(skipped)), "failed": {str(n): failed[n] for n in failed}}
        self.optuna.set_user_attr(study_metadata.CONFIRMATION, content)

    def record_test(self, rows: list[dict[str, Any]]) -> None:
        """Stores test metrics together with the time at which the test set was read."""
        content = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rows": rows}
        self.optuna.set_user_attr(study_metadata.TESTED, content)

    def close(self) -> None:
        """Closes the files and the database session."""
        self._events.close()
        if self._store_cleaner is not None:
            self._store_cleaner.close()
        self.optuna._storage.remove_session()
        merge_journal(self.folder)

    def _save_scheduler_state(self) -> None:
        """Stores the changes of the scheduler's state, except trials."""
        saved, self._saved_state = self._saved_state, self.scheduler.state()
        for key, value in self._saved_state.items():
            if value != saved[key]:
                self.optuna.set_user_attr(key, value)

    def _add(self, trial: Trial) -> None:
        self._database.add(trial)
        self._num_stored += 1
        self._events.write(**event_log.suggestion_event(trial))

    def _end(self, trial: Trial) -> None:
        """Closes a trial, then updates the front and deletes checkpoints that are no longer needed."""
        self._database.close(self.space, trial)
        self._log_end(trial)
        sync_to_disk(self.folder)
        if trial.seed_of is not None or self.scheduler.budget.seeds > 1:
            self.front_result = self._measured_front()  # the means of other trials may have changed
        elif trial.state == "complete":
            self.front_result = self.front_result.with_trial(self.trial_result(trial.number)).reduced_to_front()
        self._delete_checkpoints()

    def _log_end(self, trial: Trial) -> None:
        if trial.state == "failed":
            self._events.write("fail", trial.number, failure_class=trial.failure_class, reason=trial.reason)
        else:
            self._events.write("finish", trial.number, epoch=trial.epoch, state=trial.state)

    def _restore(self, frozen: FrozenTrial) -> None:
        """Repeats the stored decisions on a trial, and completes those that a killed driver left half done."""
        trial, attrs = optuna_trials.stored_trial(self.space, frozen), frozen.user_attrs
        rungs = self.scheduler.brackets.bracket_of(trial.number).rungs
        self.scheduler.restore(trial)
        self._events.write(**event_log.suggestion_event(trial))
        for failure_class in sorted(trial.retried):
            reason = attrs[f"{RETRIED}{failure_class}"]
            self._events.write("retry", trial.number, failure_class=failure_class, reason=reason)
        for report, decision in optuna_trials.stored_epochs(frozen):
            self.scheduler.commit(trial.number, report, decision)
            self._events.write(**event_log.decision_event(self.space, trial.number, report, decision))
            is_open = frozen.state == TrialState.RUNNING and report.epoch not in rungs  # paused by an earlier algorithm
            if decision == "pause" and (is_open or attrs.get(PROMOTED_AT, 0) >= report.epoch):
                self.scheduler.promote(trial.number, report.epoch)
                self._events.write("promote", trial.number, epoch=report.epoch)
        if trial.infeasible is None:
            self._restore_end(trial, frozen)

    def _restore_end(self, trial: Trial, frozen: FrozenTrial) -> None:
        attrs = frozen.user_attrs
        if FAILURE in attrs:
            self.scheduler.on_error(trial.number, attrs[FAILURE]["class"], attrs[FAILURE]["reason"])
        elif STOP_REASON in attrs:
            self.scheduler.on_stop(trial.number)
            self._events.write("stop", trial.number, epoch=trial.epoch, stop_reason=attrs[STOP_REASON])
        elif frozen.state == TrialState.PRUNED:
            self.scheduler.on_stop(trial.number)
        if trial.state not in ALIVE:
            if frozen.state == TrialState.RUNNING:
                self._database.close(self.space, trial)
            self._log_end(trial)

    def _measured_front(self) -> StudyResult:
        """Returns the search's own results without configs that lack a seed, reduced to what determines their front."""
        return self.result().unconfirmed().without(self.scheduler.budget.unsettled()).reduced_to_front()

    def _front_trials(self) -> set[int]:
        """Returns the trials on the front, and those that their further seeds may bring there."""
        return {point.trial for point in self.front_result.front()} | self.scheduler.budget.unsettled()

    def _delete_checkpoints(self) -> None:
        """Deletes the checkpoints of ended trials that are not on the front."""
        keep = self._front_trials() | {trial.number for trial in self.trials.values() if trial.state in ALIVE}
        delete_except(self.folder / "checkpoints", keep)
        if self._store_cleaner is not None:
            ended = (trial.number for trial in self.started() if trial.number not in keep)
            self._store_cleaner.delete({_checkpoint_folder(number).name for number in ended})


def _checkpoint_folder(number: int) -> Path:
    """Returns the folder of a trial's checkpoints inside that of the study."""
    return Path("checkpoints") / f"t{number:04d}"
