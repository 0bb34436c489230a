"""Layers of a measured model as rows, as aligned text and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

LAYER_COLUMNS = ("name", "kind", "spike_rate", "spikes", "synops", "macs", "energy_mj", "energy_published_mj")
READ_OUT_COLUMNS = ("read_step", "accuracy", "loss", *LAYER_COLUMNS[2:])
TITLES = {"energy_mj": "energy mJ", "energy_published_mj": "published mJ", "spike_rate": "rate", "read_step": "steps"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Result of a measurement: facts in words, the metrics at read_step, all read-outs, and a row per layer."""

    facts: dict[str, str]
    metrics: dict[str, Any]
    read_outs: list[dict[str, Any]]
    layers: list[dict[str, Any]]


def with_both_energies(row: Row) -> dict[str, Any]:
    """Returns a row of an evaluation by the published rule, with the energy by both rules."""
    from models.cost.energy import energy_mj

    if "synops" not in row:
        return dict(row)
    return {**row, "energy_mj": energy_mj(row["macs"], row["synops"]), "energy_published_mj": row["energy_mj"]}


def total(layers: Sequence[Row], metrics: Row) -> dict[str, Any]:
    """Returns the last row of the table: the metrics of the whole model."""
    return {"name": "total", "kind": f"{len(layers)} layers", **{key: metrics[key] for key in LAYER_COLUMNS[2:]}}


def aligned(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Returns the rows as lines of text under a line of titles; a quantity that a row lacks is blank."""
    cells = [[TITLES.get(column, column) for column in columns]]
    cells += [[shown(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_text = [any(isinstance(row.get(column), str) for row in rows) for column in columns]
    return [
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in cells
    ]


def csv_text(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Returns the rows as CSV; numbers round-trip."""
    content = StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_exact(row.get(column)) for column in columns] for row in rows)
    return content.getvalue()


def _exact(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def shown(value: Any) -> str:
    """Returns a value as text for readers: four digits, or whole numbers from 1,000 on."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
