"""The study: the only state that matters. Optuna's database holds it, and every decision is taken here.

Ray executes what `ask` returns and tells `report`; MLflow mirrors. Opening a study that exists goes on with it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from models.config import ConfigError, InfeasibleError
from results.front import hypervolume
from results.load import trial_from_optuna
from results.study import StudyResult, TrialResult
from search import history, moasha, samplers
from search.events import EventLog
from search.feasible import refuse
from search.records import Record, Task, differences, study_notes
from search.samplers import Draw, Seen
from search.space import Space
from trainers.metrics import EpochMetrics

optuna.logging.set_verbosity(optuna.logging.WARNING)

Decision = Literal["continue", "stop"]
Outcome = Literal["continue", "stopped", "complete"]

MAX_REFUSED_IN_A_ROW = 200
MAX_DUPLICATES = 20
SAME_FAILURES = 5
"""This many failures of a kind that a config does not explain, in a row and alike, stop the search."""


class NothingFeasibleError(ConfigError):
    """Every config that was drawn was refused."""


class Study:
    """A search under way: which config comes next, who goes on, who is on the front."""

    def __init__(self, space: Space, folder: Path, storage: optuna.storages.BaseStorage) -> None:
        """Opens or creates the study in `storage`. Raises ConfigError when the space differs from the study's own."""
        self.space = space
        self.folder = folder
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=space.study,
            directions=list(space.objectives.values()),
            load_if_exists=True,
        )
        self.storage = self.optuna._storage
        self.records: dict[int, Record] = {}
        self._ended: dict[int, TrialResult] = {}
        self._alike: list[str] = []
        self._resumable: list[int] = []
        self.to_end: set[int] = set()  # trials that a user stopped and that may still run somewhere
        self._recipes = [(name, values) for name, values, problem in space.recipes() if problem is None]
        self._added: list[dict[str, Any]] = list(self.optuna.user_attrs.get("added", []))
        self._open_space()
        self._events = EventLog(folder / "events.jsonl")
        trials = self.optuna.get_trials(deepcopy=False)
        for trial in trials:
            self._remember(trial)
        for trial in trials:
            self._settle(self.records[trial.number], trial.user_attrs)
        self.unfinished = [r.number for r in self.records.values() if r.state == "running"]
        self._resumable = list(self.unfinished)
        self._started = time.monotonic()
        self._hours_before = float(self.optuna.user_attrs.get("hours", 0.0))

    def ask(self) -> Task | None:
        """Returns the next trial to run: one that an earlier driver left unfinished, else a new one, else None."""
        if self._resumable:
            return self._task(self.records[self._resumable.pop(0)])
        if not self.may_start():
            return None
        for _ in range(MAX_REFUSED_IN_A_ROW):
            draw, source = self._next_draw()
            try:
                config = self.space.config(draw.values)
                refuse(config, self.space.settings.constraints)
            except InfeasibleError as error:
                self._add({**self.space.base, **draw.values}, draw, source, str(error))
                continue
            return self._task(self._add(config.dump(), draw, source, None))
        raise NothingFeasibleError(f"{MAX_REFUSED_IN_A_ROW} configs in a row were refused; widen space or constraints")

    def is_over(self) -> bool:
        """Returns whether there is nothing left to run."""
        return not self._resumable and not self.may_start()

    def may_start(self) -> bool:
        """Returns whether the budget lets a new trial start."""
        budget = self.space.budget
        return (
            self.broken() is None
            and (budget.trials is None or len(self.started()) < budget.trials)
            and (budget.epochs_total is None or self.epochs_spent() < budget.epochs_total)
            and (budget.hours is None or self.hours() < budget.hours)
        )

    def report(self, number: int, report: EpochMetrics) -> Decision:
        """Decides on an epoch, and records both in one write before the decision is acted on.

        An epoch that is known already changes nothing: a trial that is taken up again reports its last one twice.
        """
        record = self.records[number]
        if record.state != "running":
            return "stop"
        if report.epoch in record.epochs:
            return "continue"
        outcome = self._outcome(number, report)
        if outcome != "continue":
            self._set(number, "layers", report.layers)
        content = {"metrics": report.metrics, "read_outs": report.read_outs, "outcome": outcome, "time": time.time()}
        self._set(number, f"epoch_{report.epoch:04d}", content)
        record.epochs[report.epoch] = report.metrics
        self._act(record, report, outcome)
        return "continue" if outcome == "continue" else "stop"

    def _outcome(self, number: int, report: EpochMetrics) -> Outcome:
        if report.epoch >= self.space.budget.epochs:
            return "complete"
        if report.epoch not in self.space.rungs():
            return "continue"
        rung = {**self.rung(report.epoch), number: history.point(self.space, report.metrics, minimise=True)}
        factor = self.space.settings.scheduler.reduction_factor
        return "continue" if moasha.survives(rung, number, factor) else "stopped"

    def _act(self, record: Record, report: EpochMetrics, outcome: Outcome) -> None:
        if report.epoch in self.space.rungs():
            decision = "stop" if outcome == "stopped" else "continue"
            point = history.point(self.space, report.metrics, minimise=True)
            self._events.write("decide", record.number, epoch=report.epoch, point=point, decision=decision)
        if outcome != "continue":
            self._end(record, outcome, report)

    def fail(self, number: int, kind: str, reason: str) -> None:
        """Records that a trial failed, and why."""
        record = self.records[number]
        if record.state != "running":
            return
        self._set(number, "failure", {"class": kind, "reason": reason})
        self.optuna.tell(number, state=TrialState.FAIL)
        record.state, record.failure = "failed", kind
        self._alike = [*self._alike, f"{kind}: {reason}"] if kind in ("error", "killed") else []
        self._events.write("fail", number, kind=kind)
        self._drop_checkpoints()

    def stop(self, number: int, note: str) -> None:
        """Ends a running trial as stopped for a reason that is no decision of a rung, and notes it."""
        record = self.records[number]
        if record.state != "running":
            return
        self._set(number, "note", note)
        if number in self._resumable:
            self._resumable.remove(number)
        self.to_end.add(number)
        self._events.write("stop", number, epoch=max(record.epochs, default=0), note=note)
        self._close(record, "stopped", max(record.epochs, default=0))

    def add(self, values: Mapping[str, Any]) -> int | None:
        """Puts values of the searched keys before all others that are still to run.

        Returns the trial that has them already, if one has. Raises ConfigError where they are outside the space.
        """
        inside = self.space.values_of(values)
        self.space.config(inside)
        known = next((record.number for record in self.records.values() if record.draw.values == inside), None)
        if known is None and inside not in self._added:
            self._added.append(inside)
            self.optuna.set_user_attr("added", self._added)
        return known

    def broken(self) -> str | None:
        """Returns the reason when the last trials all failed in the same way, which no further trial would mend."""
        last = self._alike[-SAME_FAILURES:]
        return last[0] if len(last) == SAME_FAILURES and len(set(last)) == 1 else None

    def rung(self, epoch: int) -> dict[int, list[float]]:
        """Returns the points, all to be minimised, of the trials that reached `epoch`; failed ones are no rivals."""
        return history.rung(self.space, self.records.values(), epoch)

    def result(self) -> StudyResult:
        """Returns everything so far in the form that fronts, plots and exports read."""
        return StudyResult(
            name=self.space.study,
            objectives=dict(self.space.objectives),
            searched=tuple(self.space.searched()),
            epochs=self.space.budget.epochs,
            constraints=self.space.raw.get("constraints", {}),
            trials=tuple(self.trial_result(record.number) for record in self.started()),
            attrs=self.optuna.user_attrs,
        )

    def trial_result(self, number: int) -> TrialResult:
        """Returns one trial as it stands in the database; ended ones are read once."""
        if number in self._ended:
            return self._ended[number]
        found = trial_from_optuna(self.storage.get_trial(self._trial_id(number)))
        if found.state != "running":
            self._ended[number] = found
        return found

    def hypervolume(self) -> float:
        return hypervolume(self.result())

    def started(self) -> list[Record]:
        """Returns the trials that count against the budget: all but those refused before training."""
        return [record for record in self.records.values() if record.failure != "infeasible"]

    def epochs_spent(self) -> int:
        """Returns the epochs trained by all trials together."""
        return sum(len(record.epochs) for record in self.records.values())

    def hours(self) -> float:
        """Returns the hours that this search has run, earlier runs included."""
        return self._hours_before + (time.monotonic() - self._started) / 3600

    def note_hours(self) -> None:
        """Writes down the time spent, for a search that goes on later."""
        self.optuna.set_user_attr("hours", self.hours())

    def close(self) -> None:
        """Lets go of the files."""
        self._events.close()
        self.storage.remove_session()

    def _next_draw(self) -> tuple[Draw, str]:
        number = len(self.records)
        for name, values in [*(("added", values) for values in self._added), *self._recipes]:
            if not any(r.draw.values == values for r in self.records.values()):
                return samplers.fixed(self.space, values), name
        history = self._history()
        known = [record.draw.values for record in self.records.values()]
        for attempt in range(MAX_DUPLICATES):
            draw = samplers.suggest(self.space, number, history, attempt)
            if draw.values not in known:
                break
        return draw, "sampler"

    def _history(self) -> list[Seen]:
        return history.seen(self.space, self.records.values())

    def _add(self, config: dict[str, Any], draw: Draw, source: str, refused: str | None) -> Record:
        """Writes a new trial to the database in one transaction, running or refused."""
        attrs = {"config": config, "source": source, "sampler_notes": draw.notes}
        if refused is not None:
            attrs["failure"] = {"class": "infeasible", "reason": refused}
        state = TrialState.RUNNING if refused is None else TrialState.FAIL
        self.optuna.add_trial(
            create_trial(state=state, params=draw.parameters, distributions=draw.distributions, user_attrs=attrs)
        )
        record = Record(len(self.records), draw, config)
        if refused is not None:
            record.state, record.failure = "failed", "infeasible"
        self.records[record.number] = record
        event = "ask" if refused is None else "refuse"
        self._events.write(event, record.number, values=draw.values, source=source)
        return record

    def _end(self, record: Record, state: Literal["complete", "stopped"], report: EpochMetrics) -> None:
        if report.is_at_chance:
            accuracy = report.metrics["accuracy"]
            self.fail(record.number, "at_chance", f"accuracy {accuracy:.2f} % is no better than a guess")
            return
        if state == "complete":
            trial = optuna.trial.Trial(self.optuna, self._trial_id(record.number))
            for key, violation in history.violations(self.space, report.metrics).items():
                trial.set_constraint(key, violation)
            self.optuna.tell(record.number, history.point(self.space, report.metrics))
        self._close(record, state, report.epoch)

    def _close(self, record: Record, state: Literal["complete", "stopped"], epoch: int) -> None:
        if state == "stopped":
            self.optuna.tell(record.number, state=TrialState.PRUNED)
        record.state = state
        self._alike.clear()
        self._events.write("finish", record.number, epoch=epoch, state=state)
        self._drop_checkpoints()

    def _settle(self, record: Record, attrs: Mapping[str, Any]) -> None:
        """Does what an earlier driver recorded but was killed before doing."""
        event = "refuse" if record.failure == "infeasible" else "ask"
        self._events.write(event, record.number, values=record.draw.values, source=attrs["source"])
        if record.state != "running":
            return
        if "failure" in attrs:
            self.fail(record.number, attrs["failure"]["class"], attrs["failure"]["reason"])
        elif "note" in attrs:
            self.stop(record.number, attrs["note"])
        elif record.epochs:
            last = max(record.epochs)
            content = attrs[f"epoch_{last:04d}"]
            report = EpochMetrics(last, content["metrics"], content["read_outs"], attrs.get("layers", []))
            self._act(record, report, content["outcome"])

    def _drop_checkpoints(self) -> None:
        """Deletes the checkpoints of trials that neither run nor are on the front."""
        keep = {record.number for record in self.records.values() if record.state == "running"}
        keep |= {point.trial for point in self.result().front()}
        for folder in (self.folder / "checkpoints").glob("t*"):
            if int(folder.name[1:]) not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _open_space(self) -> None:
        raw = json.loads(json.dumps(self.space.raw))
        before = self.optuna.user_attrs.get("space")
        if before is not None and (changed := differences(before, raw)):
            raise ConfigError(
                f"{self.folder} holds a study of another space; these differ: {', '.join(changed)}. "
                f"Give the new one another name (--name), or put the old values back"
            )
        for key, value in study_notes(self.space, raw).items():
            if self.optuna.user_attrs.get(key) != value:
                self.optuna.set_user_attr(key, value)

    def _remember(self, trial: FrozenTrial) -> None:
        known = trial_from_optuna(trial)
        values = self.space.draw(FixedTrial(trial.params))
        notes = trial.user_attrs.get("sampler_notes", {})
        draw = Draw(values, dict(trial.params), dict(trial.distributions), notes)
        record = Record(trial.number, draw, known.config, known.state, known.failure_class)
        record.epochs = {int(epoch["epoch"]): epoch for epoch in known.epochs}
        self.records[trial.number] = record

    def _task(self, record: Record) -> Task:
        folder = self.folder / "checkpoints" / f"t{record.number:04d}"
        return Task(record.number, record.config, str(folder.absolute()))

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)

    def _set(self, number: int, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._trial_id(number), key, value)


def open_storage(folder: Path) -> optuna.storages.BaseStorage:
    """Returns the SQLite storage in the study's folder."""
    return optuna.storages.RDBStorage(f"sqlite:///{(folder / 'study.db').absolute()}")
