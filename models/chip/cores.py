"""Limits of published neuromorphic cores, and whether a layer keeps them.

The numbers are those that the named sources publish. They are necessary conditions: no chip was at hand, and memory,
routing and timing are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from models.chip.graph import Node

FAITHFUL, APPROXIMATE, UNSUPPORTED = "faithful", "approximate", "unsupported"
PASSIVE = frozenset({"reshape", "transpose", "slice", "concat", "pad"})
"""Operations that only move spikes, which is a matter of routing."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of an integer layer that the limits are about."""

    node: Node
    fan_in: int = 0
    """Largest number of weights of one output."""
    distinct: int = 0
    """Largest number of different weights of one output, 0 left out."""
    weight_bits: int = 0
    membrane_bits: int = 0
    """Bits with sign of the largest membrane that was seen, or else of the width."""
    has_leak: bool = False
    input_size: int = 0
    """Height or width of the input map, the larger."""


Limit = Iterator[tuple[str, str]]
"""Statuses with their reasons; none is faithful."""


@dataclass(frozen=True)
class Core:
    """A published core: its name, the source of its limits, and the check of a layer."""

    name: str
    source: str
    check: Callable[[Sizes], Limit]

    def verdict(self, sizes: Sizes) -> tuple[str, str]:
        """Returns the worst status of a layer, and the reasons of this status."""
        found = list(self.check(sizes))
        for status in (UNSUPPORTED, APPROXIMATE):
            reasons = [reason for one, reason in found if one == status]
            if reasons:
                return status, "; ".join(reasons)
        return FAITHFUL, ""


def _operation(sizes: Sizes, pooling: str) -> Limit:
    """Yields what no core has: real inputs, products of spikes, graded spikes."""
    node = sizes.node
    if node.attrs.get("fed") in ("real", "encoded"):
        yield UNSUPPORTED, "its input is no spikes; a host computes it"
    if node.op in ("matmul", "mask"):
        yield UNSUPPORTED, "a product of two spike trains"
    if node.op == "max_pool":
        yield (APPROXIMATE, pooling) if "neuron" in pooling else (UNSUPPORTED, pooling)
    if node.op == "neuron" and node.attrs["levels"] > 1:
        yield UNSUPPORTED, f"neurons that emit 0..{node.attrs['levels']} spikes at once"
    if node.op == "neuron" and node.attrs["kind"] == "ternary":
        yield UNSUPPORTED, "spikes of both signs"


def _speck(sizes: Sizes) -> Limit:
    node = sizes.node
    yield from _operation(sizes, "pools sum spikes, they have no maximum")
    if node.op in ("conv", "linear"):
        channels, kernel = node.arrays["weight"].shape[0], max(node.arrays["weight"].shape[2:], default=1)
        limits = {
            f"{sizes.weight_bits}-bit weights (8)": sizes.weight_bits <= 8,
            f"{channels} channels (1024)": channels <= 1024,
            f"a kernel of {kernel} (16)": kernel <= 16,
            f"an input of {sizes.input_size} (128)": sizes.input_size <= 128,
            f"an output of {max(node.shape[1:], default=1)} (64)": max(node.shape[1:], default=1) <= 64,
            "a stride other than 1, 2, 4, 8": set(node.attrs.get("stride", [1])) <= {1, 2, 4, 8},
            "a padding above 7": max(node.attrs.get("padding", [0])) <= 7,
        }
        yield from ((UNSUPPORTED, reason) for reason, holds in limits.items() if not holds)
    if node.op == "neuron":
        if sizes.membrane_bits > 16:
            yield UNSUPPORTED, f"membranes of {sizes.membrane_bits} bits (16)"
        if sizes.has_leak:
            yield APPROXIMATE, "the leak is a constant, not a share of the membrane"
    if node.op in ("scale", "add"):
        yield APPROXIMATE, "sums of layers go through the events of both; factors have no place"


def _loihi(sizes: Sizes) -> Limit:
    node = sizes.node
    yield from _operation(sizes, "a maximum of spikes takes a neuron for each output, one step later")
    if node.op in ("conv", "linear") and sizes.weight_bits > 9:
        yield UNSUPPORTED, f"{sizes.weight_bits}-bit weights (9 with sign)"
    if sizes.fan_in > 4096:
        yield UNSUPPORTED, f"a fan-in of {sizes.fan_in} (4096)"
    if node.op == "neuron":
        if int(node.arrays["threshold"].max()) > THRESHOLD_LIMIT:
            yield UNSUPPORTED, "a threshold above 17 bits times 64"
        elif node.arrays["threshold"].size > 1:
            yield APPROXIMATE, "channels differ in threshold, which neurons of one group share"
    if node.op == "scale":
        yield APPROXIMATE, "factors are part of the weights' exponent, if powers of two"


THRESHOLD_LIMIT = (2**17 - 1) * 2**6


def _truenorth(sizes: Sizes) -> Limit:
    yield from _operation(sizes, "a maximum of spikes takes a neuron for each output, one step later")
    if sizes.fan_in > 256:
        yield UNSUPPORTED, f"a fan-in of {sizes.fan_in} (256)"
    if sizes.distinct > 4:
        yield APPROXIMATE, "more than 4 different weights of a neuron"
    if sizes.node.op == "neuron" and sizes.has_leak:
        yield APPROXIMATE, "the leak is a constant, not a share of the membrane"
    if sizes.node.op == "scale":
        yield APPROXIMATE, "factors have no place"


CORES = (
    Core(
        "Speck (DYNAP-CNN)",
        "SynSense, Sinabs documentation, Speck overview: 8-bit weights, 16-bit membranes without a proportional leak, "
        "inputs to 128 x 128, outputs to 64 x 64, 1024 channels, kernels to 16 x 16, sum pooling",
        _speck,
    ),
    Core(
        "Loihi",
        "Davies et al., IEEE Micro 2018: 1024 neurons and 4096 input axons a core, weights of 1 to 9 bits; Michaelis "
        "et al., Frontiers in Neuroinformatics 2022: thresholds of 17 bits times 2^6, leaks of 12 bits",
        _loihi,
    ),
    Core(
        "TrueNorth",
        "Merolla et al., Science 2014: 256 axons and 256 neurons a core, four weights a neuron, one for each axon type",
        _truenorth,
    ),
)
