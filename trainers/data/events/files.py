"""Event files in their published formats, and their conversion to frames of event counts."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
_POLARITY_EVENTS = 1
_PACKET_HEADER = 28


@dataclass(frozen=True)
class Events:
    """Events in the order of their file: time t, column x, row y, polarity p (0 OFF, 1 ON), each [N]."""

    t: Array
    x: Array
    y: Array
    p: Array

    def between(self, start: int, end: int) -> Events:
        """Returns the events with start <= t < end."""
        chosen = (self.t >= start) & (self.t < end)
        return Events(*(values[chosen] for values in (self.t, self.x, self.y, self.p)))


def frames(events: Events, count: int, height: int, width: int, size: int) -> Tensor:
    """Returns counts [count, 2, size, size] as int32, with equally many events per frame and the rest in the last.

    Smaller frames are made by scaling the events' coordinates, so that no event is lost or split. Raises ValueError
    for no events, or events outside of height x width.
    """
    if not len(events.t):
        raise ValueError("no events")
    x, y = events.x.astype(np.int64), events.y.astype(np.int64)
    if not (0 <= x.min() <= x.max() < width and 0 <= y.min() <= y.max() < height):
        raise ValueError(f"events outside of {width} x {height} pixels")
    each = len(x) // count  # SpikingJelly's split by number: with too few events, all are in the last frame
    frame = np.minimum(np.arange(len(x)) // max(each, 1), count - 1) if each else count - 1
    pixel = ((frame * 2 + (events.p != 0)) * size + y * size // height) * size + x * size // width
    counts = np.bincount(pixel, minlength=count * 2 * size * size)
    return torch.from_numpy(counts.astype(np.int32)).view(count, 2, size, size)


def read(path: Path) -> Events:
    """Returns a file's events, read by its suffix. Raises ValueError or OSError if it cannot be read."""
    events = _READERS[path.suffix.lower()](path)
    if len(events.t) > 1 and not events.t.any():
        raise ValueError("all events at time 0")
    return events


def _read_aedat(path: Path) -> Events:
    """CIFAR10-DVS: AEDAT 2, lines of comment, then big-endian pairs of address and microseconds."""
    content, offset = path.read_bytes(), 0
    while content.startswith(b"#", offset):
        offset = content.index(b"\n", offset) + 1
    address, t = np.frombuffer(content, ">u4", offset=offset).astype(np.int64).reshape(-1, 2).T
    if len(address) and address.max() >= 1 << 16:
        raise ValueError("addresses of more than 16 bits")
    # The recordings are turned by 90 degrees, and their polarity bit is 1 for OFF.
    return Events(t, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), 1 - (address & 1))


def read_recording(path: Path) -> Events:
    """DVS128 Gesture: AEDAT 3.1, packets of a header of 28 bytes and events of 8, little-endian."""
    content = path.read_bytes()
    header, end, _ = content.partition(b"#!END-HEADER\r\n")
    if not end or not content.startswith(b"#"):
        raise ValueError("no header")
    offset, packets = len(header) + len(end), []
    while offset < len(content):
        if offset + _PACKET_HEADER > len(content):
            raise ValueError("cut within the header of a packet")
        event_type, _, size, _, overflow, capacity = struct.unpack_from("<HHIIII", content, offset)
        offset += _PACKET_HEADER
        if offset + capacity * size > len(content) or size < 8:
            raise ValueError("cut within a packet")
        if event_type == _POLARITY_EVENTS:
            words = np.frombuffer(content, "<u4", capacity * size // 4, offset).reshape(capacity, size // 4)
            packets.append((words[:, 0], words[:, 1].astype(np.int64) | overflow << 31))
        offset += capacity * size
    if not packets:
        raise ValueError("no events")
    data, t = (np.concatenate(column) for column in zip(*packets, strict=True))
    return Events(t, data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, data >> 1 & 1)


def _read_bin(path: Path) -> Events:
    """N-Caltech101: five bytes per event."""
    from spikingjelly.datasets.utils import load_ATIS_bin

    if path.stat().st_size % 5:
        raise ValueError("its size is not a multiple of 5 bytes")
    return Events(**load_ATIS_bin(path))


def _read_npz(path: Path) -> Events:
    """SpikingJelly's own conversion of any of them: the arrays t, x, y, p."""
    with np.load(path, allow_pickle=False) as arrays:
        if "frames" in arrays:
            raise ValueError("holds frames made by SpikingJelly, not events")
        events = Events(*(arrays[key] for key in "txyp"))
    if len({len(values) for values in vars(events).values()}) != 1:
        raise ValueError("t, x, y, p of different lengths")
    wrong = [f"{key} {values.dtype}" for key, values in vars(events).items() if values.dtype.kind not in "iub"]
    if wrong:
        raise ValueError(f"t, x, y, p must be integers (got {', '.join(wrong)})")
    if len(events.p) and not 0 <= events.p.min() <= events.p.max() <= 1:
        raise ValueError(f"p must be 0 or 1 (got {events.p.min()} to {events.p.max()})")
    return events


def holds_frames(path: Path) -> bool:
    """Returns whether an .npz file holds frames made by SpikingJelly."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return "frames" in arrays
    except Exception:  # damaged files raise errors of many types
        return False


_READERS = {".aedat": _read_aedat, ".bin": _read_bin, ".npz": _read_npz}
ENDINGS = frozenset(_READERS)
