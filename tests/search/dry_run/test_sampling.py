"""Random configs of a space: refusals, sizes, and the one that needs the most memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search.dry_run import sampling
from search.dry_run.sampling import sample_space
from search.space.feasibility import static_cost
from search.space.space import Space


def test_samples_are_checked_against_the_constraints(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "NUM_SAMPLES", 100)
    keys = ("fixed={distort: false, depths: 1}", "space={embed_dim: {choice: [8, 16, 32, 64]}}")
    space = read_space(*keys, "constraints={params_m: {max: 0.005}}")
    fits = [static_cost(space.train_config({"embed_dim": width}))["params_m"] <= 0.005 for width in (8, 16, 32, 64)]
    assert 0 < sum(fits) < 4
    found = sample_space(space)
    assert found.refused.total() / 100 == pytest.approx(1 - sum(fits) / 4, abs=0.1)


def test_the_initial_configs_are_sized(read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "NUM_SAMPLES", 5)
    space = read_space("start_with=[spikformer/digits]", "space={step: {choice: [1, 2]}, lr: {uniform: [0.019, 0.03]}}")
    assert 0.02 in [sized.config.lr for sized in sample_space(space).sized]


def test_the_largest_config_is_found_though_no_sample_has_it(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "NUM_SAMPLES", 1)
    keys = "{step: {int: [1, 8]}, embed_dim: {choice: [64, 8, 16]}, depths: {int: [1, 3]}, tau: {uniform: [1.1, 3]}}"
    space = read_space("fixed={distort: false}", f"space={keys}")
    config = sampling.largest(space, sample_space(space)).config
    assert (config.step, config.embed_dim, config.depths) == (8, 64, 3)


def test_the_largest_config_keeps_the_constraints(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "NUM_SAMPLES", 20)
    keys = ("fixed={distort: false, depths: 1}", "space={embed_dim: {choice: [8, 16, 64]}, step: {choice: [1, 4]}}")
    space = read_space(*keys, "constraints={params_m: {max: 0.02}}")
    config = sampling.largest(space, sample_space(space)).config
    assert (config.embed_dim, config.step) == (16, 4)
