"""Layers of `K` models side by side: maps are [T, B, K C, H, W], with the channels of one model after the other.

Maps have channels-last memory, where a 1x1 layer of K models is one batched product, and pooling and batch norm are
fastest on the CPU. The weights of a layer are those of its owners, concatenated; the owners' tensors become views of
them, so that they follow every change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.attention.tim import TemporalInteraction
from models.attention.wavelet import HaarMatrix
from models.fused.fire import Constants, fire_many
from models.neurons.fire import CLOSED_FORMS
from models.neurons.multistep import Neuron, applies, multistep
from models.neurons.nodes import HALF_DTYPES, IF, LIF
from models.neurons.surrogates import closed_form
from models.neurons.ternary import Ternary, ternary_steps
from models.parts.layers import BatchNorm, Conv, GroupProduct, Head, SharedConv, split_steps
from models.parts.stems import LearnedPosition
from models.parts.tokens import TokenSelection

Owners = Sequence[Any]
"""The same layer of each model."""


def adopt(layer: nn.Module, owners: Owners, *names: str) -> None:
    """Sets tensors of the layer to the owners' concatenated tensors, which become views of them."""
    for name in names:
        theirs = [getattr(owner, name) for owner in owners]
        layer._parameters.pop(name, None)
        layer._buffers.pop(name, None)
        if theirs[0] is None:
            layer.register_parameter(name, None)
            continue
        joined = torch.cat([tensor.detach().contiguous() for tensor in theirs])
        for tensor, view in zip(theirs, joined.chunk(len(owners)), strict=True):
            tensor.data = view
        if isinstance(theirs[0], nn.Parameter):
            layer.register_parameter(name, nn.Parameter(joined))
        else:
            layer.register_buffer(name, joined)


class ManyConvs(nn.Module):
    """K convolutions."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, owners: Owners) -> None:
        super().__init__()
        conv: Conv = owners[0]
        self.size = len(owners)
        self.stride, self.padding, self.groups = conv.stride, conv.padding, len(owners) * conv.groups
        self.is_pointwise = conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1
        adopt(self, owners, "weight", "bias")

    def forward(self, x: Tensor) -> Tensor:
        folded = x.flatten(0, 1)
        if self.is_pointwise:
            return split_steps(self._products(folded), x)
        folded = folded.contiguous(memory_format=torch.channels_last)
        out = F.conv2d(folded, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return split_steps(out, x)

    def _products(self, x_BCHW: Tensor) -> Tensor:
        B, C, H, W = x_BCHW.shape
        K, width = self.size, C // self.size
        apply: Any = _Products.apply
        x_MKC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, K, width)
        bias = None if self.bias is None else self.bias.view(K, 1, -1)
        operands: tuple[Tensor | None, ...] = (x_MKC, self.weight.view(K, -1, width), bias)
        if torch.is_autocast_enabled(x_BCHW.device.type):  # a custom function takes its inputs as they are
            dtype = torch.get_autocast_dtype(x_BCHW.device.type)
            operands = tuple(None if operand is None else operand.to(dtype) for operand in operands)
        out: Tensor = apply(*operands)
        return out.view(B, H, W, -1).permute(0, 3, 1, 2)


class _Products(torch.autograd.Function):
    """`y[:, k] = x[:, k] w[k]^T + b[k]` for x [M, K, C], w [K, D, C] and b [K, 1, D], without a copy of x or y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        out = x.new_empty(*x.shape[:2], w.shape[1])
        if b is None:
            torch.bmm(x.transpose(0, 1), w.transpose(1, 2), out=out.transpose(0, 1))
        else:
            torch.baddbmm(b, x.transpose(0, 1), w.transpose(1, 2), out=out.transpose(0, 1))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        torch.bmm(grad.transpose(0, 1), w, out=grad_x.transpose(0, 1))
        grad_w = torch.bmm(grad.permute(1, 2, 0), x.transpose(0, 1))
        return grad_x, grad_w, grad.sum(0).unsqueeze(1) if ctx.needs_input_grad[2] else None


class ManySharedConvs(nn.Module):
    """K convolutions, each with the same weights for all groups of its model's channels."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, owners: Owners) -> None:
        super().__init__()
        self.padding = owners[0].padding
        adopt(self, owners, "weight", "bias")

    def forward(self, x: Tensor) -> Tensor:
        width = self.weight.shape[1]
        K = len(self.weight) // width
        images, size = x.shape[0] * x.shape[1], x.shape[3:]
        by_group = x.reshape(images, K, -1, width, *size).transpose(1, 2).reshape(-1, K * width, *size)
        out = F.conv2d(by_group, self.weight, self.bias, padding=self.padding, groups=K)
        return out.view(images, -1, K, width, *size).transpose(1, 2).reshape(x.shape)


class ManyBatchNorms(BatchNorm):
    """K batch norms with separate statistics."""

    def __init__(self, owners: Owners) -> None:
        norm: BatchNorm = owners[0]
        super().__init__(len(owners) * norm.num_features, norm.eps, norm.momentum)
        adopt(self, owners, "weight", "bias", "running_mean", "running_var")


class ManyHeads(nn.Module):
    """K classifiers: [T, B, K C] to [T, B, K, classes]."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, owners: Owners) -> None:
        super().__init__()
        head: Head = owners[0]
        self.size, self.gain = len(owners), head.gain
        adopt(self, owners, "weight", "bias")

    def forward(self, x: Tensor) -> Tensor:
        M, width = x.shape[0] * x.shape[1], x.shape[2] // self.size
        x_KMC = (x if self.gain == 1.0 else x * self.gain).reshape(M, self.size, width).transpose(0, 1)
        out = torch.bmm(x_KMC, self.weight.view(self.size, -1, width).transpose(1, 2)).transpose(0, 1)
        return split_steps(out if self.bias is None else out + self.bias.view(self.size, -1), x)


class ManyNeurons(nn.Module):
    """The LIF or IF neurons of K models, with tau, threshold and alpha per model.

    Axis 2 of the currents, channels or heads, holds one model after the other. On CUDA the kernels of single neurons
    run with one value of each constant per model (`models.neurons.multistep`), on the CPU `fire_many`.
    """

    def __init__(self, owners: Owners) -> None:
        super().__init__()
        self.size, self.levels = len(owners), owners[0].levels
        self.name = owners[0].name
        self.tau = [owner.tau for owner in owners] if isinstance(owners[0], LIF) else None
        self.threshold = [owner.v_threshold for owner in owners]
        self.alpha = [owner.surrogate_function.alpha for owner in owners]
        self.surrogate = CLOSED_FORMS[type(owners[0].surrogate_function)]
        self._forms = [closed_form(owner.surrogate_function) for owner in owners]
        self.v: Tensor | Callable[[], Tensor | None] | None = None
        self._is_carried = False
        self._constants: dict[Any, Any] = {}

    def reset(self) -> None:
        """Resets the membranes to rest."""
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        is_last = x.dim() == 5 and x.stride(2) == 1 and x.shape[2] > 1
        return self._launch(x, is_last) if applies(x) else self._fire(x, is_last)

    def _launch(self, x: Tensor, is_last: bool) -> Tensor:
        """Returns the spikes by the kernels; as for single neurons, the membranes are computed when they are read."""
        x = x if is_last and x[0].permute(0, 2, 3, 1).is_contiguous() else x.contiguous()
        each = x.shape[2] if is_last and not x.is_contiguous() else x[0, 0].numel()
        neuron = Neuron(self.name, self.surrogate, self._vectors(x.device), each // self.size)
        if callable(self.v):
            self._is_carried, self.v = True, self.v()
        states = (self.v, None)
        keep = self._is_carried or not torch.is_grad_enabled()
        spikes, kept = multistep(x, states, None, neuron, keep_states=keep)
        self.v = kept[0] if keep else lambda: multistep(x, states, None, neuron, keep_states=True)[1][0]
        return spikes

    def _vectors(self, device: torch.device) -> Tensor:
        """Returns tau, threshold and the surrogate's numbers of each model, [4, K]."""
        if device not in self._constants:
            forms = [form for form in self._forms if form is not None]
            tau = self.tau or [1.0] * self.size
            rows = [tau, self.threshold, [form.a for form in forms], [form.b for form in forms]]
            self._constants[device] = torch.tensor(rows, dtype=torch.float32, device=device)
        vectors: Tensor = self._constants[device]
        return vectors

    def _fire(self, x: Tensor, is_last: bool) -> Tensor:
        to, back = _CHANNELS_LAST if is_last else (range(x.dim()), range(x.dim()))
        in_memory = x.permute(*to)
        currents = in_memory.flatten(2).float() if x.dtype in HALF_DTYPES else in_memory.flatten(2)
        v = self.v.permute(*to).flatten(2)[0] if isinstance(self.v, Tensor) else None
        tiles = in_memory[0, 0, ..., 0].numel() if is_last else 1
        spikes, v_last = fire_many(currents, v, self._expand(currents, tiles))
        self.v = v_last.view(1, *in_memory.shape[1:]).permute(*back)
        return spikes.to(x.dtype).view(in_memory.shape).permute(*back)

    def _expand(self, currents: Tensor, tiles: int) -> Constants:
        """Returns the constants over the values of one image: models in a row, `tiles` times."""
        each = currents.shape[2] // tiles // self.size
        key = (each, tiles, currents.dtype, currents.device)
        if key not in self._constants:

            def expand(values: list[float]) -> Tensor:
                return currents.new_tensor(values).repeat_interleave(each).repeat(tiles)

            self._constants[key] = Constants.of_models(self.tau, self.threshold, self.alpha, self.surrogate, expand)
        constants: Constants = self._constants[key]
        return constants


_CHANNELS_LAST = ((0, 1, 3, 4, 2), (0, 1, 4, 2, 3))
"""Permutations from [T, B, C, H, W] to the order of channels-last memory, and back."""


class ManyTernaries(Ternary):
    """The ternary neurons of K models, with threshold and alpha per model; axis 2 holds one model after the other."""

    def __init__(self, owners: Owners) -> None:
        super().__init__(0.0, type(owners[0].surrogate_function)(alpha=1.0))
        self.thresholds = [owner.v_threshold for owner in owners]
        self.alphas = [owner.surrogate_function.alpha for owner in owners]
        self._constants: dict[Any, tuple[Tensor, Tensor]] = {}

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        currents = x_seq.float() if x_seq.dtype in HALF_DTYPES else x_seq
        threshold, alpha = self._of_channels(currents)
        spikes, self.v = ternary_steps(currents, self.v, threshold, lambda over: self.surrogate_function(alpha * over))
        return spikes.to(x_seq.dtype)

    def _of_channels(self, currents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns threshold and alpha of each channel, [K C, 1, 1]."""
        each = currents.shape[2] // len(self.alphas)
        key = (each, currents.dtype, currents.device)
        if key not in self._constants:
            rows = currents.new_tensor([self.thresholds, self.alphas]).repeat_interleave(each, 1)
            self._constants[key] = rows[0].view(-1, 1, 1), rows[1].view(-1, 1, 1)
        return self._constants[key]


class ManyInteractions(TemporalInteraction):
    """K of TIM's modules, on queries [T, B, K H, N, d]; the tokens of a model are the channels of its convolution."""

    def __init__(self, owners: Owners) -> None:
        nn.Module.__init__(self)
        self.size, self.alpha = len(owners), owners[0].alpha
        self.conv = copy.deepcopy(owners[0].conv)
        adopt(self.conv, [owner.conv for owner in owners], "weight", "bias")
        self.in_neuron = ManyNeurons([owner.in_neuron for owner in owners])
        self.out_neuron = ManyNeurons([owner.out_neuron for owner in owners])

    def convolve(self, q_1BHNd: Tensor) -> Tensor:
        _, B, _, N, d = q_1BHNd.shape
        x = q_1BHNd.reshape(B, self.size, -1, N, d).transpose(1, 2).reshape(-1, self.size * N, 1, d)
        mixed = F.conv2d(x, self.conv.weight, self.conv.bias, padding=self.conv.padding, groups=self.size)
        return mixed.view(B, -1, self.size, N, d).transpose(1, 2).reshape(q_1BHNd.shape)


def many_products(owners: Owners) -> nn.Module:
    """Returns the products in groups of K models as one layer, with the groups of one model after the other."""
    joined = copy.deepcopy(owners[0])
    assert isinstance(joined, GroupProduct)
    adopt(joined, owners, "weight")
    return joined


def many_positions(owners: Owners) -> nn.Module:
    """Returns the learned positions of K models as one layer."""
    joined = copy.deepcopy(owners[0])
    assert isinstance(joined, LearnedPosition)
    adopt(joined, owners, "map")
    return joined


def many_selections(owners: Owners) -> nn.Module:
    """Returns the token selections of K models as one, with a choice of tokens for each model."""
    return TokenSelection(owners[0].keep, len(owners))


LAYERS: dict[type[nn.Module], Callable[[Owners], nn.Module]] = {
    Conv: ManyConvs,
    BatchNorm: ManyBatchNorms,
    Head: ManyHeads,
    SharedConv: ManySharedConvs,
    GroupProduct: many_products,
    HaarMatrix: lambda owners: copy.deepcopy(owners[0]),
    Ternary: ManyTernaries,
    LIF: ManyNeurons,
    IF: ManyNeurons,
    LearnedPosition: many_positions,
    TemporalInteraction: ManyInteractions,
    TokenSelection: many_selections,
}
"""The replacement of each kind of layer with weights or constants."""
