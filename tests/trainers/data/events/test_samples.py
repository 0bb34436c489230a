"""Samples of the event sets, from the names of their files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainers.data.events.samples import SETS
from trainers.datasets import DataError

Write = Callable[..., Path]


@pytest.mark.parametrize(("name", "classes"), [("cifar10_dvs", 10), ("dvs128_gesture", 11), ("n_caltech101", 101)])
def test_each_class_has_its_samples_in_both_parts_together(
    write_events: Write, tmp_path: Path, name: str, classes: int
) -> None:
    folder, count = write_events(tmp_path, name, count=2), 4 if name == "dvs128_gesture" else 2
    assert SETS[name].has_recordings(folder)
    assert SETS[name].by_class(folder) == dict.fromkeys(range(classes), count)


def test_samples_are_in_the_order_of_file_names_without_hidden_ones(write_events: Write, tmp_path: Path) -> None:
    write_events(tmp_path, "cifar10_dvs", count=11)
    (tmp_path / "airplane" / "._cifar10_airplane_0.aedat").touch()
    train, test = (SETS["cifar10_dvs"].samples(tmp_path, part) for part in (True, False))
    assert [sample.path.stem[-2:] for sample in train[:4]] == ["_0", "_1", "10", "_2"]
    assert [sample.path.stem[-2:] for sample in test] == ["_9"] * 10
    assert [sample.label for sample in test] == list(range(10))


def test_hidden_files_are_no_recordings(tmp_path: Path) -> None:
    for name in (".trash/a.aedat", "cat/._a.aedat"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert not SETS["cifar10_dvs"].has_recordings(tmp_path)


@pytest.mark.parametrize("table", ["1,2\n", "12,0,9\n", "a,b,c\n"])
def test_a_damaged_table_of_gestures_is_named(write_events: Write, tmp_path: Path, table: str) -> None:
    folder = write_events(tmp_path, "dvs128_gesture", count=1)
    (folder / "user00_fluorescent_labels.csv").write_text("class,startTime_usec,endTime_usec\n" + table)
    with pytest.raises(DataError, match=r"user00_fluorescent_labels\.csv cannot be read"):
        SETS["dvs128_gesture"].samples(folder, True)
