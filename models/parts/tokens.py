"""Token selection: a block updates its most informative tokens only, the others pass it unchanged.

After TP-Spikformer (Wei et al., ICLR 2026), which keeps the tokens that differ from their surroundings in space and
time, and stops the others at a block instead of removing them. The score here is our reading of its description. A
selection has no parameters, so it can be set for a trained network.

Shapes: `T` steps, `B` batch, `C` width, `N` = H W tokens, `n` selected ones, `K` models side by side (fused training).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.neurons.nodes import HALF_DTYPES


def num_selected(keep: float, tokens: int) -> int:
    """Returns the tokens that a block updates: this share of them, rounded up."""
    return math.ceil(keep * tokens - 1e-9)  # 0.7 x 10 is 7.000000000000001


def scores(x_TBCHW: Tensor, members: int = 1) -> Tensor:
    """Returns how much each token differs from its neighbours and from the step before, [B, K, N].

    The score is the sum over steps and channels of `|9 x - sum of the 3x3 tokens around it| + 9 |x_t - x_(t-1)|`, with
    the border repeated: whole numbers for sums of spikes, so that equal tokens have equal scores.
    """
    x = x_TBCHW.detach()
    x = x.float() if x.dtype in HALF_DTYPES else x
    around = F.avg_pool2d(F.pad(x.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, stride=1, divisor_override=1)
    difference = (9.0 * x - around.view_as(x)).abs().sum(0)
    difference = difference + 9.0 * (x[1:] - x[:-1]).abs().sum(0)
    B, C, H, W = difference.shape
    return difference.view(B, members, C // members, H * W).sum(2)


class TokenSelection(nn.Module):
    """Updates the tokens with the highest scores, `keep` of all; of equal ones the first."""

    def __init__(self, keep: float, members: int = 1) -> None:
        super().__init__()
        self.keep, self.members = keep, members

    def forward(self, x_TBCHW: Tensor, update: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns x with the selected tokens replaced by `update` of them, a map [T, B, C, 1, n].

        An image has one selection for all steps, since membranes belong to a token.
        """
        T, B, C, H, W = x_TBCHW.shape
        chosen = num_selected(self.keep, H * W)
        if chosen == H * W:
            return update(x_TBCHW)
        order = scores(x_TBCHW, self.members).argsort(dim=2, descending=True, stable=True)
        index = order[..., :chosen].sort(2).values.view(1, B, self.members, 1, chosen)
        index = index.expand(T, -1, -1, C // self.members, -1)
        tokens = x_TBCHW.reshape(T, B, self.members, -1, H * W)
        updated = update(tokens.gather(4, index).reshape(T, B, C, 1, chosen))
        tokens = tokens.to(updated.dtype)  # which autocast may have widened
        return tokens.scatter(4, index, updated.reshape(index.shape)).view(T, B, C, H, W)
