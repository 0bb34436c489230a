from __future__ import annotations

from collections.abc import Callable

from results import StudyResult
from results.analysis.references import published

Make = Callable[..., StudyResult]


def test_published_points_are_those_of_the_studys_data_set(make_study: Make) -> None:
    names = [reference.name for reference in published(make_study([(90.0, 0.1)]))]
    assert "spikformer_cifar 4-384" in names
    assert all(reference.source for reference in published(make_study([(90.0, 0.1)])))
    assert published(make_study()) == []
