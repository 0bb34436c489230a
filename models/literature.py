"""Published sizes of the models with their results, and the Markdown tables that show them."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).parent / "published" / "results.json"
DATASETS = {
    None: "",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "cifar10_dvs": "CIFAR10-DVS",
    "dvs128_gesture": "DVS128 Gesture",
    "n_caltech101": "N-Caltech101",
}


def published_sizes() -> list[dict[str, Any]]:
    """Returns the published sizes: `model size dataset accuracy energy_mj source paper keys`; unknown values are None.

    A model without published sizes has one entry, its preset.
    """
    sizes: list[dict[str, Any]] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return sizes


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Container[str]) -> list[str]:
    """Returns the lines of a Markdown table; numeric columns are aligned to the right."""
    rule = ["---:" if column in numeric else "---" for column in columns]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows)]
