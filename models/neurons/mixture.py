"""HD-LIF: a gated mixture of the membranes of four neurons (HD-IF, Wu et al., Spiking Point Transformer, AAAI 2025).

Shapes: x_TBC... with `T` steps, `B` batch, `C` channels, `N` positions; `E` = 4 experts: IF, LIF, PLIF, EIF.

The experts get the same currents and fire and reset at the same threshold, but their spikes are not used: with M_e the
membrane after the reset, an entry of exactly 0 replaced by the threshold, the output is `sum_e g_e M_e >= 0.2`. The
gate g of a position is the softmax of a linear layer on its T x C currents; in evaluation, of the two largest values
only. So the output at a step depends on all steps. `legacy_batch_leak` stacks the currents for the gate as the
BrainCog/STEP benchmark does, which mixes samples where it means steps.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from models.config import ModelConfig

FIRES_AT = 0.2
KEPT_IN_EVALUATION = 2
EIF_RHEOBASE = 0.8
EIF_RESET = -0.1


class HDLIF(nn.Module):
    """Gated mixture of the membranes M of IF, LIF, PLIF and EIF: spikes where `sum_e g_e M_e >= 0.2`.

    The gate g and the 1/tau of the PLIF expert are learned.
    The gate has T x C weights for each expert; it is created at the first call, which gives C.
    """

    def __init__(self, config: ModelConfig, threshold: float, spike: Any) -> None:
        super().__init__()
        self.tau, self.v_threshold, self.surrogate_function = config.tau, threshold, spike
        self.leaks = config.legacy_batch_leak
        self.w = nn.Parameter(torch.tensor(-math.log(config.tau - 1.0)))
        with warnings.catch_warnings():  # of lazy modules, which are "under heavy development"
            warnings.simplefilter("ignore")
            self.gate = nn.LazyConv1d(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the spikes of all steps, in the dtype of the currents."""
        currents = x.flatten(3) if x.dim() > 3 else x.unsqueeze(-1)
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):
            currents = currents.float() if x.dtype in (torch.bfloat16, torch.float16) else currents
            gates_BEN = self.gates(currents)
            mixed = torch.zeros_like(currents)
            for expert, membranes in enumerate(self.membranes(currents)):
                mixed = mixed + gates_BEN[:, expert, None] * membranes
            spikes: Tensor = self.surrogate_function(mixed - FIRES_AT)
        return spikes.reshape(x.shape).to(x.dtype)

    def gates(self, x_TBCN: Tensor) -> Tensor:
        """Returns the weights of the experts, [B, E, N]."""
        T, B, C, N = x_TBCN.shape
        if self.leaks:
            stacked = x_TBCN.reshape(B, T * C, N)
        else:
            stacked = x_TBCN.transpose(0, 1).reshape(B, T * C, N)
        logits: Tensor = self.gate(stacked)
        if not self.training:
            kept = logits.topk(KEPT_IN_EVALUATION, dim=1).indices
            logits = torch.full_like(logits, -math.inf).scatter(1, kept, logits.gather(1, kept))
        return logits.softmax(1)

    def membranes(self, x_TBCN: Tensor) -> list[Tensor]:
        """Returns the membranes of each expert after the reset, [T, B, C, N]; exact zeros become the threshold."""
        decay = self.w.sigmoid()
        return [
            self._run(x_TBCN, lambda x, v: v + x, 0.0),
            self._run(x_TBCN, lambda x, v: v + (x - v) / self.tau, 0.0),
            self._run(x_TBCN, lambda x, v: v + (x - v) * decay, 0.0),
            self._run(x_TBCN, lambda x, v: v + (x - v + (v - EIF_RHEOBASE).exp()) / self.tau, EIF_RESET),
        ]

    def _run(self, x_TBCN: Tensor, charge: Any, reset: float) -> Tensor:
        v, found = torch.zeros_like(x_TBCN[0]), []
        for x in x_TBCN:
            h = charge(x, v)
            v = torch.where(h >= self.v_threshold, reset, h)
            found.append(torch.where(v == 0.0, self.v_threshold, v))
        return torch.stack(found)


def size_gates(model: nn.Module, image: Tensor) -> None:
    """Creates the gates of a model's mixtures by one forward pass in evaluation mode, without other effects."""
    was_training = model.training
    with torch.no_grad():
        model.eval()(image)
    model.train(was_training)
