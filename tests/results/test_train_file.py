from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.step_names import GROUPS
from results.train_file import render, scalar, split, without_comments


@given(st.floats(allow_nan=False))
def test_a_float_reads_back_bit_by_bit_and_is_a_float(value: float) -> None:
    text = scalar(value)
    assert "e" not in text.lower().replace(".inf", "")
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, float)
    assert struct.pack("d", loaded) == struct.pack("d", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-4, "0.0005"),
        (1e-05, "0.00001"),
        (4.0, "4.0"),
        (4, "4"),
        (True, "true"),
        ([0.4914, 0.247], "[0.4914, 0.247]"),
        ("torch/cifar10", "torch/cifar10"),
        ("rand-m9-n1-mstd0.4-inc1", "rand-m9-n1-mstd0.4-inc1"),
        ("1111", '"1111"'),
        ("5e-4", '"5e-4"'),
        ("no", '"no"'),
        ("nan", '"nan"'),
        ("", '""'),
        ("a: b # c", '"a: b # c"'),
    ],
)
def test_values_are_written_in_readable_form(value: Any, text: str) -> None:
    assert scalar(value) == text


@given(st.text() | st.integers() | st.booleans() | st.lists(st.integers() | st.text(max_size=5), max_size=3))
def test_any_value_reads_back_equal(value: Any) -> None:
    assert yaml.safe_load(f"key: {scalar(value)}\n") == {"key": value}


def test_groups_are_in_the_benchmarks_order_with_unknown_keys_last() -> None:
    text = render({"my_key": 1, "lr": 0.1, "tau": 2.0, "dataset": "digits", "epochs": 3}, ["a header"])
    assert text.splitlines()[0] == "# a header"
    assert " ".join(without_comments(text).split()) == "dataset: digits epochs: 3 tau: 2.0 lr: 0.1 my_key: 1"
    comments = [line for line in text.splitlines() if line.startswith("#")][2:]
    assert comments == ["# data", "# data augmentation", "# node", "# training", "# other"]


def test_the_hash_in_the_header_is_that_of_the_lines_without_comments() -> None:
    text = render({"lr": 0.1, "tau": 2.0}, ["x"])
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() in text.splitlines()[1]


def test_a_header_cannot_add_settings() -> None:
    assert yaml.safe_load(render({"lr": 0.1}, ["study x\nlr: 5"])) == {"lr": 0.1}


def test_no_key_is_in_two_groups() -> None:
    keys = [key for group in GROUPS.values() for key in group]
    assert len(keys) == len(set(keys))


def test_the_two_files_share_no_key_and_have_all_keys() -> None:
    config = {key: 1 for keys in GROUPS.values() for key in keys} | {"my_key": 2}
    model, train = split(config)
    assert model | train == config
    assert not model.keys() & train.keys()
    assert {"lr", "seed", "batch_size"} <= train.keys()
    assert {"epochs", "model", "tau", "my_key"} <= model.keys()
