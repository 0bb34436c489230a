"""RepConv of Meta-SpikeFormer: equal to one convolution."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from models.attention.rep import RepConv


def test_repconv_merges_into_one_convolution() -> None:
    torch.manual_seed(0)
    stack = RepConv(6).double().eval()
    for module in stack.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_mean, -1.0, 1.0)  # type: ignore[arg-type]
    x = torch.randn(2, 1, 6, 5, 5).double()
    with torch.no_grad():
        pulse = torch.zeros(6, 1, 6, 5, 5).double()
        pulse[range(6), 0, range(6), 2, 2] = 1.0
        zero = stack(torch.zeros(1, 1, 6, 5, 5).double())
        kernel = (stack(pulse) - zero)[:, 0, :, 1:4, 1:4].flip(2, 3).transpose(0, 1)
        merged = functional.conv2d(x[:, 0], kernel, padding=1) + zero[:, 0]
        assert torch.allclose(stack(x)[:, 0], merged)
        assert torch.allclose(zero, zero[..., :1, :1].expand_as(zero))
