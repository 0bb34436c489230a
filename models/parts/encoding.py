"""Encodings of still images as spikes over the steps, by the formulas of the BrainCog/STEP benchmark.

Shapes: x_BCHW with values in 0..1, out [T, B, C, H, W]. Step t counts from 0.

| encoding | value at step t | | paper | keys |
| --- | --- | --- | --- | --- |
| `direct` | `x` | the first layer reads real values, once | Wu et al. 2019 | |
| `rate` | 1 where `x > u` | u uniform in [0, 1), for each step and pixel | Diehl and Cook 2015 | `step` |
| `phase` | `2^-(t mod 8)` where bit `7 - t mod 8` of `floor(256 x)` is set | in 8 steps | Kim et al. 2018 | `step` |
| `ttfs` | `1 / (t + 1)` where `T - t - 1 < x T <= T - t` | one spike, earlier if brighter | Park et al. 2020 | `step` |

With fewer than 8 steps `phase` has only the highest bits.

A pixel that is 1 exactly has no spike in `phase`: 256 has none of the eight bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.device import copy_to

BITS = 8
NOISE_SEED = 0
"""Of the noise in evaluation, so that a validation does not depend on the batches before it, nor on its batch size."""

_noise: dict[tuple[int, ...], Tensor] = {}


def rate(x_BCHW: Tensor, T: int, *, training: bool) -> Tensor:
    """Returns spikes that are more frequent for brighter pixels; in evaluation all images share the noise."""
    noise = torch.rand(T, *x_BCHW.shape, device=x_BCHW.device) if training else _fixed_noise(x_BCHW, T)
    return (x_BCHW > noise).to(x_BCHW.dtype)


def phase(x_BCHW: Tensor, T: int, *, training: bool) -> Tensor:
    """Returns the bits of each pixel, from the highest one, weighted by 1, 1/2, 1/4, ..."""
    counts = (x_BCHW * 2**BITS).floor().to(torch.int32)
    steps = [t % BITS for t in range(T)]
    return torch.stack([((counts >> (BITS - 1 - t)) & 1).to(x_BCHW.dtype) * 2.0**-t for t in steps])


def ttfs(x_BCHW: Tensor, T: int, *, training: bool) -> Tensor:
    """Returns one spike a pixel (time to first spike), of a larger value where it is earlier."""
    scaled = x_BCHW * T
    return torch.stack([((scaled > T - t - 1) & (scaled <= T - t)).to(x_BCHW.dtype) / (t + 1) for t in range(T)])


Encoding = Callable[..., Tensor]
ENCODINGS: dict[str, Encoding] = {"rate": rate, "phase": phase, "ttfs": ttfs}
"""The encodings besides `direct`, by which a network reads the pixels themselves at every step."""


def encode(x_BCHW: Tensor, encoding: str, T: int, *, training: bool) -> Tensor:
    """Returns the spikes [T, B, C, H, W] of images; with `direct` the images as they are, [1, B, C, H, W]."""
    if encoding == "direct":
        return x_BCHW.unsqueeze(0)
    with torch.no_grad():
        return ENCODINGS[encoding](x_BCHW, T, training=training)


def _fixed_noise(x_BCHW: Tensor, T: int) -> Tensor:
    """Returns noise [T, 1, C, H, W] that is the same in every process and for every image."""
    shape = (T, 1, *x_BCHW.shape[1:])
    if shape not in _noise:
        _noise[shape] = torch.rand(shape, generator=torch.Generator().manual_seed(NOISE_SEED))
    return copy_to(x_BCHW, _noise[shape])
