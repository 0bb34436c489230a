"""Second implementations of released networks without golden files, over the published key names.

Each function reads a published state dict and follows the description of the released code line by line: `net` holds
the state, maps are [T, B, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor
from torch.nn import functional

from models import save_published
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


class Net:
    """A published state dict and the layers that read it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, x: Tensor, key: str, stride: int = 1, padding: int | None = None, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{key}.weight"], self.state.get(f"{key}.bias")
        weight = weight.view(*weight.shape, *(1,) * (4 - weight.dim()))
        padding = weight.shape[-1] // 2 if padding is None else padding
        out = functional.conv2d(x.flatten(0, 1), weight, bias, stride, padding, 1, groups)
        return out.unflatten(0, x.shape[:2])

    def bn(self, x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{key}.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def cb(self, x: Tensor, key: str, **how: Any) -> Tensor:
        """Convolution `<key>_conv` and batch norm `<key>_bn`."""
        return self.bn(self.conv(x, f"{key}_conv", **how), f"{key}_bn")

    def head(self, x: Tensor, key: str = "head") -> Tensor:
        return functional.linear(x, self.state[f"{key}.weight"], self.state.get(f"{key}.bias"))


def lif(x: Tensor, threshold: float = 1.0, tau: float = 2.0) -> Tensor:
    spike = surrogate.Sigmoid(alpha=4.0)
    v, out = torch.zeros_like(x[0]), []
    for now in x:
        v = v + (now - v) / tau
        out.append(spike(v - threshold))
        v = v * (1.0 - out[-1].detach())
    return torch.stack(out)


def integer(x: Tensor, norm: float = 4.0) -> Tensor:
    return torch.round(torch.clamp(x, 0.0, 4.0)) / norm


def pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])


def heads(x: Tensor, count: int) -> Tensor:
    """[T, B, h, N, d]."""
    return x.flatten(3).unflatten(2, (count, x.shape[2] // count)).transpose(3, 4)


def merged(x: Tensor, like: Tensor) -> Tensor:
    return x.transpose(3, 4).flatten(2, 3).unflatten(3, like.shape[3:])


TokenAttention = Callable[[Net, Tensor, str, int], Tensor]


def ssa(net: Net, spikes: Tensor, key: str, count: int, threshold: float = 0.5) -> Tensor:
    q, k, v = (heads(lif(net.cb(spikes, f"{key}.{name}")), count) for name in "qkv")
    return net.cb(lif(merged(q @ (k.transpose(3, 4) @ v) * 0.125, spikes), threshold), f"{key}.proj")


def qkta(net: Net, x: Tensor, key: str, count: int) -> Tensor:
    q, k = (heads(lif(net.cb(x, f"{key}.{name}")), count) for name in "qk")
    return lif(net.cb(merged(lif(q.sum(4, keepdim=True), 0.5) * k, x), f"{key}.proj"))


def sew_mlp(net: Net, x: Tensor, key: str) -> Tensor:
    return lif(net.cb(lif(net.cb(x, f"{key}1")), f"{key}2"))


def ms_mlp(net: Net, x: Tensor, key: str) -> Tensor:
    return net.cb(lif(net.cb(lif(x), f"{key}1")), f"{key}2")


def qkformer_imagenet(net: Net, x: Tensor, count: int, token: TokenAttention = qkta, threshold: float = 0.5) -> Tensor:
    x = lif(pool(net.cb(x, "patch_embed1.proj")))
    main = lif(net.cb(lif(pool(net.cb(x, "patch_embed1.proj1"))), "patch_embed1.proj2"))
    x = main + lif(net.cb(x, "patch_embed1.proj_res", stride=2))
    for stage, blocks in ((1, 1), (2, 2), (3, 1)):
        if stage > 1:
            key = f"patch_embed{stage}"
            main = lif(net.cb(lif(pool(net.cb(x, f"{key}.proj3"))), f"{key}.proj4"))
            x = main + lif(net.cb(x, f"{key}.proj_res", stride=2))
        for block in range(blocks):
            key = f"stage{stage}.{block}"
            last = stage == 3
            x = x + (lif(ssa(net, x, f"{key}.attn", count, threshold)) if last else token(net, x, f"{key}.tssa", count))
            x = x + sew_mlp(net, x, f"{key}.mlp.fc")
    return net.head(x.mean((3, 4)))


def msvit_imagenet(net: Net, x: Tensor, count: int) -> Tensor:
    return qkformer_imagenet(net, x, count, mssa, 1.0)


def qkformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    x = lif(net.cb(x, "patch_embed1.proj"))
    x = lif(pool(net.cb(x, "patch_embed1.proj1")))
    main = lif(pool(net.cb(lif(pool(net.cb(x, "patch_embed1.proj2"))), "patch_embed1.proj3")))
    x = main + lif(net.cb(x, "patch_embed1.proj_res", stride=4))
    x = x + qkta(net, x, "stage1.0.tssa", count)
    x = x + sew_mlp(net, x, "stage1.0.mlp.mlp")
    main = lif(pool(net.cb(lif(net.cb(x, "patch_embed2.proj")), "patch_embed2.proj4")))
    x = main + lif(net.cb(x, "patch_embed2.proj_res", stride=2))
    x = x + lif(ssa(net, x, "stage2.0.ssa", count))
    return net.head((x + sew_mlp(net, x, "stage2.0.mlp.mlp")).mean((3, 4)))


def mssa(net: Net, x: Tensor, key: str, count: int) -> Tensor:
    q, k = (heads(lif(net.cb(x, f"{key}.{name}")), count) for name in "qk")
    line = functional.conv1d(x.flatten(0, 1).flatten(2), net.state[f"{key}.p_conv.weight"], padding=1)
    p = heads(lif(net.bn(line.unflatten(0, x.shape[:2])[..., None], f"{key}.p_bn")), count)
    mask = lif(q.sum(4, keepdim=True) + p.sum(4, keepdim=True))
    return lif(net.cb(merged(mask * k, x), f"{key}.proj"))


def max_block(net: Net, x: Tensor, key: str, mixer: str, count: int) -> Tensor:
    if mixer == "attn":
        x = x + ssa(net, lif(x), f"{key}.attn", count)
    else:
        conv = f"{key}.mixer.{mixer}"
        x = x + net.bn(net.conv(lif(x), conv, groups=x.shape[2]), f"{conv}_bn")
    return x + ms_mlp(net, x, f"{key}.mlp.fc")


def embed_max(net: Net, x: Tensor, key: str) -> Tensor:
    s = lif(x)
    main = net.cb(lif(pool(net.cb(s, f"{key}.max_embed1.embed"))), f"{key}.embed1.embed")
    return main + pool(net.cb(s, f"{key}.max_embed2.embed"))


def maxformer_imagenet(net: Net, x: Tensor, count: int) -> Tensor:
    s = lif(net.cb(x, "patch_embed1.embed1.embed", stride=2))
    main = net.cb(lif(net.cb(s, "patch_embed1.embed2.embed", stride=2)), "patch_embed1.embed3.embed")
    x = main + net.cb(s, "patch_embed1.embed4.embed", stride=2)
    x = max_block(net, x, "stage1.0", "conv5", count)
    x = embed_max(net, x, "patch_embed2")
    x = max_block(net, max_block(net, x, "stage2.0", "conv", count), "stage2.1", "conv", count)
    x = max_block(net, embed_max(net, x, "patch_embed3"), "stage3.0", "attn", count)
    return net.head(lif(x.mean((3, 4))))


def maxformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    x = pool(net.cb(lif(net.cb(x, "patch_embed1.proj")), "patch_embed1.max_embed1.embed"))
    s = lif(x)
    main = lif(pool(net.cb(s, "patch_embed1.max_embed2.embed")))
    x = pool(net.cb(main, "patch_embed1.max_embed3.embed")) + net.cb(s, "patch_embed1.embed1.embed", stride=4)
    x = embed_max(net, max_block(net, x, "stage1.0", "conv", count), "patch_embed2")
    return net.head(lif(max_block(net, x, "stage2.0", "attn", count).mean((3, 4))))


def dssa(net: Net, x: Tensor, key: str, patch: int, count: int) -> Tensor:
    s = lif(x)
    y = net.bn(net.conv(s, f"{key}.W", stride=patch, padding=0), f"{key}.norm.bn")
    y = y.flatten(3).unflatten(2, (count, -1))
    d, length = x.shape[2] // count, y.shape[4]
    y1, y2 = y[:, :, :, :d], y[:, :, :, d:]
    tokens = s.flatten(3).unflatten(2, (count, d))
    rate_x, rate_a = net.state[f"{key}.firing_rate_x"], net.state[f"{key}.firing_rate_attn"]
    maps = lif(y1.transpose(3, 4) @ tokens / torch.sqrt(rate_x * d))
    mixed = lif((y2 @ maps / torch.sqrt(rate_a * length)).reshape(x.shape))
    return x + net.bn(net.conv(mixed, f"{key}.Wproj"), f"{key}.norm_proj.bn")


def gwffn(net: Net, x: Tensor, key: str, group: int) -> Tensor:
    up = net.bn(net.conv(lif(x), f"{key}.up.1"), f"{key}.up.2.bn")
    inner = net.conv(lif(up), f"{key}.conv.0.1", groups=up.shape[2] // group)
    up = up + net.bn(inner, f"{key}.conv.0.2.bn")
    return x + net.bn(net.conv(lif(up), f"{key}.down.1"), f"{key}.down.2.bn")


def spikingresformer(net: Net, x: Tensor, count: int) -> Tensor:
    x = pool(net.bn(net.conv(x, "prologue.0", stride=2, padding=3), "prologue.1.bn"))
    for stage, (patch, depth) in enumerate(((4, 1), (2, 2), (1, 1))):
        if stage:
            down = net.conv(lif(x), f"layers.{stage}.0.conv", stride=2)
            x = net.bn(down, f"layers.{stage}.0.norm.bn")
        for block in range(depth):
            layer = 2 * block + (1 if stage else 0)
            x = dssa(net, x, f"layers.{stage}.{layer}", patch, count)
            x = gwffn(net, x, f"layers.{stage}.{layer + 1}", 64)
    return net.head(x.mean((3, 4)), "classifier")


def sep_conv_v3(net: Net, x: Tensor, key: str) -> Tensor:
    x = net.bn(net.conv(integer(x), f"{key}.pwconv1.0"), f"{key}.pwconv1.1")
    x = net.bn(net.conv(integer(x), f"{key}.dwconv.0", groups=x.shape[2]), f"{key}.dwconv.1")
    return net.bn(net.conv(integer(x), f"{key}.pwconv2.0"), f"{key}.pwconv2.1")


def conv_block_v3(net: Net, x: Tensor, key: str) -> Tensor:
    x = x + sep_conv_v3(net, x, f"{key}.Conv")
    hidden = net.bn(net.conv(integer(x), f"{key}.conv1"), f"{key}.bn1")
    return x + net.bn(net.conv(integer(hidden), f"{key}.conv2"), f"{key}.bn2")


def block_v3(net: Net, x: Tensor, key: str, count: int) -> Tensor:
    x = x + sep_conv_v3(net, x, f"{key}.conv")
    s = integer(x)
    q, k, v = (
        heads(integer(net.bn(net.conv(s, f"{key}.attn.{name}_conv.0"), f"{key}.attn.{name}_conv.1")), count)
        for name in "qkv"
    )
    mixed = integer(merged(q @ k.transpose(3, 4) @ v * 2 * (x.shape[2] / count) ** -0.5, x))
    x = x + net.bn(net.conv(mixed, f"{key}.attn.proj_conv.0"), f"{key}.attn.proj_conv.1")
    return x + net.cb(integer(net.cb(integer(x), f"{key}.mlp.fc1")), f"{key}.mlp.fc2")


def espikeformer(net: Net, x: Tensor, count: int) -> Tensor:
    x = net.cb(x, "downsample1_1.encode", stride=2)
    x = conv_block_v3(net, x, "ConvBlock1_1.0")
    x = conv_block_v3(net, net.cb(integer(x), "downsample1_2.encode", stride=2), "ConvBlock1_2.0")
    x = conv_block_v3(net, net.cb(integer(x), "downsample2.encode", stride=2), "ConvBlock2_1.0")
    x = net.cb(integer(conv_block_v3(net, x, "ConvBlock2_2.0")), "downsample3.encode", stride=2)
    x = block_v3(net, block_v3(net, x, "block3.0", count), "block3.1", count)
    x = block_v3(net, net.cb(integer(x), "downsample4.encode"), "block4.0", count)
    return net.head(integer(x.mean((3, 4)), 1.0))


def spikformer(net: Net, x: Tensor, count: int, scale: float = 0.125) -> Tensor:
    for i in ("", "1", "2", "3"):
        x = net.bn(net.conv(x, f"patch_embed.proj_conv{i}"), f"patch_embed.proj_bn{i}")
        x = pool(lif(x))
    x = x + lif(net.cb(x, "patch_embed.rpe"))
    for block in range(2):
        key = f"block.{block}"
        q, k, v = (heads(lif(net.cb(x, f"{key}.attn.{name}")), count) for name in "qkv")
        mixed = lif(merged((q @ k.transpose(3, 4)) @ v * scale, x), 0.5)
        x = x + lif(net.cb(mixed, f"{key}.attn.proj"))
        x = x + sew_mlp(net, x, f"{key}.mlp.fc")
    return net.head(x.mean((3, 4)))


def spikformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    return spikformer(net, x, count, scale=0.25)


def spikingformer(net: Net, x: Tensor, count: int, tau: float = 2.0) -> Tensor:
    x = net.cb(x, "patch_embed.proj")
    for i in range(1, 5):
        x = net.cb(pool(lif(x, 1.0, tau)), f"patch_embed.proj{i}")
    for block in range(2):
        key = f"block.{block}"
        s = lif(x, 1.0, tau)
        q, k, v = (heads(lif(net.cb(s, f"{key}.attn.{name}"), 1.0, tau), count) for name in "qkv")
        mixed = lif(merged(q @ (k.transpose(3, 4) @ v) * 0.125, x), 0.5, tau)
        x = x + net.cb(mixed, f"{key}.attn.proj")
        hidden = net.cb(lif(x, 1.0, tau), f"{key}.mlp.mlp1")
        x = x + net.cb(lif(hidden, 1.0, tau), f"{key}.mlp.mlp2")
    return net.head(x.mean((3, 4)))


def spikingformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    return spikingformer(net, x, count, tau=1.5)


def sdt(net: Net, x: Tensor, count: int, pooled: str = "1111", dilated: bool = False) -> Tensor:
    for i, name in enumerate(("", "1", "2", "3")):
        x = net.bn(net.conv(x, f"patch_embed.proj_conv{name}"), f"patch_embed.proj_bn{name}")
        x = lif(x) if i < 3 else x
        x = pool(x) if pooled[i] == "1" else x
    x = x + net.cb(lif(x), "patch_embed.rpe")
    around = torch.nn.MaxPool3d((1, 3, 3), 1, (0, 1, 1)) if dilated else torch.nn.Identity()
    for block in range(2):
        key = f"block.{block}"
        s = lif(x)
        q, k, v = (lif(net.cb(s, f"{key}.attn.{name}")) for name in "qkv")
        column = around(heads(around(k), count) * heads(around(v), count)).sum(3, keepdim=True)
        x = x + net.cb(merged(around(heads(q, count) * lif(column, 0.5)), x), f"{key}.attn.proj")
        x = x + ms_mlp(net, x, f"{key}.mlp.fc")
    return net.head(lif(x.mean((3, 4))))


def sdt_events(net: Net, x: Tensor, count: int) -> Tensor:
    return sdt(net, x, count, pooled="0011", dilated=True)


def ternary(x: Tensor) -> Tensor:
    v, out = torch.zeros_like(x[0]), []
    for now in x:
        v = v + now
        out.append((v >= 1.0).to(x) - (v <= -0.501).to(x))
        v = torch.where(out[-1] == 0.0, v, 0.0)
    return torch.stack(out)


def haar(size: int) -> Tensor:
    """The Haar matrix by its rows: level j has 2^j rows of 1 and -1 on intervals of size / 2^j, each of norm 1."""
    rows = [[size**-0.5] * size]
    for level in range(size.bit_length() - 1):
        length = size >> level
        for start in range(0, size, length):
            row = [0.0] * size
            row[start : start + length] = [(1.0 if i < length // 2 else -1.0) * length**-0.5 for i in range(length)]
            rows.append(row)
    return torch.tensor(rows, dtype=torch.float32).double()


def wavelet(net: Net, s: Tensor, key: str) -> Tensor:
    h, weight = haar(s.shape[-1]), net.state[f"{key}.haar_weight"]
    y = lif(net.bn(h @ ternary(s @ h.T), f"{key}.haar_forward_bn"))
    norm = f"{key}.haar_bn" if f"{key}.haar_bn.weight" in net.state else f"{key}.haar_multiply_bn"
    y = torch.einsum("tbgdhw,gdk->tbgkhw", y.unflatten(2, weight.shape[:2]), weight).flatten(2, 3)
    y = ternary(net.bn(y, norm))
    return net.bn(h.T @ ternary(y @ h), f"{key}.haar_inverse_bn")


def shared_conv(net: Net, x: Tensor, key: str) -> Tensor:
    parts = x.split(net.state[f"{key}.weight"].shape[0], 2)
    return net.bn(torch.cat([net.conv(part, key) for part in parts], 2), f"{key}_bn")


def swformer(net: Net, x: Tensor, mixer: str, series: bool) -> Tensor:
    for i, name in enumerate(("", "1", "2", "3")):
        x = net.bn(net.conv(x, f"patch_embed.proj_conv{name}"), f"patch_embed.proj_bn{name}")
        x = pool(lif(x)) if i < 3 else pool(x)
    x = x + net.cb(lif(x), "patch_embed.rpe")
    around = torch.nn.MaxPool3d((1, 3, 3), 1, (0, 1, 1)) if series else torch.nn.Identity()
    for block in range(2):
        key = f"block.{block}.{mixer}"
        s = around(lif(x))
        frequencies = around(wavelet(net, s, key))
        local = sum(shared_conv(net, frequencies if series else s, f"{key}.{name}") for name in ("conv1", "conv2"))
        x = x + (local if series else frequencies + local)
        x = x + ms_mlp(net, x, f"block.{block}.mlp.fc")
    return x.mean((3, 4))


def swformer_imagenet(net: Net, x: Tensor, count: int) -> Tensor:
    return net.head(lif(swformer(net, x, "attn", series=False)))


def swformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    return net.head(swformer(net, x, "mixer", series=True))


def unit(net: Net, x: Tensor, key: str, conv: str = "conv1x1", groups: int = 1) -> Tensor:
    return lif(net.bn(net.conv(x, f"{key}.{conv}", groups=groups), f"{key}.bn"))


def sgl_conv(net: Net, x: Tensor, key: str) -> Tensor:
    u = x + unit(net, x, f"{key}.conv", "conv3x3", x.shape[2])
    wide = unit(net, u, f"{key}.conv1x1_1")
    return u + unit(net, unit(net, wide, f"{key}.dwconv3x3", "conv3x3", wide.shape[2]), f"{key}.conv1x1_2")


def sgl_ssa(net: Net, x: Tensor, key: str, count: int) -> Tensor:
    q, k, v = (heads(unit(net, x, f"{key}.{name}_conv"), count) for name in "qkv")
    return unit(net, merged(lif(q @ k.transpose(3, 4) @ v * 0.125, 0.5), x), f"{key}.proj_conv")


def sgl_local(net: Net, x: Tensor, key: str, count: int) -> Tensor:
    out = torch.zeros_like(x)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        out[..., row::2, column::2] = sgl_ssa(net, x[..., row::2, column::2], key, count)
    return out


def sgl_mlp(net: Net, x: Tensor, key: str) -> Tensor:
    return unit(net, unit(net, x, f"{key}.mlp1"), f"{key}.mlp2")


def sglformer_events(net: Net, x: Tensor, count: int) -> Tensor:
    x = unit(net, x, "stem.conv", "conv3x3")
    for i in (1, 2, 3, 4):
        x = lif(pool(net.bn(net.conv(x, f"tokenizer.conv{i}.conv3x3"), f"tokenizer.conv{i}.bn")))
    for block in range(2):
        key = f"blocks.{block}"
        x = x + sgl_conv(net, x, f"{key}.loc")
        x = x + sgl_local(net, x, f"{key}.ssa1", count)
        x = x + sgl_mlp(net, x, f"{key}.mlp1")
        for i in (2, 3):
            x = x + sgl_ssa(net, x, f"{key}.ssa{i}", count)
            x = x + sgl_mlp(net, x, f"{key}.mlp{i}")
    weight, bias = net.state["full_size_conv.weight"], net.state["full_size_conv.bias"]
    read = torch.einsum("tbcn,cnt->bc", x.flatten(3), weight[:, 0]) + bias
    return net.head(net.bn(read[..., None, None], "bn")[..., 0, 0])[None]


def sglformer_imagenet(net: Net, x: Tensor, count: int, pooled: str = "01111") -> Tensor:
    for i, name in enumerate(("", "1", "2", "3", "4")):
        x = net.cb(x, f"patch_embed.proj{name}")
        x = lif(pool(x) if pooled[i] == "1" else x)
    x = x + sgl_conv(net, x, "localblock.0.local1")
    x = x + sgl_local(net, x, "localblock.0.local2_SSA", count)
    x = x + sgl_mlp(net, x, "localblock.0.local2_MLP")
    for block in range(2):
        x = x + lif(ssa(net, x, f"blocks.{block}.attn", count))
        x = x + sew_mlp(net, x, f"blocks.{block}.mlp.fc")
    return net.head(x.mean((3, 4)))


def sglformer_imagenet_ima(net: Net, x: Tensor, count: int) -> Tensor:
    return sglformer_imagenet(net, x, count, pooled="11110")


def emsa(net: Net, x: Tensor, key: str, layer: str, step: bool) -> Tensor:
    def fired(part: str, conv: str, norm: str) -> Tensor:
        y = net.conv(x, f"{key}.{part}{conv}")
        skips = step and layer == "conv" and part in ("k_", "v_")
        return lif(y if skips else net.bn(y, f"{key}.{part}{norm}")).flatten(3)

    k, v = (fired(part, layer, "bn") for part in ("k_", "v_"))
    w = fired("router", "1", "2")
    w = w.reshape(*w.shape[:2], w.shape[3], 4) if step and layer == "linear" else w.transpose(2, 3)
    y = torch.zeros_like(v)
    for expert in range(4):
        q = fired(f"ff_list.{expert}.unit_", layer, "bn")
        scale = 0.125 if layer == "linear" else 1.0
        r = lif(torch.einsum("tbdn,tbdm,tbcm->tbcn", q, k, v) * scale)
        y = y + w[..., expert].unsqueeze(2) * r
    return lif(net.bn(net.conv(y.unflatten(3, x.shape[3:]), f"{key}.proj_{layer}"), f"{key}.proj_bn"))


def emsp(net: Net, x: Tensor, key: str, layer: str) -> Tensor:
    hidden = lif(net.bn(net.conv(x, f"{key}.fc1_{layer}"), f"{key}.fc1_bn"))
    a, b = hidden[:, :, : hidden.shape[2] // 2], hidden[:, :, hidden.shape[2] // 2 :]
    a = lif(net.bn(net.conv(a, f"{key}.dw_conv", groups=a.shape[2]), f"{key}.dw_bn"))
    return lif(net.bn(net.conv(a * b, f"{key}.fc2_{layer}"), f"{key}.fc2_bn"))


def semm(net: Net, x: Tensor, count: int, layer: str = "linear", step: bool = False) -> Tensor:
    for i in ("", "1", "2", "3"):
        x = lif(net.bn(net.conv(x, f"patch_embed.proj_conv{i}"), f"patch_embed.proj_bn{i}"))
        x = pool(x) if layer == "conv" or i in ("2", "3") else x
    x = x + lif(net.cb(x, "patch_embed.rpe"))
    for block in range(2):
        x = x + emsa(net, x, f"block.{block}.attn", layer, step)
        x = x + emsp(net, x, f"block.{block}.mlp", layer)
    return net.head(x.mean((3, 4)))


def semm_imagenet(net: Net, x: Tensor, count: int) -> Tensor:
    return semm(net, x, count, "conv")


def semm_imagenet_step(net: Net, x: Tensor, count: int) -> Tensor:
    return semm(net, x, count, "conv", step=True)


def half_leak(x: Tensor) -> Tensor:
    """STMixer's neuron; its membrane is twice that of LIF neurons with threshold 0.5."""
    return lif(x, 0.5)


def stmixer(net: Net, x: Tensor, count: int) -> Tensor:
    def conv_bn(x: Tensor, key: str, i: int, **how: Any) -> Tensor:
        return net.bn(net.conv(x, f"{key}.{i}", **how), f"{key}.{i + 1}")

    patches = conv_bn(x, "patch_embd.short_proj1", 0, stride=16, padding=0)
    y = conv_bn(x, "patch_embd.proj_conv", 0)
    for i in (3, 6, 9, 12):
        y = conv_bn(half_leak(y), "patch_embd.proj_conv", i, stride=2)
    x = torch.cat([patches, y], 2)
    for block in range(2):
        key = f"block.{block}.token_mix"
        s = half_leak(conv_bn(half_leak(x), f"{key}.fc1", 1)).flatten(3)
        weights = [net.state[f"{key}.attn.linear_mix.{g}.weight"] for g in range(count)]
        mixed = torch.cat([part @ w.T for part, w in zip(s.chunk(count, 2), weights, strict=True)], 2)
        x = x + conv_bn(half_leak(mixed.view(x.shape)), f"{key}.fc2", 1)
        key = f"block.{block}.channel_mix"
        x = x + conv_bn(half_leak(conv_bn(half_leak(x), f"{key}.fc1", 1)), f"{key}.fc2", 1)
    return net.head(x.mean((3, 4)))


TWO = {"embed_dim": 32, "depths": 2, "num_heads": 4}
NETS: list[tuple[Callable[[Net, Tensor, int], Tensor], str, dict[str, Any]]] = [
    (spikformer, "spikformer_imagenet", TWO),
    (spikformer_events, "spikformer_dvs", TWO),
    (spikingformer, "spikingformer_imagenet", TWO),
    (spikingformer_events, "spikingformer_dvs", TWO),
    (sdt, "sdt_imagenet", TWO),
    (sdt_events, "sdt_dvs", {**TWO, "img_size": 16, "patch_size": 4}),
    (qkformer_imagenet, "qkformer_imagenet", {"embed_dim": 64, "depths": 4, "num_heads": 4}),
    (msvit_imagenet, "msvit_imagenet", {"embed_dim": 64, "depths": 4, "num_heads": 4}),
    (qkformer_events, "qkformer_dvs", {"embed_dim": 64, "depths": 2, "num_heads": 4}),
    (maxformer_imagenet, "maxformer_imagenet", {"embed_dim": 64, "depths": 4, "num_heads": 4}),
    (maxformer_events, "maxformer_dvs", {"embed_dim": 64, "depths": 2, "num_heads": 4}),
    (swformer_imagenet, "swformer_imagenet", TWO),
    (swformer_events, "swformer_dvs", TWO),
    (semm, "semm_cifar", {**TWO, "patch_size": 4, "expert_dim": 12}),
    (semm_imagenet, "semm_imagenet", {"embed_dim": 48, "depths": 2, "num_heads": 4, "expert_dim": 12}),
    (
        semm_imagenet_step,
        "semm_imagenet",
        {"embed_dim": 48, "depths": 2, "num_heads": 4, "expert_dim": 12, "variant": "step"},
    ),
    (stmixer, "stmixer_imagenet", TWO),
    (sglformer_events, "sglformer_dvs", {"embed_dim": 48, "depths": 2, "num_heads": 4}),
    (sglformer_imagenet, "sglformer_imagenet", {"embed_dim": 32, "depths": 4, "num_heads": 4}),
    (
        sglformer_imagenet_ima,
        "sglformer_imagenet",
        {"embed_dim": 32, "depths": 4, "num_heads": 4, "embed_layer": "SGLFormer_ima"},
    ),
    (spikingresformer, "spikingresformer_ti", {"embed_dim": [16, 32, 64], "depths": 4, "num_heads": 2}),
    (
        espikeformer,
        "espikeformer_t",
        {"embed_dim": [16, 32, 48, 64], "depths": [1, 2, 2, 1], "num_heads": 4, "step": 1, "read_step": 1},
    ),
]


@pytest.mark.parametrize(("forward", "name", "keys"), NETS)
def test_logits_equal_those_of_the_network_written_out(
    forward: Callable[[Net, Tensor, int], Tensor],
    name: str,
    keys: dict[str, Any],
    small_model: Build,
    pixels: Pixels,
    firing: Firing,
) -> None:
    model = small_model(name, **{"img_size": 64, "patch_size": 16, **keys}).double()
    x = pixels(model.config).double()
    firing(model, x)
    steps = model.config.step
    with torch.no_grad():
        ours = model.forward_steps(x)
        theirs = forward(Net(save_published(model)), x.expand(steps, *x.shape), keys["num_heads"])
    assert float(ours.std()) > 0.0
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-9)


DIFFERENTIABLE = [
    net for net in NETS if net[1] not in ("espikeformer_t", "spikingresformer_ti", "swformer_imagenet", "swformer_dvs")
]
"""The networks whose neurons are all binary LIF neurons with a sigmoid surrogate."""


@pytest.mark.parametrize(("forward", "name", "keys"), DIFFERENTIABLE)
def test_gradients_equal_those_of_the_network_written_out(
    forward: Callable[[Net, Tensor, int], Tensor],
    name: str,
    keys: dict[str, Any],
    small_model: Build,
    pixels: Pixels,
    firing: Firing,
) -> None:
    model = small_model(name, **{"img_size": 32, "patch_size": 16, **keys}).double()
    x = pixels(model.config).double()
    firing(model, x)
    steps = model.config.step
    state = {key: value.requires_grad_(value.is_floating_point()) for key, value in save_published(model).items()}
    theirs = forward(Net(state), x.expand(steps, *x.shape), keys["num_heads"])
    theirs.mean(0).square().sum().backward()
    model(x).square().sum().backward()
    assert model.published is not None
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    assert largest > 0.0
    for ours, p in model.named_parameters():
        expected = state[model.published.key(ours)].grad
        if p.grad is None or expected is None:
            assert p.grad is expected, ours
            continue
        assert torch.allclose(p.grad, expected.view(p.shape), rtol=1e-6, atol=1e-9 * largest), ours
