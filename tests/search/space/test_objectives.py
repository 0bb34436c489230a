from __future__ import annotations

from collections.abc import Callable

from search.space.objectives import constraint_violations, objective_vector
from search.space.space import Space

METRICS = {"accuracy": 70.0, "spike_rate": 0.1, "synops": 5.0}


def test_objectives_to_maximize_are_negated_for_minimization(read_space: Callable[..., Space]) -> None:
    space = read_space()
    assert objective_vector(space, METRICS) == [70.0, 0.1]
    assert objective_vector(space, METRICS, minimise=True) == [-70.0, 0.1]


def test_a_violation_is_positive_outside_the_bounds(read_space: Callable[..., Space]) -> None:
    space = read_space("constraints={accuracy: {min: 80}, synops: {max: 6}, params_m: {max: 1}}")
    assert constraint_violations(space, METRICS) == {"accuracy": 10.0, "synops": -1.0}
