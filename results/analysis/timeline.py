"""Timeline of a search: when each trial ran, on which of the parallel slots, and the hours that the search ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from results.study import StudyResult, TrialResult

MAX_IDLE_S = 60.0
"""A longer time without a running trial, as between two runs of one search, does not count as hours of the search."""

RESUMED, INTERRUPTED = 1.5, 10.0
"""An epoch that took this many of the trial's median epochs, after a pause and otherwise, began after a break."""


PEAK_PARALLEL = "together"
"""Attribute of a study: the largest number of trials that ran at the same time."""


@dataclass(frozen=True)
class Run:
    """A stretch in which a trial ran, in seconds since 1970. `slot` counts the trials that ran in parallel from 0."""

    trial: TrialResult
    start: float
    end: float
    slot: int = 0


def has_times(study: StudyResult) -> bool:
    """Returns whether the times of all epochs are known; MLflow does not hold them."""
    measured = [trial for trial in study.trials if trial.epochs]
    return bool(measured) and all(t.started is not None and len(t.times) == len(t.epochs) for t in measured)


def runs(study: StudyResult) -> list[Run]:
    """Returns when trials ran, each on the first free slot, by start; empty without times.

    The start after a pause is not recorded. It is estimated: one median epoch before the end of the next epoch.
    """
    if not has_times(study):
        return []
    now = max(moment for trial in study.trials for moment in (trial.started or 0.0, trial.ended or 0.0, *trial.times))
    found = [run for trial in study.trials for run in _runs_of(trial, now)]
    ordered = sorted(found, key=lambda run: (run.start, run.trial.number))
    return list(_on_slots(ordered, int(study.attrs.get(PEAK_PARALLEL) or 0)))


def trained_s(trial: TrialResult) -> float:
    """Returns the seconds in which a trial trained its finished epochs, without breaks."""
    if trial.started is None or len(trial.times) != len(trial.epochs):
        return 0.0
    return sum(end - start for start, end in zip(_epoch_starts(trial), trial.times, strict=True))


def search_hours(found: Sequence[Run]) -> Callable[[float], float]:
    """Returns a function from seconds since 1970 to hours of the search, without the time when no trial ran."""
    busy: list[list[float]] = []
    for run in sorted(found, key=lambda run: run.start):
        if busy and run.start <= busy[-1][1] + MAX_IDLE_S:
            busy[-1][1] = max(busy[-1][1], run.end)
        else:
            busy.append([run.start, run.end])
    moments = [moment for stretch in busy for moment in stretch] or [0.0]
    steps = [(end - start) * (index % 2 == 0) for index, (start, end) in enumerate(pairwise(moments))]
    hours = np.cumsum([0.0, *steps]) / 3600
    return lambda moment: float(np.interp(moment, moments, hours))


def _runs_of(trial: TrialResult, now: float) -> Iterator[Run]:
    if trial.started is None:
        return
    starts = _epoch_starts(trial)
    begin, end = trial.started, trial.started
    for start, moment in zip(starts, trial.times, strict=True):
        if start > end:  # a break before this epoch
            yield Run(trial, begin, end)
            begin = start
        end = max(end, moment)
    is_paused = bool(trial.epochs) and trial.num_epochs in trial.pauses
    if trial.state == "running" and not is_paused:
        end = max(end, now)
    elif trial.ended is not None and (not trial.epochs or (trial.state == "failed" and not is_paused)):
        end = max(end, trial.ended)
    yield Run(trial, begin, end)


def _epoch_starts(trial: TrialResult) -> list[float]:
    """Returns the start of each epoch: the end of the one before, or later if a break lay between them."""
    assert trial.started is not None
    ends = [trial.started, *trial.times]
    spans = [max(end - start, 0.0) for start, end in pairwise(ends)]
    after_pause = [False, *(int(epoch["epoch"]) in trial.pauses for epoch in trial.epochs[:-1])]
    own = [span for span, paused in zip(spans[1:], after_pause[1:], strict=True) if not paused]
    typical = median(own or spans[:1] or [0.0])  # the first epoch includes the start of the worker
    starts = []
    for start, end, span, paused in zip(ends, ends[1:], spans, after_pause, strict=False):
        is_break = start != trial.started and span > (RESUMED if paused else INTERRUPTED) * typical
        starts.append(end - typical if is_break else start)
    return starts


def _on_slots(found: Sequence[Run], known: int) -> Iterator[Run]:
    """Yields the runs with their slots. Beyond the `known` number of slots, a run whose start is late by up to half of
    its length is taken to have waited for a slot, since the start after a pause is an estimate.
    """
    free_from: list[float] = []
    for run in found:
        slot = next((slot for slot, moment in enumerate(free_from) if moment <= run.start), len(free_from))
        start = run.start
        if slot >= known > 0:
            first = min(range(len(free_from)), key=free_from.__getitem__)
            if free_from[first] <= (run.start + run.end) / 2:
                slot, start = first, free_from[first]
        free_from[slot : slot + 1] = [run.end]
        yield Run(run.trial, start, run.end, slot)
