"""Results of a search: load a study, read its front, export train files.

study = results.load("runs/quickstart")
for point in study.front():
    print(point.trial, point.read_step, point.metrics["accuracy"], point.metrics["spike_rate"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from results.front import hypervolume, reference_point, write_front_csv
from results.load import load
from results.metrics import METRICS, ResultsError
from results.study import FrontPoint, StudyResult, TrialResult

if TYPE_CHECKING:
    from results.plots import front_figure, write_front_png

__all__ = [
    "METRICS",
    "FrontPoint",
    "ResultsError",
    "StudyResult",
    "TrialResult",
    "front_figure",
    "hypervolume",
    "load",
    "reference_point",
    "write_front_csv",
    "write_front_png",
]


def __getattr__(name: str) -> Any:
    """Imports the plots on first use; matplotlib is slow to start."""
    if name in ("front_figure", "write_front_png"):
        from results import plots

        return getattr(plots, name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")
