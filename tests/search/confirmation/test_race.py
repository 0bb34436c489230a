"""Points that drop out of a race."""

from __future__ import annotations

import numpy as np

from search.confirmation import race


def samples_of(
    means: dict[str, tuple[float, float]], seeds: int, noise: float, seed: int = 0
) -> dict[str, list[list[float]]]:
    rng = np.random.default_rng(seed)
    return {name: (np.array(mean) + rng.normal(0.0, noise, (seeds, 2))).tolist() for name, mean in means.items()}


def losers(samples: dict[str, list[list[float]]], violations: dict[str, list[list[float]]] | None = None) -> set[str]:
    within: dict[str, list[list[float]]] = {key: [[-1.0] for _ in sample] for key, sample in samples.items()}
    return race.losers(samples, {**within, **(violations or {})})


def test_with_one_seed_each_no_point_has_lost() -> None:
    assert losers({"a": [[0.0, 0.0]], "b": [[9.0, 9.0]]}) == set()


def test_a_point_that_is_clearly_beaten_on_both_objectives_has_lost() -> None:
    samples = samples_of({"good": (0.0, 0.0), "bad": (5.0, 5.0), "other": (-3.0, 8.0)}, seeds=2, noise=0.3)
    assert losers(samples) == {"bad"}


def test_a_point_that_is_beaten_on_one_objective_only_stays() -> None:
    samples = samples_of({"good": (0.0, 0.0), "costly": (5.0, 0.0)}, seeds=5, noise=0.3)
    assert losers(samples) == set()


def test_equal_points_rarely_drop_out() -> None:
    lost = [len(losers(samples_of({"a": (0.0, 0.0), "b": (0.0, 0.0)}, 3, 1.0, seed))) for seed in range(200)]
    assert np.mean(lost) < 0.05


def test_a_point_that_clearly_exceeds_a_bound_has_lost_and_beats_none() -> None:
    samples = samples_of({"good": (0.0, 0.0), "worse": (5.0, 5.0)}, seeds=3, noise=0.3)
    assert losers(samples) == {"worse"}
    assert losers(samples, {"good": [[1.0], [1.1], [0.9]]}) == {"good"}
    assert losers(samples, {"good": [[1.0], [-1.0], [0.3]]}) == set()
