from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from results import StudyResult
from results.analysis.references import published

Make = Callable[..., StudyResult]


def test_published_points_are_those_of_the_studys_data_set(make_study: Make) -> None:
    names = [reference.name for reference in published(make_study([(90.0, 0.1)]))]
    assert "spikformer_cifar 4-384" in names
    assert all(reference.source for reference in published(make_study([(90.0, 0.1)])))
    assert published(make_study()) == []


@pytest.mark.parametrize("keys", [{"train_images": 10000}, {"img_size": 16}])
def test_a_part_of_the_images_or_smaller_ones_have_no_published_results(make_study: Make, keys: dict[str, Any]) -> None:
    study = make_study([(90.0, 0.1)])
    study.trials[0].config.update(keys)
    assert published(study) == []
