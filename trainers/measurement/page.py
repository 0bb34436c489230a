"""Report of a measurement: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.measurement.table import LAYER_COLUMNS, READ_OUT_COLUMNS, TITLES, Measured, Row, shown

TEMPLATE = Path(__file__).with_name("page.html")
BARS = frozenset({"spikes", "synops", "macs", "energy_mj", "energy_published_mj"})
"""Columns whose cells show their share of the largest value."""


def page(title: str, summary: Mapping[str, str], measured: Measured, whole: Row) -> str:
    """Returns the report of a measured model: a summary, its read-outs, its layers and their total."""
    from jinja2 import Environment

    tables = (
        _table("Read-outs, mean per image", READ_OUT_COLUMNS, measured.read_outs, None),
        _table("Layers, mean per image", LAYER_COLUMNS, measured.layers, whole),
    )
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, facts=summary, tables=tables)


def _table(title: str, columns: Sequence[str], rows: Sequence[Row], whole: Row | None) -> dict[str, Any]:
    largest = {
        column: max((row.get(column) or 0.0 for row in rows), default=0.0) for column in columns if column in BARS
    }

    def cells(row: Row, *, with_bars: bool) -> list[dict[str, Any]]:
        return [
            {
                "text": shown(row.get(column)),
                "is_text": isinstance(row.get(column), str),
                "share": round(100 * (row.get(column) or 0.0) / largest[column], 1)
                if with_bars and largest.get(column)
                else None,
            }
            for column in columns
        ]

    return {
        "title": title,
        "columns": [{"title": TITLES.get(column, column), "is_text": column in ("name", "kind")} for column in columns],
        "rows": [
            *({"cells": cells(row, with_bars=whole is not None), "is_total": False} for row in rows),
            *([] if whole is None else [{"cells": cells(whole, with_bars=False), "is_total": True}]),
        ],
    }
