"""Energy of operations: the usual 45 nm figures, the rule of the published tool, and a model with memory traffic.

Pure functions of the counts of one image. Sources: Horowitz, "Computing's energy problem", ISSCC 2014 (operations and
SRAM at 45 nm); the energy script of Spikingformer (Zhou et al. 2023), derived from syops-counter; Yan, Bai and Wong,
"Reconsidering the energy efficiency of spiking neural networks", arXiv 2409.08290 (the quantised reference).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MJ_PER_MAC = 4.6e-9
"""A 32-bit floating-point multiplication, 3.7 pJ, and addition, 0.9 pJ."""
MJ_PER_SYNOP = 0.9e-9

MJ_PER_PRODUCT_BIT2 = 3.1e-9 / 32**2
"""Energy of an m x n-bit integer product, over m n: 3.1 pJ at 32 x 32, and 0.19 at 8 x 8 (measured: 0.2)."""
MJ_OF_ADDITIONS = {8: 0.03e-9, 16: 0.05e-9, 32: 0.1e-9}
"""Integer additions by their width in bits."""
MJ_PER_ADDITION = MJ_OF_ADDITIONS[32]
"""A 32-bit integer addition, as into an accumulator."""
MJ_PER_BIT_MOVED = 100e-9 / 64
"""An access to a 1 MB SRAM of 64-bit words, 100 pJ."""
WEIGHT_BITS = 8
PIXEL_BITS = 8
MEMBRANE_BITS = 16


def energy_mj(macs: float, synops: float) -> float:
    """Returns the energy of multiply-accumulates and of accumulates."""
    return MJ_PER_MAC * macs + MJ_PER_SYNOP * synops


@dataclass(frozen=True)
class PublishedLayer:
    """A convolution or head in the published tool: its operations over all steps, and the rate of its input."""

    operations: float
    """Multiplications if every input were on, and bias additions, zero padding included."""
    rate: float | None
    """Share of inputs that are 1; None where inputs are not 0 or 1."""


def published_energy_mj(layers: Iterable[PublishedLayer], attention_synops: float) -> float:
    """Returns the energy by the published rule: operations x rate for binary input, all as MACs otherwise."""
    macs, synops = 0.0, attention_synops
    for layer in layers:
        if layer.rate is None:
            macs += layer.operations
        else:
            synops += layer.operations * layer.rate
    return energy_mj(macs, synops)


@dataclass(frozen=True)
class Work:
    """Operations of a spiking network on one image in `steps` steps, and its operations with all inputs on."""

    steps: int
    macs: float
    synops: float
    neurons: int
    levels: int
    weights: int
    dense: float
    """Products of one step of the layers that read spikes."""
    dense_attention: float
    """Products of one step of the attention."""


def memory_energy_mj(work: Work) -> float:
    """Returns the energy of the spiking network in integers, with memory traffic.

    Weights are read once per step, spikes are written and read once, membranes are stored between steps. Pixels,
    residual sums and the network on chip are left out, here as in the reference.
    """
    compute = work.macs * mac_mj(WEIGHT_BITS, PIXEL_BITS) + work.synops * MJ_PER_ADDITION
    weights = work.weights * WEIGHT_BITS * work.steps
    spikes = 2 * work.neurons * bits_of(work.levels) * work.steps
    membranes = 2 * work.neurons * MEMBRANE_BITS * (work.steps - 1)
    return compute + MJ_PER_BIT_MOVED * (weights + spikes + membranes)


def quantised_ann_energy_mj(work: Work) -> float:
    """Returns the energy of an artificial network of the same shape, by the same constants.

    Its activations have one value per possible spike count, ceil(log2(steps x levels + 1)) bits. It computes every
    product once.
    """
    bits = bits_of(work.steps * work.levels)
    compute = (
        work.macs * mac_mj(WEIGHT_BITS, PIXEL_BITS)
        + work.dense * mac_mj(WEIGHT_BITS, bits)
        + work.dense_attention * mac_mj(bits, bits)
    )
    return compute + MJ_PER_BIT_MOVED * (work.weights * WEIGHT_BITS + 2 * work.neurons * bits)


def mac_mj(bits: int, other_bits: int) -> float:
    """Returns the energy of an integer product of these widths and its addition."""
    return MJ_PER_PRODUCT_BIT2 * bits * other_bits + MJ_PER_ADDITION


def addition_mj(bits: int) -> float:
    """Returns the energy of an integer addition: that of the next published width, beyond 32 bits in proportion."""
    widths = [width for width in MJ_OF_ADDITIONS if width >= bits]
    return MJ_OF_ADDITIONS[min(widths)] if widths else MJ_PER_ADDITION * bits / 32


def integer_energy_mj(additions: float, macs: float, *, weight_bits: int, input_bits: int, sum_bits: int) -> float:
    """Returns the energy of counted integer operations, without memory traffic.

    An addition has the width of the sum that takes it, not that of the weight. `macs` are products of real inputs with
    weights, each added to such a sum.
    """
    product = MJ_PER_PRODUCT_BIT2 * weight_bits * input_bits
    return additions * addition_mj(sum_bits) + macs * (product + addition_mj(sum_bits))


def bits_of(largest: int) -> int:
    """Returns the number of bits for 0..largest."""
    return math.ceil(math.log2(largest + 1))
