"""Summary of a study for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from results.metrics import format_metric, format_params
from results.study.trial import FrontPoint

METRICS = ("accuracy", "spike_rate", "synops", "energy_mj")
"""Columns of the front's table beside the objectives."""

MAX_ROWS = 10


def front_row(point: FrontPoint, names: Sequence[str], is_knee: bool) -> list[str]:
    """Returns the cells of a point: trial, read-out, metrics and searched values."""
    metrics = [format_metric(name, point.metrics[name]) if name in point.metrics else "" for name in names]
    values = format_params(point.params)
    return [point.key, f"T={point.read_step}", *metrics, f"{values} <- knee" if is_knee else values]


def constraint(name: str, limits: Mapping[str, float]) -> str:
    """Returns the bounds of a metric: `accuracy >= 80`."""
    signs = {"min": ">=", "max": "<="}
    return " and ".join(f"{name} {sign} {limits[end]:g}" for end, sign in signs.items() if limits.get(end) is not None)


def plain(title: str, settings: Mapping[str, str], table: Sequence[Sequence[str]]) -> str:
    """Returns the summary as text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"{name + ':':<15}{value}" for name, value in settings.items() if value]
    for row in table:
        cells = [*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]
        lines.append("  " + "  ".join(cells))
    return "\n".join([title, *lines])


def html(title: str, settings: Mapping[str, str], table: Sequence[Sequence[str]]) -> str:
    """Returns the summary as HTML."""
    lines = [f"<li>{escape(name)}: {escape(value)}</li>" for name, value in settings.items() if value]
    head, *rows = [[escape(cell) for cell in row] for row in table] or [[]]
    names = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    front = f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f"<div><b>{escape(title)}</b><ul>{''.join(lines)}</ul>{front}</div>"
