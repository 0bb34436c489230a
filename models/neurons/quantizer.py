"""A neuron without memory: the quantiser of QSD-Transformer (IE-LIF, Qiu et al., ICLR 2025) in its training form.

Each step stands for D virtual steps of binary spikes, as with the integer neurons of `models.neurons.nodes`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import HALF_DTYPES, INTEGER_LEVELS


class IELIF(nn.Module):
    """Returns `floor(clip(x / threshold, 0, D) + 1/2) / D` of each step; gradient `1 / (threshold D)` inside (0, D).

    Halves are rounded up, unlike by NILIFNode, which is half to even: inputs of quantised weights are often halves.
    """

    levels = INTEGER_LEVELS
    unit = 1.0 / INTEGER_LEVELS

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__()
        self.v_threshold = threshold

    def forward(self, x_seq: Tensor) -> Tensor:
        x = x_seq.float() if x_seq.dtype in HALF_DTYPES else x_seq
        counts = x / self.v_threshold
        passed = torch.where((counts > 0) & (counts < self.levels), counts, counts.detach())
        rounded = (counts.detach().clamp(0, self.levels) + 0.5).floor()
        out: Tensor = (rounded + (passed - passed.detach())) * self.unit
        return out.to(x_seq.dtype)
