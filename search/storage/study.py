"""The study: the only state that matters. Optuna's database holds it; every decision is written before it is acted on.

Ray executes what `ask` returns and tells `report`; MLflow mirrors. Opening a study that exists goes on with it.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from config.errors import ConfigError
from results.analysis.front import hypervolume
from results.load import trial_from_optuna
from results.study import StudyResult, TrialResult
from search.algorithm.acquisition import FittedShapes
from search.algorithm.samplers import Suggestion
from search.algorithm.scheduler import Decision, TrialScheduler, at_chance_reason
from search.algorithm.trial import ALIVE, Trial
from search.messages import TrialTask
from search.space import objectives
from search.space.space import Space
from search.storage.checkpoint_store import CheckpointStore, Cleaner, store_uri
from search.storage.database import merge_journal, sync_to_disk
from search.storage.event_log import EventLog, decision_event, suggestion_event
from search.storage.study_metadata import incompatible_changes, machine_values, metadata_of
from trainers.epoch_metrics import EpochMetrics

WorkerDecision = Literal["continue", "stop"]

SAVE_HOURS_S = 60.0
"""The time spent is written down so often: it counts against a budget in hours, also after a crash."""


class Study:
    """A search under way: the policy's decisions and the database that remembers them."""

    def __init__(self, space: Space, folder: Path, storage: optuna.storages.BaseStorage) -> None:
        """Opens or creates the study in `storage`. Raises ConfigError when the space differs from the study's own."""
        self.space = space
        self.folder = folder
        self.optuna = optuna.create_study(
            storage=storage, study_name=space.study, directions=list(space.objectives.values()), load_if_exists=True
        )
        self.storage = self.optuna._storage
        self.scheduler = TrialScheduler(space, self.hours)
        self.trials = self.scheduler.trials
        self._written = 0
        self._read: dict[int, tuple[str, int, TrialResult]] = {}
        kept = store_uri(space, Path("checkpoints"))
        self._store_cleaner = None if kept is None else Cleaner(kept)
        self.to_end: set[int] = set()  # trials that a user stopped and that may still run somewhere
        self.to_requeue: set[int] = set()  # trials to be handed out again once they run nowhere
        if "forecast" in self.optuna.user_attrs:
            self.scheduler.acquisition.fit = FittedShapes(**self.optuna.user_attrs["forecast"])
        self.scheduler.candidates.queue = list(self.optuna.user_attrs.get("added", []))
        self._open_space()
        self._has_ended = self.optuna.user_attrs.get("ended") == space.raw["budget"]
        self._events = EventLog(folder / "events.jsonl")
        self._started = self._noted = time.monotonic()
        self.hours_before = float(self.optuna.user_attrs.get("hours", 0.0))
        for trial in self.optuna.get_trials(deepcopy=False):
            self._restore(trial)
        self.scheduler.on_restart(self.optuna.user_attrs.get("together", 0))
        self.unfinished = [r.number for r in self.trials.values() if r.state == "running"]
        self.scheduler.resumable = list(self.unfinished)
        self.leading = self.result().leading()
        """The trials on which the front and the hypervolume depend, kept as trials end."""
        self._delete_checkpoints()

    def next_task(self) -> TrialTask | None:
        """Returns the next job, a trial that goes on or a new one; None where nothing can start now."""
        fit, peak = self.scheduler.acquisition.fit, self.scheduler.budget.peak_parallel
        try:
            job = self.scheduler.suggest()
        finally:  # what was refused is known to the next start, also where nothing else was found
            for number in range(self._written, len(self.trials)):
                self._add(self.trials[number])
        if self.scheduler.acquisition.fit != fit:
            self.optuna.set_user_attr("forecast", asdict(self.scheduler.acquisition.fit))
        if self.scheduler.budget.peak_parallel != peak:
            self.optuna.set_user_attr("together", self.scheduler.budget.peak_parallel)
        if job is None:
            return None
        record = self.trials[job.number]
        if job.was_paused:
            self._set(job.number, "promoted", job.epoch)
            self._events.write("promote", job.number, epoch=job.epoch)
        sync_to_disk(self.folder)
        folder = Path("checkpoints") / f"t{job.number:04d}"
        kept = store_uri(self.space, folder)
        config = {**record.config, **machine_values(self.space)}
        return TrialTask(job.number, config, str((self.folder / folder).absolute()), kept)

    def is_finished(self) -> bool:
        """Returns whether there is nothing left to run; what a search left when it ended is no budget for the next."""
        return (self._has_ended and self.scheduler.candidates.next_queued() is None) or self.scheduler.is_finished()

    def on_result(self, number: int, report: EpochMetrics) -> WorkerDecision:
        """Decides on an epoch, and records both in one write before the decision is acted on.

        An epoch that is known already changes nothing: a trial that is taken up again reports its last one twice.
        """
        record = self.trials[number]
        if record.state != "running":
            return "stop"
        if report.epoch in record.epochs:
            return "continue"
        if time.monotonic() - self._noted > SAVE_HOURS_S:
            self.save_hours()
        outcome = self.scheduler.decide(number, report)
        if outcome != "continue":
            self._set(number, "layers", report.layers)
        content = {"metrics": report.metrics, "read_outs": report.read_outs, "outcome": outcome, "time": time.time()}
        self._set(number, f"epoch_{report.epoch:04d}", content)
        self.scheduler.commit(number, report, outcome)
        self._apply(record, report, outcome)
        return "continue" if outcome == "continue" else "stop"

    def on_error(self, number: int, kind: str, reason: str) -> None:
        """Records that a trial failed, and why."""
        record = self.trials[number]
        if record.state != "running":
            return
        self._set(number, "failure", {"class": kind, "reason": reason})
        self.scheduler.on_error(number, kind, reason)
        self._end(record)

    def may_retry(self, number: int, kind: str, reason: str) -> bool:
        """Returns whether a trial that failed so may be tried again: once, also when the search is started anew."""
        record = self.trials[number]
        if record.state != "running" or kind in record.retried:
            return False
        record.retried.add(kind)
        self._set(number, f"retried_{kind}", reason)
        self._events.write("retry", number, kind=kind, reason=reason)
        return True

    def requeue(self, number: int) -> None:
        """Has a trial that runs no more handed out once again, before all others."""
        self.scheduler.resumable.append(number)

    def is_requeued(self, number: int) -> bool:
        """Returns whether a trial that has not ended waits to be handed out again."""
        return number in self.scheduler.resumable

    def stop(self, number: int, note: str) -> None:
        """Ends a running or paused trial as stopped for a reason that is no decision of a rung, and notes it."""
        record = self.trials[number]
        if record.state not in ALIVE:
            return
        self._set(number, "note", note)
        if record.state == "running" and number not in self.scheduler.resumable:
            self.to_end.add(number)
        self.scheduler.on_stop(number)
        self._events.write("stop", number, epoch=record.epoch, note=note)
        self._end(record)

    def finish(self) -> None:
        """Ends the trials that still wait, once nothing is left to run: they were stopped where they waited."""
        for record in list(self.trials.values()):
            if record.state != "paused":
                continue
            if record.epoch in record.at_chance:
                record.state = "running"
                self.on_error(record.number, "at_chance", at_chance_reason(record.epochs[record.epoch]))
            else:
                self.scheduler.on_stop(record.number)
                self._end(record)
        if not self.scheduler.budget.space_exhausted:
            self.optuna.set_user_attr("ended", self.space.raw["budget"])

    def download_front_checkpoints(self) -> None:
        """Copies the checkpoints of the front into the study's folder, where they are kept elsewhere."""
        for number in {point.trial for point in self.leading.front()}:
            folder = Path("checkpoints") / f"t{number:04d}"
            if (address := store_uri(self.space, folder)) is not None:
                CheckpointStore(address).download(self.folder / folder)

    def enqueue(self, values: Mapping[str, Any]) -> int | None:
        """Puts values of the searched keys before all others that are still to run.

        Returns the trial that has them already, if one has. Raises ConfigError where they are outside the space.
        """
        inside = self.space.values_of(values)
        self.space.train_config(inside)
        known = self.scheduler.candidates.find(inside)
        if known is None and inside not in self.scheduler.candidates.queue:
            self.scheduler.candidates.queue.append(inside)
            self.optuna.set_user_attr("added", self.scheduler.candidates.queue)
        return known

    def repeated_failure(self) -> str | None:
        """Returns the reason when the last trials all failed in the same way, which no further trial would mend."""
        return self.scheduler.repeated_failure()

    def result(self) -> StudyResult:
        """Returns everything so far in the form that fronts, plots and exports read."""
        return StudyResult(
            name=self.space.study,
            objectives=dict(self.space.objectives),
            searched=tuple(self.space.searched_keys()),
            epochs=self.space.budget.epochs,
            constraints=self.space.constraint_bounds(),
            trials=tuple(self.trial_result(record.number) for record in self.started()),
            attrs=self.optuna.user_attrs,
        )

    def trial_result(self, number: int) -> TrialResult:
        """Returns one trial as it stands in the database; those that have ended or wait are read once."""
        record = self.trials[number]
        state, epoch, found = self._read.get(number, (None, 0, None))
        if found is None or (state, epoch) != (record.state, record.epoch):
            found = trial_from_optuna(self.storage.get_trial(self._trial_id(number)))
            if record.state != "running":
                self._read[number] = (record.state, record.epoch, found)
        return found

    def hypervolume(self) -> float:
        return hypervolume(self.leading)

    def started(self) -> list[Trial]:
        """Returns the trials that were trained: all but those refused before."""
        return [record for record in self.trials.values() if record.failure_class != "infeasible"]

    def epochs_spent(self) -> int:
        """Returns the epochs trained by all trials together."""
        return self.scheduler.budget.epochs_spent

    def hours(self) -> float:
        """Returns the hours that this search has run, earlier runs included."""
        return self.hours_before + (time.monotonic() - self._started) / 3600

    def save_hours(self) -> None:
        """Writes down the time spent, for a search that goes on later."""
        self._noted = time.monotonic()
        self.optuna.set_user_attr("hours", self.hours())

    def close(self) -> None:
        """Lets go of the files."""
        self._events.close()
        if self._store_cleaner is not None:
            self._store_cleaner.close()
        self.storage.remove_session()
        merge_journal(self.folder)

    def _add(self, record: Trial) -> None:
        """Writes a new trial to the database in one transaction, running or refused."""
        attrs: dict[str, Any] = {
            "config": record.config,
            "source": record.source,
            "sampler_notes": record.suggestion.sampler_attrs,
        }
        if record.seed_of is not None:
            attrs["seed_of"] = record.seed_of
        if record.infeasible is not None:
            attrs["failure"] = {"class": "infeasible", "reason": record.infeasible}
        state = TrialState.RUNNING if record.infeasible is None else TrialState.FAIL
        draw = record.suggestion
        self.optuna.add_trial(
            create_trial(state=state, params=draw.parameters, distributions=draw.distributions, user_attrs=attrs)
        )
        self._written += 1
        self._events.write(**suggestion_event(record))

    def _apply(self, record: Trial, report: EpochMetrics, outcome: Decision) -> None:
        """Does what was decided on an epoch that is written; doing it twice changes nothing."""
        self._log_epoch(record, report, outcome)
        if record.state == "failed":
            reason = at_chance_reason(report.metrics)
            self._set(record.number, "failure", {"class": record.failure_class, "reason": reason})
        if outcome in ("stop", "complete"):
            self._end(record, report)
        else:
            sync_to_disk(self.folder)

    def _log_epoch(self, record: Trial, report: EpochMetrics, outcome: Decision) -> None:
        self._events.write(**decision_event(self.space, record.number, report, outcome))

    def _end(self, record: Trial, report: EpochMetrics | None = None) -> None:
        """Closes a trial, and does what follows from it for the others."""
        self._close(record, report)
        sync_to_disk(self.folder)
        if record.state == "complete":
            self.leading = self.leading.joined(self.trial_result(record.number)).leading()
        self._delete_checkpoints()

    def _close(self, record: Trial, report: EpochMetrics | None = None) -> None:
        """Tells the database that a trial has ended, and how."""
        if record.state == "failed":
            self._close_in_optuna(record, TrialState.FAIL)
            self._events.write("fail", record.number, kind=record.failure_class, reason=record.reason)
        elif record.state == "complete" and report is not None:
            for key, violation in objectives.violations(self.space, report.at_step).items():
                optuna.trial.Trial(self.optuna, self._trial_id(record.number)).set_constraint(key, violation)
            self._close_in_optuna(record, TrialState.COMPLETE, objectives.point(self.space, report.at_step))
        else:
            self._close_in_optuna(record, TrialState.PRUNED)
        if record.state != "failed":
            self._events.write("finish", record.number, epoch=record.epoch, state=record.state)

    def _close_in_optuna(self, record: Trial, state: TrialState, values: list[float] | None = None) -> None:
        """Ends a trial in the database: what Optuna's own `tell` does, without reading the trial first."""
        self.storage.set_trial_state_values(self._trial_id(record.number), state, values)

    def _restore(self, trial: FrozenTrial) -> None:
        """Takes in a trial of an earlier run, and does what was recorded of it but not done."""
        known, attrs = trial_from_optuna(trial), trial.user_attrs
        draw = Suggestion(
            self.space.suggest(FixedTrial(trial.params)),
            dict(trial.params),
            dict(trial.distributions),
            attrs.get("sampler_notes", {}),
        )
        record = Trial(trial.number, draw, known.config, source=attrs["source"], seed_of=attrs.get("seed_of"))
        if known.failure_class == "infeasible":
            record.state, record.failure_class, record.infeasible = "failed", "infeasible", known.failure_reason
        record.retried = {key.removeprefix("retried_") for key in attrs if key.startswith("retried_")}
        self.scheduler.restore(record)
        self._written += 1
        self._events.write(**suggestion_event(record))
        for kind in sorted(record.retried):
            self._events.write("retry", record.number, kind=kind, reason=attrs[f"retried_{kind}"])
        for epoch in map(int, (epoch["epoch"] for epoch in known.epochs)):
            content = attrs[f"epoch_{epoch:04d}"]
            layers = attrs.get("layers", []) if epoch == known.num_epochs else []
            report = EpochMetrics(epoch, content["metrics"], content["read_outs"], layers)
            self.scheduler.commit(record.number, report, content["outcome"])
            self._log_epoch(record, report, content["outcome"])
            if content["outcome"] == "pause" and attrs.get("promoted", 0) >= epoch:
                self.scheduler.promote(record.number, epoch)
                self._events.write("promote", record.number, epoch=epoch)
        self._reconcile(trial, record)

    def _reconcile(self, trial: FrozenTrial, record: Trial) -> None:
        """Brings a remembered trial to the state that the database has, or the database to what was decided."""
        attrs = trial.user_attrs
        if record.infeasible is not None:
            return
        if "failure" in attrs:
            self.scheduler.on_error(record.number, attrs["failure"]["class"], attrs["failure"]["reason"])
        elif "note" in attrs:
            self.scheduler.on_stop(record.number)
            self._events.write("stop", record.number, epoch=record.epoch, note=attrs["note"])
        elif trial.state == TrialState.PRUNED:
            self.scheduler.on_stop(record.number)
        if record.state in ALIVE:
            return
        if trial.state == TrialState.RUNNING:
            last = attrs.get(f"epoch_{record.epoch:04d}")
            report = None if last is None else EpochMetrics(record.epoch, last["metrics"], last["read_outs"], [])
            if record.failure_class == "at_chance" and report is not None:
                self._set(record.number, "failure", {"class": "at_chance", "reason": at_chance_reason(report.metrics)})
            self._close(record, report)
        elif record.state == "failed":
            self._events.write("fail", record.number, kind=record.failure_class, reason=record.reason)
        else:
            self._events.write("finish", record.number, epoch=record.epoch, state=record.state)

    def _delete_checkpoints(self) -> None:
        """Deletes the checkpoints of trials that neither run nor wait nor are on the front."""
        keep = {record.number for record in self.trials.values() if record.state in ALIVE}
        keep |= {point.trial for point in self.leading.front()}
        for folder in (self.folder / "checkpoints").glob("t*"):
            if folder.name[1:].isdecimal() and int(folder.name[1:]) not in keep:
                shutil.rmtree(folder, ignore_errors=True)
        if self._store_cleaner is not None:
            ended = {record.number for record in self.trials.values() if record.failure_class != "infeasible"} - keep
            self._store_cleaner.delete({f"t{number:04d}" for number in ended})

    def _open_space(self) -> None:
        raw = json.loads(json.dumps(self.space.raw))
        if changed := incompatible_changes(self.optuna.user_attrs, self.space, raw):
            raise ConfigError(
                f"{self.folder} holds a study of another space; these differ: {', '.join(changed)}. "
                f"Give the new one another name (--name), or put the old values back"
            )
        if "id" not in self.optuna.user_attrs:  # tells it in MLflow from others of its name
            self.optuna.set_user_attr("id", uuid.uuid4().hex)
        if "start_with" in self.optuna.user_attrs:  # an earlier study may have gone on since
            self.scheduler.candidates.initial = [
                (name, values) for name, values in self.optuna.user_attrs["start_with"]
            ]
        else:
            self.optuna.set_user_attr("start_with", self.scheduler.candidates.initial)
        if self.optuna.user_attrs.get("space", {}).get("budget") != raw["budget"]:
            self.optuna.set_user_attr("together", 0)  # another budget may be for other machines
        for key, value in metadata_of(self.space, raw).items():
            if self.optuna.user_attrs.get(key) != value:
                self.optuna.set_user_attr(key, value)

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)

    def _set(self, number: int, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._trial_id(number), key, value)
