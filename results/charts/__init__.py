"""The report's interactive figures, as plotly.js reads them: plain dictionaries, equal for equal studies.

A colour is the name of a style-sheet variable (`var(--blue)`), which the page fills in for light and dark.
"""

from __future__ import annotations

from results.charts.front import front_charts
from results.charts.space import failure_chart, importance_chart, parallel_chart, slice_charts
from results.charts.timeline import timeline_chart
from results.charts.training import curve_charts, hypervolume_charts, layer_chart, rung_charts

__all__ = [
    "curve_charts",
    "failure_chart",
    "front_charts",
    "hypervolume_charts",
    "importance_chart",
    "layer_chart",
    "parallel_chart",
    "rung_charts",
    "slice_charts",
    "timeline_chart",
]
