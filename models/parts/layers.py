"""Layers over maps x_TBCHW: `T` steps, `B` batch, `C` width, `H` x `W` positions (`N` = H W tokens)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

InputKind = Literal["spikes", "signed", "real", "input"]
"""The input of a layer: spikes, spikes of -1, 0 and 1, real values, or the model's own input (real pixels of a still
image, or events)."""


def split_steps(folded: Tensor, like: Tensor) -> Tensor:
    """Undoes the folding of T into B: [T*B, ...] back to [T, B, ...], with T and B of `like`."""
    return folded.reshape(*like.shape[:2], *folded.shape[1:])


def repeat_steps(x: Tensor, steps: int) -> Tensor:
    """Repeats a tensor of one step, [1, B, ...], as of a still image, at every step; others are returned unchanged."""
    return x.expand(steps, *x.shape[1:]) if x.shape[0] == 1 else x


def scaled(x: Tensor, factor: float | Tensor) -> Tensor:
    """Returns x times a factor in the dtype of x, which a float32 factor of each head would widen under autocast."""
    return (x * factor).to(x.dtype)


class Layer(nn.Module):
    """A module whose call returns one tensor. It only narrows the type of `nn.Module.__call__`."""

    __call__: Callable[..., Tensor]


class Conv(nn.Conv2d, Layer):
    """A convolution over x_TBCHW, with "same" padding by default. `fed` names its input, for counting operations."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        groups: int = 1,
        bias: bool = False,
        fed: InputKind = "spikes",
    ) -> None:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
        super().__init__(width_in, width_out, kernel, stride, padding, groups=groups, bias=bias)
        self.fed = fed
        self.quantizer: Layer | None = None

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(self._conv_forward(x.flatten(0, 1), used_weight(self), self.bias), x)

    def weight_by_output(self) -> Tensor:
        """Returns the weights with the outputs as first dimension."""
        return self.weight


class SharedConv(Conv):
    """A convolution with bias of each group of `width` channels, with the same weights for all groups."""

    def __init__(self, width: int, kernel: int, *, fed: InputKind = "spikes") -> None:
        super().__init__(width, width, kernel, bias=True, fed=fed)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), -1, self.in_channels, *x.shape[3:])
        return super().forward(groups).reshape(x.shape)


class GroupProduct(Layer):
    """A product of each position's spikes with a matrix for each group of channels, `y_k = sum_d x_d W[d, k]`."""

    fed: InputKind = "spikes"

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(groups, width // groups, width // groups))
        self.quantizer: Layer | None = None

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(F.conv2d(x.flatten(0, 1), used_weight(self), groups=len(self.weight)), x)

    def weight_by_output(self) -> Tensor:
        """Returns the matrices as the weights of a grouped 1x1 convolution, [C, C / groups, 1, 1]."""
        groups, width, _ = self.weight.shape
        return self.weight.transpose(1, 2).reshape(groups * width, width, 1, 1)


class Stack(Layer):
    """Layers without neurons between them, used in place of one convolution."""

    out_channels: int


class BatchNorm(nn.BatchNorm2d, Layer):
    """Batch normalisation of x_TBCHW with statistics over steps, batch and positions."""

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(super().forward(x.flatten(0, 1)), x)


class ConvNorm(Layer):
    """A convolution and its batch norm."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = conv
        self.bn = BatchNorm(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Head(nn.Linear, Layer):
    """The classifier on x_TBC, [T, B, K] logits.

    `gain` scales its input: D where the published head reads whole counts k and ours reads k / D.
    """

    def __init__(self, width: int, num_classes: int, *, fed: InputKind, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(width, num_classes, bias)
        self.fed = fed
        self.gain = gain
        self.quantizer: Layer | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x if self.gain == 1.0 else x * self.gain, used_weight(self), self.bias)

    def weight_by_output(self) -> Tensor:
        """Returns the weights with the outputs as first dimension."""
        return self.weight


def used_weight(layer: Conv | GroupProduct | Head) -> Tensor:
    """Returns the weights that a layer computes with, outputs first: quantised ones if it has a quantiser."""
    weight = layer.weight_by_output()
    return weight if layer.quantizer is None else layer.quantizer(weight)


class SpikeMatmul(Layer):
    """A matrix product of spikes with spikes, or of spikes with sums of spikes; a module so that a meter can count it.

    `left` and `right` name the operands. Operations: each spike of a spike operand times the other operand's width; of
    two spike operands, those of the sparser one.
    """

    def __init__(self, left: InputKind, right: InputKind) -> None:
        super().__init__()
        self.kinds = (left, right)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b)


class SpikeMask(Layer):
    """An elementwise product of spikes; a module so that a meter can count it.

    Operations: one for each spike of the product (`counts="passed"`), or of the left operand (`"left"`).
    """

    def __init__(self, counts: Literal["passed", "left"]) -> None:
        super().__init__()
        self.counts = counts

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class SpikeSum(Layer):
    """A sum of spikes over one axis of a map, as size 1; a module so that a meter can count it, one for each spike."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.axis, keepdim=True, dtype=x.dtype)  # autocast would give float32 to all that follows


class MaxPool(nn.MaxPool2d, Layer):
    """The 3x3 maximum of stride 2 of all published stems, which halves x_TBCHW; spikes remain spikes."""

    def __init__(self) -> None:
        super().__init__(kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(super().forward(x.flatten(0, 1)), x)
