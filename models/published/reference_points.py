"""Writes what was published of all models as data for the report: `python -m models.published.reference_points`.

The report reads `results/published.json` alone, because `results` imports none of the other packages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.published.variants import PAPERS, VARIANTS

PATH = Path(__file__).parents[2] / "results" / "analysis" / "published.json"
DATASETS = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "ImageNet": "imagenet",
    "CIFAR10-DVS": "cifar10_dvs",
    "DVS128 Gesture": "dvs128_gesture",
    "N-Caltech101": "n_caltech101",
}


def points() -> list[dict[str, Any]]:
    """Returns every published accuracy with its data set as train files name it, and where it stands."""
    return [
        {
            "dataset": DATASETS[variant.dataset],
            "model": name,
            "size": variant.name,
            "accuracy": variant.accuracy,
            "energy_mj": variant.energy_mj,
            "source": variant.source,
            "paper": PAPERS[name.split("_")[0]],
        }
        for name, variants in VARIANTS.items()
        for variant in variants
        if variant.accuracy is not None
    ]


def text() -> str:
    """Returns the file, one point a line."""
    lines = ",\n".join(json.dumps(point) for point in points())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    print(f"wrote {PATH}")
