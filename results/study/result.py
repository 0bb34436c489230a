"""Results of a search: its trials, the points they measured, and the Pareto front of these."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from config.files import write_atomic
from results import pareto
from results.metrics import ALL_METRICS, ResultsError, counted
from results.study import text, trial_table
from results.study.repeats import Repeats
from results.study.seeds import ATTRS, Confirmation, read_out_of
from results.study.trial import FrontPoint, TrialResult, TrialStatus

if TYPE_CHECKING:
    import pandas

STATES: tuple[TrialStatus, ...] = ("complete", "stopped", "failed", "running", "paused")


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A search: its objectives, constraints and trials, ordered by number.

    `objectives` maps metrics to `maximize` or `minimize`; `epochs` is full fidelity; `attrs` is the study's metadata
    (space, seed, versions, ...). Trials refused before training are only counted, in `num_infeasible`; MLflow does not
    hold this count.
    """

    name: str
    objectives: dict[str, str]
    searched: tuple[str, ...]
    epochs: int
    constraints: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: tuple[TrialResult, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    num_infeasible: int = field(default=0, compare=False)

    def __repr__(self) -> str:
        """Returns a summary: trials by state, objectives, searched keys and front."""
        return text.plain(self._headline(), self._settings(), self._front_table())

    def _repr_html_(self) -> str:
        """Returns the summary for a notebook."""
        return text.html(self._headline(), self._settings(), self._front_table())

    def to_dataframe(self, *, all_keys: bool = False) -> pandas.DataFrame:
        """Returns a row for each trial: state, epochs, last metrics, searched keys, failure, duration and source.

        With `all_keys`, the row holds all keys of the trial's train file. docs/report.md lists the columns.
        """
        import pandas

        names = self._columns(all_keys)
        return pandas.DataFrame(self._rows(names), columns=names)

    def by_config(self) -> pandas.DataFrame:
        """Returns a row for each config that was trained in full: means and standard deviations over its seeds.

        `trial` had the config first, `seeds` counts its full trainings, and `failed` its repeats that failed. Metrics
        are those at the trial's own read-out; for the other read-outs see `points`.
        """
        import pandas

        names = trial_table.config_columns(self.searched)
        originals = [trial for trial in self.select("complete") if trial.seed_of is None]
        rows = [
            trial_table.config_row(
                self.repeats.trainings.get(trial.number, (trial,)), self.repeats.failed.get(trial.number, 0), names
            )
            for trial in originals
        ]
        return pandas.DataFrame(rows, columns=names)

    def write_trials_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the rows of `to_dataframe` as CSV. Floats are written with all digits, so they read back equal."""
        names = self._columns()
        write_atomic(path, trial_table.to_csv(self._rows(names), names))

    def trial(self, number: int) -> TrialResult:
        """Returns the trial of that number. Raises ResultsError if there is none."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        numbers = sorted(trial.number for trial in self.trials)
        available = f"{len(numbers)} from {numbers[0]} to {numbers[-1]}" if numbers else "none"
        raise ResultsError(f"there is no trial {number} in {self.name}; it has {available}")

    def select(self, state: TrialStatus) -> tuple[TrialResult, ...]:
        """Returns the trials of one state."""
        return tuple(trial for trial in self.trials if trial.state == state)

    def waiting(self) -> tuple[TrialResult, ...]:
        """Returns the trials that were paused on the first fronts of their rungs when the search ended.

        `python -m search.run ... --finish` trains them to the end.
        """
        numbers = self.attrs.get("waiting") or ()
        return tuple(trial for trial in self.select("paused") if trial.number in numbers)

    def failures(self) -> dict[str, list[TrialResult]]:
        """Returns the failed trials by their failure class."""
        found: dict[str, list[TrialResult]] = {}
        for trial in self.select("failed"):
            found.setdefault(trial.failure_class or "error", []).append(trial)
        return found

    def points(self) -> list[FrontPoint]:
        """Returns the candidates for the front: read-outs of full-fidelity trials that satisfy the constraints.

        A read-out whose accuracy is no better than chance is not a candidate. A config that the search trained with
        several seeds counts once, by its means, as a point of the trial that had it first; it is no candidate if one of
        them failed. After a confirmation, points count by their means over fresh seeds, and the trials that it did not
        retrain are no candidates.
        """
        return list(self._points)

    def point(self, trial: int, read_step: int | None = None, exit_number: int = 0) -> FrontPoint:
        """Returns a trial's read-out, by default its own, or its exit point. Raises ResultsError if there is none."""
        return self._with_seeds(self.trial(trial).point(read_step, exit_number))

    def unconfirmed(self) -> StudyResult:
        """Returns the study as the search measured it, without the seeds of a confirmation."""
        attrs = {key: value for key, value in self.attrs.items() if key not in ATTRS}
        return self if len(attrs) == len(self.attrs) else replace(self, attrs=attrs)

    @cached_property
    def confirmation(self) -> Confirmation:
        """Returns the metrics over fresh seeds."""
        return Confirmation.from_attrs(self.attrs)

    @cached_property
    def repeats(self) -> Repeats:
        """Returns the configs that the search itself trained with several seeds."""
        return Repeats.from_trials(self.trials)

    def read_outs(self, *, confirmed: bool = True) -> list[FrontPoint]:
        """Returns all read-outs and exit points of full-fidelity trials; else those that a confirmation left out.

        A config with several seeds has each read-out once, with its means.
        """
        complete = [trial for trial in self.select("complete") if trial.seed_of is None]
        trials = [trial for trial in complete if self.confirmation.is_unconfirmed(trial.number) != confirmed]
        return [self._with_seeds(point) for trial in trials for point in trial.points()]

    def metrics_by_seed(self, point: FrontPoint) -> list[Mapping[str, float]]:
        """Returns the metrics of a point with each seed that its means are over."""
        if point.read_out in self.confirmation.validation:
            return [row for row in self.attrs["confirmed"] if read_out_of(row) == point.read_out]
        trainings = self.repeats.trainings.get(point.trial, ()) if point.seeds else ()
        points = (other for trial in trainings for other in trial.points())
        return [p.metrics for p in points if p.read_out[1:] == point.read_out[1:]] or [point.metrics]

    def without(self, numbers: Collection[int]) -> StudyResult:
        """Returns the study without these trials and their repeats."""
        if not numbers:
            return self
        return replace(
            self, trials=tuple(t for t in self.trials if t.number not in numbers and t.seed_of not in numbers)
        )

    def interrupted(self) -> StudyResult:
        """Returns the study without a driver: no trial runs, those that did are paused."""
        if not self.select("running"):
            return self
        trials = (replace(trial, state="paused") if trial.state == "running" else trial for trial in self.trials)
        return replace(self, trials=tuple(trials))

    def front(self) -> list[FrontPoint]:
        """Returns the non-dominated points, ordered by the first objective, best first.

        Of points that are equal in every objective, only the one with the lowest trial, then read-out, is returned.
        """
        return list(self._front)

    def reduced_to_front(self) -> StudyResult:
        """Returns the study with only those trials that determine its front and its hypervolume.

        These are the trials on the front and, for each objective, one with the worst value, which may be the reference
        point's.
        """
        needed = {point.trial for point in self._front}
        if self._objective_rows:
            for objective in range(len(self.objectives)):
                needed.add(max(self._objective_rows, key=lambda row: row[0][objective])[1].trial)
        found = replace(self, trials=tuple(t for t in self.trials if t.number in needed or t.seed_of in needed))
        vars(found)["_front"] = self._front  # unchanged, as explained above, so it is not computed again
        vars(found)["_points"] = tuple(point for point in self._points if point.trial in needed)
        return found

    def with_trial(self, trial: TrialResult) -> StudyResult:
        """Returns the study with one more trial, which repeats no config; the other points are not computed again."""
        found = replace(self, trials=(*self.trials, trial))
        vars(found)["_points"] = (*self._points, *self._candidates(trial))
        return found

    def knee(self) -> FrontPoint | None:
        """Returns the front's best compromise, or None if the front is empty."""
        front = self.front()
        return front[pareto.knee([self.values(point) for point in front])] if front else None

    def values(self, point: FrontPoint) -> tuple[float, ...]:
        """Returns the point's objectives as values to minimize."""
        return tuple(
            -point.metrics[name] if direction == "maximize" else point.metrics[name]
            for name, direction in self.objectives.items()
        )

    def direction(self, metric: str) -> str:
        """Returns whether to maximize or minimize a metric: from the objectives, else the metric's own direction."""
        return self.objectives.get(metric) or ALL_METRICS[metric].direction

    def _columns(self, all_keys: bool = False) -> list[str]:
        keys = dict.fromkeys(key for trial in self.trials for key in trial.config) if all_keys else ()
        return trial_table.columns([*self.searched, *keys])

    def _rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [trial_table.row(trial, names, self.searched) for trial in self.trials]

    def _headline(self) -> str:
        counts = ", ".join(f"{len(found)} {state}" for state in STATES if (found := self.select(state)))
        return f"study {self.name}: {counted(len(self.trials), 'trial')}{f' ({counts})' if counts else ''}"

    def _settings(self) -> dict[str, str]:
        return {
            "objectives": ", ".join(f"{direction} {name}" for name, direction in self.objectives.items()),
            "constraints": ", ".join(map(text.constraint, self.constraints, self.constraints.values())),
            "searched": ", ".join(self.searched),
            "full training": counted(self.epochs, "epoch"),
            "front": f"{counted(len(self._front), 'point')} of {counted(len(self._points), 'candidate')}",
        }

    def _front_table(self) -> list[list[str]]:
        """Returns the names of columns, then the first points of the front."""
        knee, names = self.knee(), list(dict.fromkeys([*self.objectives, *text.METRICS]))
        points = self._front[: text.MAX_ROWS]
        rows = [text.front_row(point, names, is_knee=point == knee) for point in points]
        return [["trial", "read", *names, "config"], *rows] if rows else []

    @cached_property
    def _points(self) -> tuple[FrontPoint, ...]:
        return tuple(point for trial in self.trials for point in self._candidates(trial))

    def _candidates(self, trial: TrialResult) -> list[FrontPoint]:
        is_candidate = trial.state == "complete" and trial.seed_of is None and trial.number not in self.repeats.failed
        if not is_candidate or self.confirmation.is_unconfirmed(trial.number):
            return []
        return [point for point in map(self._with_seeds, trial.points()) if self._is_candidate(point)]

    def _with_seeds(self, point: FrontPoint) -> FrontPoint:
        found = self.confirmation
        spreads = found.validation.get(point.read_out) or self.repeats.means.get(point.read_out)
        return point.with_seeds(spreads, found.test.get(point.read_out, {})) if spreads else point

    @cached_property
    def _front(self) -> tuple[FrontPoint, ...]:
        ordered = sorted(self._objective_rows, key=lambda row: (*row[0], *row[1].read_out))
        on_front = pareto.non_dominated([values for values, _ in ordered])
        distinct: dict[tuple[float, ...], FrontPoint] = {}
        for (values, point), is_on_front in zip(ordered, on_front, strict=True):
            if is_on_front:
                distinct.setdefault(values, point)
        return tuple(distinct.values())

    @cached_property
    def _objective_rows(self) -> list[tuple[tuple[float, ...], FrontPoint]]:
        return [(self.values(point), point) for point in self._points]

    def _is_candidate(self, point: FrontPoint) -> bool:
        if point.metrics.get("accuracy", math.inf) <= point.metrics.get("chance", -math.inf):
            return False
        values = [point.metrics.get(name, math.nan) for name in self.objectives]
        return all(map(math.isfinite, values)) and all(
            limits.get("min", -math.inf) <= point.metrics.get(name, math.nan) <= limits.get("max", math.inf)
            for name, limits in self.constraints.items()
        )


def build_study(name: str, attrs: Mapping[str, Any], trials: Iterable[TrialResult]) -> StudyResult:
    """Returns the study with these attributes and trials. Raises ResultsError if no search of ours wrote it."""
    missing = [key for key in ("objectives", "searched", "epochs") if key not in attrs]
    if missing:
        raise ResultsError(f"study {name} was not written by `python -m search.run`: it lacks {', '.join(missing)}")
    ordered = sorted(trials, key=lambda trial: trial.number)
    feasible = tuple(trial for trial in ordered if trial.failure_class != "infeasible")
    return StudyResult(
        name=name,
        objectives=dict(attrs["objectives"]),
        searched=tuple(attrs["searched"]),
        epochs=int(attrs["epochs"]),
        constraints=dict(attrs.get("constraints") or {}),
        trials=feasible,
        attrs=dict(attrs),
        num_infeasible=len(ordered) - len(feasible),
    )
