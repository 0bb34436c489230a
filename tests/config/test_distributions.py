from __future__ import annotations

import pytest

from config import distributions
from config.distributions import Categorical, Float, Integer, UniformSampler
from config.errors import ConfigError


def read(raw: object) -> distributions.Distribution:
    return distributions.parse(raw, lambda option, key, inner: distributions.parse(inner, lambda o, k, r: None))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"uniform": [1, 4]}, Float(1.0, 4.0)),
        ({"log_uniform": [0.001, 0.1]}, Float(0.001, 0.1, log=True)),
        ({"int": [1, 6]}, Integer(1, 6)),
        ({"int": [2, 10, 4]}, Integer(2, 10, 4)),
        ({"log_int": [1, 64]}, Integer(1, 64, log=True)),
        ({"choice": [1, 2, 4]}, Categorical((1, 2, 4))),
        (
            {"choice": {"SSA": {"tau": {"uniform": [1, 2]}}, "SDSA": None}},
            Categorical(("SSA", "SDSA"), ({"tau": Float(1, 2)}, {})),
        ),
    ],
)
def test_every_form_of_distribution_is_parsed(raw: object, expected: distributions.Distribution) -> None:
    assert read(raw) == expected


def test_the_upper_end_is_the_last_step_below_it() -> None:
    found = read({"int": [1, 6, 2]})
    assert isinstance(found, distributions.Integer)
    assert (found.high, list(found.values())) == (5, [1, 3, 5])


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (5, "must be one distribution"),
        ({"uniform": [1, 2], "int": [1, 2]}, "must be one distribution"),
        ({"normal": [0, 1]}, "unknown distribution 'normal'"),
        ({"uniform": [3, 1]}, "low < high must hold (got low=3, high=1)"),
        ({"uniform": 3}, "takes [low, high]"),
        ({"uniform": [1, 2, 3]}, "takes [low, high]"),
        ({"uniform": [True, 2]}, "takes finite numbers"),
        ({"uniform": [1, float("inf")]}, "takes finite numbers"),
        ({"log_uniform": [0, 1]}, "low > 0 must hold"),
        ({"int": [1.5, 3]}, "takes whole numbers"),
        ({"int": [1, 6, 0]}, "1 <= step <= high - low must hold"),
        ({"choice": []}, "at least one option"),
        ({"choice": 128}, "choice takes a list"),
        ({"choice": [1, 1]}, "lists an option twice"),
        ({"choice": {"SSA": 3}}, "must open a mapping of keys"),
    ],
)
def test_an_invalid_distribution_is_refused_with_its_rule(raw: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(raw)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "distribution",
    [
        Float(1.0, 4.0),
        Float(1e-4, 1e-2, True),
        Integer(2, 10, 4),
        Integer(1, 64, log=True),
        Categorical((1, [2, 2], None)),
    ],
)
def test_samples_lie_in_the_distribution(distribution: distributions.Distribution) -> None:
    sampler = UniformSampler(0)
    assert all(distribution.contains(distribution.suggest(sampler, "key")) for _ in range(200))


def test_a_list_option_is_stored_as_json() -> None:
    assert [distributions.label(option) for option in ([1, 2], "a", 3, None, True)] == ["[1, 2]", "a", 3, None, True]


@pytest.mark.parametrize("value", [True, "1", 1.5, 11, 3])
def test_an_integer_distribution_contains_only_its_values(value: object) -> None:
    assert not Integer(2, 10, 4).contains(value)


def test_a_choice_counts_the_keys_that_its_options_open() -> None:
    inner = {"depths": Integer(1, 4), "num_heads": Categorical((2, 4))}
    assert Categorical(("SSA", "SDSA"), (inner, {})).count() == 9


def test_the_uniform_sampler_is_reproducible() -> None:
    def samples(seed: int) -> list[float]:
        sampler = UniformSampler(seed)
        return [
            sampler.suggest_float("a", 0, 1),
            sampler.suggest_int("b", 0, 9),
            sampler.suggest_categorical("c", [1, 2, 3]),
        ]

    assert samples(1) == samples(1) != samples(2)
