"""The space over all parts together: each sample trains or is refused with a reason."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.distributions import UniformSampler
from models import InfeasibleError, create_model
from models.cost.meter import Meter
from search.space import reader
from search.space.space import Space

SPACE = "spaces/attention_variants.yml"


@pytest.fixture(scope="module")
def space() -> Space:
    return reader.load(SPACE)


def outcome(space: Space, seed: int) -> str:
    """Returns "learns" or the reason of a refusal; fails if the model does not run or train."""
    torch.manual_seed(0)
    try:
        config = space.train_config(space.suggest(UniformSampler(seed)))
        model = create_model(config)
    except InfeasibleError as error:
        return str(error)
    model(torch.rand(2, 1, 8, 8)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad(), Meter(model.eval()) as meter:
        meter.forward_steps(torch.rand(2, 1, 8, 8))
    assert meter.totals(config.read_step)["synops"] >= 0.0
    return "learns"


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32))
def test_a_sample_learns_or_is_refused_with_a_reason(space: Space, seed: int) -> None:
    found = outcome(space, seed)
    assert found == "learns" or "(got " in found


@pytest.mark.slow
def test_most_of_300_samples_learn(space: Space) -> None:
    found = [outcome(space, seed) for seed in range(300)]
    assert found.count("learns") > 270
    assert all(text == "learns" or "(got " in text for text in found)
