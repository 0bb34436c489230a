"""Results of a search: load a study, read its front, export train files.

study = results.load("runs/quickstart")
for point in study.front():
    print(point.trial, point.read_step, point.metrics["accuracy"], point.metrics["spike_rate"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from results.analysis.front import hypervolume, reference_point, write_front_csv
from results.load import load
from results.metrics import METRICS, ResultsError
from results.study import FrontPoint, StudyResult, TrialResult

if TYPE_CHECKING:
    from results.analysis.importance import importances
    from results.plots import (
        curves_figure,
        failures_figure,
        front_figure,
        hypervolume_figure,
        importance_figure,
        layers_figure,
        parallel_figure,
        rungs_figure,
        slices_figure,
        write_figures,
        write_front_png,
    )
    from results.report import write_report

_LATER = {
    "results.analysis.importance": ("importances",),
    "results.report": ("write_report",),
    "results.plots": (
        *("curves_figure", "failures_figure", "front_figure", "hypervolume_figure", "importance_figure"),
        *("layers_figure", "parallel_figure", "rungs_figure", "slices_figure", "write_figures", "write_front_png"),
    ),
}
"""Names by the module that is imported on their first use; matplotlib and Optuna are slow to start."""

__all__ = [
    "METRICS",
    "FrontPoint",
    "ResultsError",
    "StudyResult",
    "TrialResult",
    "curves_figure",
    "failures_figure",
    "front_figure",
    "hypervolume",
    "hypervolume_figure",
    "importance_figure",
    "importances",
    "layers_figure",
    "load",
    "parallel_figure",
    "reference_point",
    "rungs_figure",
    "slices_figure",
    "write_figures",
    "write_front_csv",
    "write_front_png",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports what draws and measures on first use."""
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")
