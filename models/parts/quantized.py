"""Weights of few bits: learned step size quantisation (LSQ, Esser et al., ICLR 2020), one step per output channel."""

from __future__ import annotations

from torch import Tensor, nn

from models.parts.layers import Conv, Head, Layer


class LearnedStepQuantizer(Layer):
    """Returns `round(clip(w / alpha, -2^(b-1), 2^(b-1) - 1)) alpha` for weights w, with a learned alpha per output.

    Rounding is half to even and passes gradients. The gradient of alpha is scaled by `1 / sqrt(weights x largest
    level)`. Steps start at `2 mean |w| / sqrt(largest level)`.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.lowest, self.largest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        start = 2.0 * weight.detach().abs().mean() / self.largest**0.5
        self.alpha = nn.Parameter(start.repeat(len(weight)))
        self.gradient_scale = (weight.numel() * self.largest) ** -0.5

    def forward(self, weight: Tensor) -> Tensor:
        scaled = self.alpha * self.gradient_scale
        alpha = (self.alpha.detach() + (scaled - scaled.detach())).view(-1, *(1 for _ in weight.shape[1:]))
        levels = (weight / alpha).clamp(self.lowest, self.largest)
        quantized: Tensor = (levels.round().detach() + (levels - levels.detach())) * alpha
        return quantized


def quantize_weights(model: nn.Module, bits: int) -> None:
    """Quantises the weights of all convolutions and heads of a model, from their current values on."""
    for module in list(model.modules()):
        if isinstance(module, Conv | Head):
            module.quantizer = LearnedStepQuantizer(module.weight, bits)
