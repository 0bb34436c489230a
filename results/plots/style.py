"""How the figures look: colours that stay apart in grey and for the colour-blind, frames, and the empty figure."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#d55e00", "#00875f", "#a2467f", "#c2262e"
GREY, PALE, INK = "#8795a1", "#aab4bf", "#1f2933"
SERIES = (ORANGE, GREEN, PURPLE, BLUE, RED)


def new_figure(width: float = 7.2, height: float = 5.0) -> Figure:
    """Returns an empty figure that no window shows and no global list keeps."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def single(height: float = 4.0) -> tuple[Figure, Axes]:
    """Returns a figure of one frame, and the frame."""
    figure = new_figure(height=height)
    axes = figure.add_subplot()
    framed(axes)
    return figure, axes


def framed(axes: Axes) -> None:
    """Gives a frame its grid and its ink."""
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def sentence(axes: Axes, text: str) -> None:
    """Writes a sentence in the middle of an empty frame."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=INK)


def legend(axes: Axes) -> None:
    """Shows a legend where there is something to name."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
