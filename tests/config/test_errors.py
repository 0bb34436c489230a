from __future__ import annotations

import pytest

from config.errors import did_you_mean, nearest, unknown_name


@pytest.mark.parametrize(
    ("word", "expected"),
    [("epoch", "epochs"), ("EPOCHS", "epochs"), ("timesteps", "step"), ("learning_rate", None), ("xyz", None)],
)
def test_the_nearest_word_is_found_by_spelling_or_as_a_synonym(word: str, expected: str | None) -> None:
    assert nearest(word, ["epochs", "step"]) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *(("acc", "accuracy"), ("Acc", "accuracy"), ("mem", "peak_mem_gib"), ("rate", "spike_rate"), ("ac", None)),
        *(("bat", None), ("ura", None)),
    ],
)
def test_an_abbreviation_is_recognized_if_only_one_name_has_it(word: str, expected: str | None) -> None:
    assert (
        nearest(word, ["accuracy", "spike_rate", "spikes", "peak_mem_gib", "batch_size", "val_batch_size"]) == expected
    )


def test_a_hint_is_empty_without_a_near_word() -> None:
    assert did_you_mean("epoch", ["epochs"]) == " Did you mean epochs?"
    assert did_you_mean("xyz", ["epochs"]) == ""


def test_a_long_list_of_names_is_left_out_if_one_is_near() -> None:
    names = [f"name{i}" for i in range(50)]
    assert unknown_name("model", "nam7", names) == "unknown model (got 'nam7'). Did you mean name7?"
    assert unknown_name("model", "xyz", ["b", "a"]) == "unknown model (got 'xyz'). Known: a, b."
