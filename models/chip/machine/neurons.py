"""One step of each kind of neuron in numpy, by the table of `models.chip.graph`, in the model's order of operations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.chip.graph import Node
from models.chip.ops import Array
from models.chip.steps import levels


class Step(NamedTuple):
    """Spikes, or counts of spikes; the membranes after the step; the charged membranes before the reset."""

    output: Array
    membrane: Array
    charged: Array
    saturated: int
    """Neurons whose charged membrane did not fit into its bits."""


def step(node: Node, x: Array, v: Array) -> Step:
    """Returns a step of a layer of neurons for the currents x, from the membranes v."""
    threshold = node.arrays["threshold"]
    h, saturated = saturate(_charge(node, x, v), node.attrs.get("bits"))
    if node.attrs["kind"] in ("ilif", "ielif"):
        counts = _integer_counts(node, h, threshold)
        after = h - counts * threshold if node.attrs["kind"] == "ilif" else np.zeros_like(h)
        return Step(counts, after, h, saturated)
    fired = (h >= threshold).astype(h.dtype)
    if node.attrs["kind"] == "ternary":
        fired -= h <= -node.attrs["low_threshold"]
    return Step(fired, np.where(fired != 0, 0, h).astype(h.dtype), h, saturated)


def saturate(x: Array, bits: int | None) -> tuple[Array, int]:
    """Returns x within the range of `bits` bits with sign, and how many values were beyond it; None limits nothing."""
    if bits is None:
        return x, 0
    limited = np.clip(x, *levels(bits))
    return limited, int(np.count_nonzero(limited != x))


def _charge(node: Node, x: Array, v: Array) -> Array:
    attrs, kind = node.attrs, node.attrs["kind"]
    if node.is_integer:
        kept = v if "keep_numerator" not in attrs else rounded_shift(v * attrs["keep_numerator"], attrs["keep_shift"])
        charged: Array = x if kind == "ielif" else kept + x
        return charged
    if kind == "lif":
        charged = v + (x - v) / attrs["tau"]
    elif kind == "plif":
        charged = v + (x - v) * attrs["decay"]
    elif kind == "ilif":
        charged = attrs["keep"] * v + x
    else:
        charged = x if kind == "ielif" else v + x
    return charged


def rounded_shift(x: Array, shift: int) -> Array:
    """Returns round(x / 2^shift) of integers, halves rounded up."""
    shifted: Array = x if shift == 0 else (x + (1 << (shift - 1))) >> shift
    return shifted


def _integer_counts(node: Node, h: Array, threshold: Array) -> Array:
    levels, is_half_even = node.attrs["levels"], node.attrs["kind"] == "ilif"
    counts: Array
    if node.is_integer:
        counts, rest = np.divmod(2 * h + threshold, 2 * threshold)
        if is_half_even:
            counts = counts - ((rest == 0) & (counts % 2 == 1))
        counts = np.clip(counts, 0, levels)
    elif is_half_even:
        counts = np.rint(np.clip(h / threshold, 0.0, levels))
    else:
        counts = np.floor(np.clip(h / threshold, 0.0, levels) + 0.5)
    return counts
