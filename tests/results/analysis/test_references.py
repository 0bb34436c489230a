from __future__ import annotations

from collections.abc import Callable

import pytest

from results import StudyResult
from results.analysis.references import published, spreads

Make = Callable[..., StudyResult]


def test_published_points_are_those_of_the_studys_data_set(make_study: Make) -> None:
    names = [reference.name for reference in published(make_study([(90.0, 0.1)]))]
    assert "spikformer_cifar 4-384" in names
    assert all(reference.source for reference in published(make_study([(90.0, 0.1)])))
    assert published(make_study()) == []


def test_seeds_give_mean_and_deviation_from_two_on(make_study: Make) -> None:
    records = [{"trial": 3, "read_step": 2, "seed": s, "accuracy": 90.0 + s} for s in (0, 2)]
    records.append({"trial": 4, "read_step": 1, "seed": 0, "accuracy": 50.0})
    ((key, found),) = [item for item in spreads(make_study(confirmed=records)).items() if item[1]]
    assert key == (3, 2)
    assert (found["accuracy"].mean, found["accuracy"].seeds) == (91.0, 2)
    assert found["accuracy"].deviation == pytest.approx(2**0.5)
