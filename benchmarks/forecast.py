"""Forecasts against the truth: `python -m benchmarks.forecast --json FILE [SPACE.yml ...]`.

TODO
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from config.document import Document
from config.strict_yaml import override
from search.algorithm.forecast import SearchPlan, TrialProgress, search_plan, seconds_left
from search.algorithm.scheduler import TrialScheduler
from search.simulation.simulator import CurveTable, Event, SimulatedCluster, Trace, simulate
from search.space import reader

ENDS = {"pause": "paused", "stop": "stopped", "complete": "complete", "fail": "failed", "cut": "stopped"}


def progress_at(trace: Trace, moment: float) -> list[TrialProgress]:
    """Returns the trials of a simulated search as they were at a moment."""
    found = []
    by_trial: dict[int, list[Event]] = {}
    for event in trace.events:
        by_trial.setdefault(event.trial, []).append(event)
    for events in by_trial.values():
        seen = [event for event in events if event.time <= moment]
        if not seen:
            continue
        last = seen[-1]
        state: Any = ENDS.get(last.state, "running")
        busy = sum(b.time - a.time for a, b in itertools.pairwise(seen) if a.state != "pause")
        epochs = float(last.epoch)
        if state == "running":
            if not epochs:
                busy += moment - last.time
        found.append(TrialProgress(epochs, busy, state))
    return found
