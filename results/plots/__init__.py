"""The figures of a study, fit for a paper: each is a function that takes a study and returns a matplotlib figure."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from config.files import write_atomic
from results.plots.front import front_figure, write_front_png
from results.plots.space import failures_figure, importance_figure, parallel_figure, slices_figure
from results.plots.training import curves_figure, hypervolume_figure, layers_figure, rungs_figure
from results.study import StudyResult

__all__ = [
    "FIGURES",
    "curves_figure",
    "failures_figure",
    "front_figure",
    "hypervolume_figure",
    "importance_figure",
    "layers_figure",
    "parallel_figure",
    "rungs_figure",
    "slices_figure",
    "write_figures",
    "write_front_png",
]

FIGURES: dict[str, Callable[[StudyResult], Figure]] = {
    "front": front_figure,
    "layers": layers_figure,
    "curves": curves_figure,
    "hypervolume": hypervolume_figure,
    "rungs": rungs_figure,
    "importance": importance_figure,
    "slices": slices_figure,
    "parallel": parallel_figure,
    "failures": failures_figure,
}
"""By the name of the file that `--figures` writes. A study that lacks what a figure shows gives a sentence instead."""


def write_figures(study: StudyResult, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes every figure as PNG and SVG, the same bytes for the same study, and returns the files."""
    written = []
    for name, draw in FIGURES.items():
        figure = draw(study)
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            picture = io.BytesIO()
            with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
                figure.savefig(picture, format=suffix, metadata=metadata)
            path = Path(folder) / f"{name}.{suffix}"
            write_atomic(path, picture.getvalue())
            written.append(path)
    return written
