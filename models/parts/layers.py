"""The layers that all parts are made of. Maps are x_TBCHW: T steps, B batch, C channels, H x W positions (N = H W)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

InputKind = Literal["spikes", "real", "input"]
"""What a layer is fed: spikes, real values, or the model's input (real pixels of a still image, or events)."""


def split_steps(folded: Tensor, like: Tensor) -> Tensor:
    """Undoes the folding of T into B: [T*B, ...] back to [T, B, ...], with T and B of `like`."""
    return folded.reshape(*like.shape[:2], *folded.shape[1:])


class Conv(nn.Conv2d):
    """A convolution over x_TBCHW that knows what it is fed: spikes (accumulates) or real values (multiplies)."""

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
        same = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            width_in, width_out, kernel, stride, same if padding is None else padding, groups=groups, bias=bias
        )
        self.fed = fed

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(super().forward(x.flatten(0, 1)), x)


class Stack(nn.Module):
    """Layers in a row, without neurons between them, that stand in the place of one convolution."""

    out_channels: int


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of x_TBCHW with statistics over steps, batch and positions."""

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(super().forward(x.flatten(0, 1)), x)


class Head(nn.Linear):
    """The classifier on x_TBC, one output a step; what it is fed decides how its operations count.

    `gain` scales its input: code that feeds whole counts k to its head has gain D where ours gives k / D.
    """

    def __init__(self, width: int, num_classes: int, *, fed: InputKind, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(width, num_classes, bias)
        self.fed = fed
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.gain == 1.0 else x * self.gain)


class SpikeMatmul(nn.Module):
    """A matrix product of spikes with spikes, or of spikes with sums of spikes; a module so that a meter can count it.

    `left` and `right` say which operands are spikes. Operations: every spike of the spike operand meets the other
    operand's width; of two spike operands the sparser one counts.
    """

    def __init__(self, left: InputKind, right: InputKind) -> None:
        super().__init__()
        self.kinds = (left, right)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b)


class SpikeMask(nn.Module):
    """An elementwise product of spikes; a module so that a meter can count it.

    Operations: one for each spike that passes (`counts="passed"`), or for each spike of the left operand (`"left"`).
    """

    def __init__(self, counts: Literal["passed", "left"]) -> None:
        super().__init__()
        self.counts = counts

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class SpikeSum(nn.Module):
    """A sum of spikes over one axis, kept with size 1; a module so that a meter can count it: one for each spike."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.axis, keepdim=True)


class MaxPool(nn.MaxPool2d):
    """Halves x_TBCHW by the 3x3 maximum of stride 2 that all published stems use; spikes stay spikes."""

    def __init__(self) -> None:
        super().__init__(kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return split_steps(super().forward(x.flatten(0, 1)), x)
