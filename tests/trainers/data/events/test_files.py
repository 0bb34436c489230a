"""The event formats and the frames, against the written events and against SpikingJelly."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data.events.files import Events, frames, read, read_recording

Recorded = dict[str, np.ndarray[Any, Any]]
MakeEvents = Callable[..., Recorded]
Formats = dict[str, Callable[..., bytes]]


def same(events: Events, expected: Recorded) -> bool:
    return all(np.array_equal(getattr(events, key), expected[key]) for key in "txyp")


def test_an_aedat_2_file_is_read_as_it_was_written(
    event_bytes: Formats, random_events: MakeEvents, tmp_path: Path
) -> None:
    path = tmp_path / "cifar10_cat_0.aedat"
    path.write_bytes(event_bytes["aedat2"](random_events(0)))
    assert same(read(path), random_events(0))


def test_an_aedat_3_recording_is_read_as_it_was_written(
    event_bytes: Formats, random_events: MakeEvents, tmp_path: Path
) -> None:
    path = tmp_path / "user01_led.aedat"
    path.write_bytes(event_bytes["aedat3"](random_events(0)))
    assert same(read_recording(path), random_events(0))


def test_an_atis_file_is_read_as_it_was_written(
    event_bytes: Formats, random_events: MakeEvents, tmp_path: Path
) -> None:
    path, expected = tmp_path / "image_0001.bin", random_events(0, 240, 180)
    path.write_bytes(event_bytes["atis"](expected))
    assert same(read(path), expected)


def test_spikingjelly_reads_the_same_from_the_same_files(
    event_bytes: Formats, random_events: MakeEvents, tmp_path: Path
) -> None:
    from spikingjelly.datasets import cifar10_dvs, utils

    path = tmp_path / "a.aedat"
    path.write_bytes(event_bytes["aedat2"](random_events(1)))
    assert same(read(path), cifar10_dvs._load_origin_data(path))
    path.write_bytes(event_bytes["aedat3"](random_events(1)))
    assert same(read_recording(path), utils.load_aedat_v3(path))
    (tmp_path / "a.bin").write_bytes(event_bytes["atis"](random_events(1, 240, 180)))
    assert same(read(tmp_path / "a.bin"), utils.load_ATIS_bin(tmp_path / "a.bin"))


def test_times_continue_beyond_the_31_bits_of_a_recording(tmp_path: Path) -> None:
    header = struct.pack("<HHIIIIII", 1, 1, 8, 4, 2, 1, 1, 1)
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + header + struct.pack("<II", 5 << 17 | 7 << 2 | 2, 9))
    events = read_recording(path)
    assert [int(values[0]) for values in (events.t, events.x, events.y, events.p)] == [(2 << 31) + 9, 5, 7, 1]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 400), st.integers(1, 20), st.integers(0, 5))
def test_frames_by_number_are_spikingjellys(count: int, steps: int, seed: int) -> None:
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

    generator = np.random.default_rng(seed)
    recorded = {key: generator.integers(0, high, count) for key, high in (("x", 20), ("y", 20), ("p", 2))}
    recorded["t"] = np.arange(count)
    theirs = integrate_events_by_fixed_frames_number(recorded, "number", steps, 20, 20)
    ours = frames(Events(**recorded), steps, 20, 20, 20)
    assert np.array_equal(ours.numpy(), theirs)


def test_smaller_frames_hold_every_event_at_its_place(random_events: MakeEvents) -> None:
    events = Events(**random_events(0, 240, 180, 5000))
    small = frames(events, 4, 180, 240, 60)
    assert int(small.sum()) == 5000
    full = frames(events, 4, 180, 240, 720)  # a multiple of both sides: each pixel has its own place
    assert torch.equal(full.unfold(2, 12, 12).unfold(3, 12, 12).sum((4, 5)), small)


def test_events_outside_of_the_sensor_are_refused() -> None:
    one = np.ones(1, dtype=np.int64)
    with pytest.raises(ValueError, match="outside of 8 x 4"):
        frames(Events(one, 8 * one, one, one), 1, 4, 8, 4)
    with pytest.raises(ValueError, match="no events"):
        frames(Events(one[:0], one[:0], one[:0], one[:0]), 1, 4, 8, 4)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"p": np.full(300, -1)}, r"p must be 0 or 1 \(got -1 to -1\)"),
        ({"x": np.zeros(300)}, r"t, x, y, p must be integers \(got x float64\)"),
        ({"t": np.full(300, np.nan)}, r"must be integers \(got t float64\)"),
        ({"y": np.zeros(3, int)}, "different lengths"),
        ({"frames": np.zeros((4, 2, 128, 128))}, "holds frames made by SpikingJelly, not events"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_converted_events_that_would_be_misread_are_refused(
    random_events: MakeEvents, tmp_path: Path, changed: Recorded, text: str
) -> None:
    np.savez(tmp_path / "x.npz", **{**random_events(0), **changed})
    with pytest.raises(ValueError, match=text):
        read(tmp_path / "x.npz")


def test_endings_of_event_files_are_read_in_any_case(
    event_bytes: Formats, random_events: MakeEvents, tmp_path: Path
) -> None:
    (tmp_path / "x.AEDAT").write_bytes(event_bytes["aedat2"](random_events(0)))
    assert same(read(tmp_path / "x.AEDAT"), random_events(0))
