"""Ternary integrate-and-fire neurons of the Spiking Wavelet Transformer (Fang et al., ECCV 2024, "negative IF")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor

NEGATIVE_THRESHOLD = 0.5 + 0.001
"""Of -V. The published 0.5 is a sum that wavelet coefficients reach exactly; the rest breaks the tie."""


def ternary_steps(
    x: Tensor, v: Tensor | None, threshold: float | Tensor, spike: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the spikes, -1, 0 or 1, of the currents x [T, ...] and the membranes after the last step.

    `V + X` fires +1 where it is at least `threshold`, -1 where it is at most -0.501, and is 0 after either. `v` is None
    at rest; `spike` is a surrogate function of SpikingJelly. Gradients flow through the reset too.
    """
    spikes = []
    for now in x:
        v = now if v is None else v + now
        up, down = spike(v - threshold), spike(-(v + NEGATIVE_THRESHOLD))
        spikes.append(up - down)
        v = v * (1.0 - up - down)
    assert v is not None
    return torch.stack(spikes), v


class Ternary(base.MemoryModule):  # type: ignore[misc]  # spikingjelly has no types
    """A layer of `ternary_steps` without leak. Only the threshold of positive spikes can be chosen."""

    levels = 1
    is_signed = True
    """Marks spikes that count by their absolute value."""

    v: Tensor | None

    def __init__(self, threshold: float, spike: Any) -> None:
        super().__init__()
        self.step_mode = "m"
        self.v_threshold = threshold
        self.surrogate_function = spike
        self.register_memory("v", None)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        currents = x_seq.float() if x_seq.dtype in (torch.bfloat16, torch.float16) else x_seq
        spikes, self.v = ternary_steps(currents, self.v, self.v_threshold, self.surrogate_function)
        return spikes.to(x_seq.dtype)
