"""The table of layers as text and CSV."""

from __future__ import annotations

import csv

import pytest

from trainers.measurement.table import aligned, csv_text, shown, with_both_energies

ROWS = [{"name": "conv", "synops": 1234.5, "energy_mj": 0.1}, {"name": "neuron", "spikes": 2.0, "synops": None}]


def test_columns_are_aligned_and_missing_quantities_are_blank() -> None:
    assert aligned(ROWS, ("name", "spikes", "synops", "energy_mj")) == [
        "name    spikes  synops  energy mJ",
        "conv             1,234        0.1",
        "neuron       2",
    ]


def test_numbers_of_the_csv_round_trip() -> None:
    (_, first, second) = csv.reader(
        csv_text([{"name": "a,b", "spikes": 0.1 + 0.2}, ROWS[1]], ("name", "spikes")).splitlines()
    )
    assert (first[0], float(first[1]), second) == ("a,b", 0.1 + 0.2, ["neuron", "2.0"])


def test_an_operation_gets_its_energy_by_the_default_rule_too() -> None:
    row = with_both_energies({"name": "conv", "synops": 1e9, "macs": 1e8, "energy_mj": 7.0})
    assert (row["energy_mj"], row["energy_published_mj"]) == (pytest.approx(1.36), 7.0)
    assert with_both_energies({"name": "neuron", "spikes": 1.0}) == {"name": "neuron", "spikes": 1.0}


def test_small_numbers_have_four_digits_and_large_ones_are_whole() -> None:
    assert [shown(value) for value in (0.0123456, 999.94, 1234567.8, 3, "x", None)] == [
        *("0.01235", "999.9", "1,234,568", "3", "x", ""),
    ]
