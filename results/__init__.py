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
    from results.figures import curves_figure, front_figure, importance_figure, write_figures, write_front_png
    from results.report import write_report

_FIGURES = ("curves_figure", "front_figure", "importance_figure", "write_figures", "write_front_png")
_LAZY = dict.fromkeys(_FIGURES, "results.figures")
_LAZY |= {"importances": "results.analysis.importance", "write_report": "results.report"}
"""Modules imported on first use, because matplotlib and Optuna are slow to import."""

__all__ = [
    "METRICS",
    "FrontPoint",
    "ResultsError",
    "StudyResult",
    "TrialResult",
    "curves_figure",
    "front_figure",
    "hypervolume",
    "importance_figure",
    "importances",
    "load",
    "reference_point",
    "write_figures",
    "write_front_csv",
    "write_front_png",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports slow modules on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, those imported on first use included."""
    return sorted(__all__)
