"""Options that no config can have, named before a search starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from config import strict_yaml
from search.space import reader
from search.space.refused_options import refused_options

CIFAR = """
study: q
base: spikformer/cifar10
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  model: {choice: [spikformer_cifar, qkformer_cifar, sdt_cifar]}
  depths: DEPTHS
  tau: {uniform: [1.1, 4.0]}
budget: {trials: 10, epochs: 2}
"""
TOO_SMALL = "depths is too small for the stages of qkformer_cifar"


def sentences(text: str) -> list[str]:
    return refused_options(reader.read(strict_yaml.parse(text, "q.yml")))


def test_an_option_that_is_always_refused_is_named_with_its_key_and_cause() -> None:
    (sentence,) = sentences(CIFAR.replace("DEPTHS", "{choice: [1]}"))
    assert sentence.startswith("model: qkformer_cifar is always refused (all of ")
    assert sentence.endswith(TOO_SMALL)


@pytest.mark.parametrize("depths", ["{choice: [1, 4]}", "{int: [1, 4]}"])
def test_a_pair_that_is_always_refused_is_named(depths: str) -> None:
    (sentence,) = sentences(CIFAR.replace("DEPTHS", depths))
    assert sentence.startswith("model: qkformer_cifar with depths 1 is always refused")


@pytest.mark.parametrize("depths", ["{int: [1, 4]}", f"{{choice: {[1, *range(4, 44)]}}}"])
def test_a_value_of_a_short_range_and_an_option_among_many_are_named(depths: str) -> None:
    text = CIFAR.replace("{choice: [spikformer_cifar, qkformer_cifar, sdt_cifar]}", "{choice: [qkformer_cifar]}")
    (sentence,) = sentences(text.replace("DEPTHS", depths))
    assert sentence.startswith("depths: 1 is always refused")


def test_keys_under_a_refused_option_are_not_named_again() -> None:
    text = CIFAR.replace(
        "{choice: [spikformer_cifar, qkformer_cifar, sdt_cifar]}",
        "{choice: {spikformer_cifar: , qkformer_cifar: {attn_layer: {choice: [QKTA, SSA]}}}}",
    )
    found = sentences(text.replace("DEPTHS", "{choice: [1]}"))
    assert [sentence.split(" is ")[0] for sentence in found] == ["model: qkformer_cifar"]


def test_a_space_without_such_options_has_no_sentence(read_space: Callable[..., Any]) -> None:
    assert refused_options(read_space()) == []
    assert sentences(CIFAR.replace("DEPTHS", "{choice: [4]}")) == []


def test_given_outcomes_decide_for_the_constraints_that_need_a_size(read_space: Callable[..., Any]) -> None:
    space = read_space("fixed={distort: false}", "space={embed_dim: {choice: [16, 64]}, tau: {uniform: [1.1, 3.0]}}")
    outcomes = [({"embed_dim": 64, "tau": 2.0}, "params_m <= 0.1 must hold")] * 30 + [
        ({"embed_dim": 16, "tau": 2.0}, None)
    ]
    assert refused_options(space, outcomes) == [
        "embed_dim: 64 is always refused (all of 30 samples): params_m <= 0.1 must hold"
    ]
