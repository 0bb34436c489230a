from __future__ import annotations

import json

from models import registry
from models.published import reference_points
from models.published.variants import VARIANTS


def test_the_reports_data_file_is_current() -> None:
    assert reference_points.PATH.read_text(encoding="utf-8") == reference_points.text(), (
        "run python -m models.published.reference_points"
    )


def test_every_published_accuracy_is_there_with_its_source() -> None:
    points = json.loads(reference_points.PATH.read_text(encoding="utf-8"))
    assert len(points) == sum(v.accuracy is not None for variants in VARIANTS.values() for v in variants)
    assert all(point["source"] and point["paper"] and point["model"] in registry.MODELS for point in points)
