"""Augmentation of image batches on their device: uint8 [B, C, H, W] in, normalized float out.

All geometry of a batch (distortion, crop, flip, rotate, shear, translate) is composed into one resampling.
The policy `rand-m9-n1-mstd0.4-inc1` samples from the five operations of the published SNN recipes: equalize, rotate,
shear x, translate x, translate y, each applied with probability 0.5 (timm's magnitudes, out of 10).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.augment.events import EventAugment, box_mask
from trainers.augment_policy import parse_policy
from trainers.config import TrainConfig
from trainers.data.split import Data, Split
from trainers.datasets import EVENTS, TIMM_LOADED

DISTORT_ROTATION = math.radians(15.0)
DISTORT_SCALE = 0.12
DISTORT_SHIFT = 0.12
DISTORT_NOISE = 0.1
RANDOM_OPS = ("equalize", "rotate", "shear_x", "translate_x", "translate_y")


class Augmentation(Protocol):
    """Conversion of a batch of a data set into the model's input, without (`plain`) or with (`train`) augmentation."""

    def plain(self, images: Tensor) -> Tensor: ...

    def train(self, images: Tensor) -> Tensor: ...


def make_augment(config: TrainConfig, device: torch.device) -> Augmentation:
    """Returns the augmentation of the config's data set."""
    if config.dataset in TIMM_LOADED:
        return _Identity()
    return EventAugment(config, device) if config.dataset in EVENTS else Augment(config, device)


class _Identity:
    """No change: timm's loader has augmented and normalized the batches."""

    def plain(self, images: Tensor) -> Tensor:
        return images

    train = plain


class Augment:
    """Conversion of uint8 batches into normalized input, with (`train`) or without (`plain`) augmentation."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.policy = parse_policy(config.aa) if config.aa else None
        self.order = _pixel_order(config.img_size, device) if config.dataset == "psmnist" else None
        self.mean, self.std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in config.normalization()
        )

    def plain(self, images: Tensor) -> Tensor:
        """Returns the batch resized, centre-cropped and normalized."""
        return self._ordered((self._fit(images.float() / 255.0, self.config.crop_pct) - self.mean) / self.std)

    def _ordered(self, x: Tensor) -> Tensor:
        """Returns the images with their pixels permuted, of psMNIST, or as they are."""
        return x if self.order is None else x.flatten(2)[:, :, self.order].view_as(x)

    def train(self, images: Tensor) -> Tensor:
        """Returns an augmented batch; uses torch's global generator."""
        config, x = self.config, self._fit(images.float() / 255.0, 1.0)
        matrix = _identity(len(x), x.device)
        if config.distort:
            matrix = matrix @ _distortion(len(x), None, x.device)
        if config.scale != (1.0, 1.0) or config.ratio != (1.0, 1.0):
            matrix = matrix @ _random_crop(len(x), config.scale, config.ratio, x.device)
        if config.hflip:
            flip = torch.rand(len(x), device=x.device) < config.hflip
            matrix[:, :, 0] *= torch.where(flip, -1.0, 1.0).unsqueeze(1)
        if self.policy is not None:
            for _ in range(self.policy.count):
                x, matrix = self._random_op(x, matrix)
        elif config.color_jitter:
            x = _color_jitter(x, config.color_jitter)
        if self._moves(matrix):
            x = self._resample(x, matrix, self._train_mode())
        if config.distort:
            x = _noise(x, None)
        x = (x - self.mean) / self.std
        return self._ordered(_erase(x, config.reprob, config.remode) if config.reprob else x)

    def _moves(self, matrix: Tensor) -> bool:
        """Returns whether images must be resampled; on a GPU by the settings, as reading the matrix would wait."""
        config = self.config
        if not matrix.is_cuda:
            return not torch.equal(matrix, _identity(len(matrix), matrix.device))
        crops = config.scale != (1.0, 1.0) or config.ratio != (1.0, 1.0)
        return bool(config.distort or crops or config.hflip or self.policy is not None)

    def _fit(self, x: Tensor, crop_pct: float) -> Tensor:
        """Resizes to img_size / crop_pct and crops the centre of img_size."""
        size = self.config.img_size
        full = round(size / crop_pct)
        if x.shape[-1] != full or x.shape[-2] != full:
            mode = self.config.interpolation
            corners = None if mode == "nearest" else False
            x = F.interpolate(x, (full, full), mode=mode, align_corners=corners).clamp(0.0, 1.0)
        start = (full - size) // 2
        return x[..., start : start + size, start : start + size]

    def _train_mode(self) -> str:
        mode = self.config.train_interpolation
        return ("bilinear", "bicubic")[int(torch.randint(2, ()))] if mode == "random" else mode

    def _resample(self, x: Tensor, matrix: Tensor, mode: str) -> Tensor:
        """Resamples by inverse maps [B, 3, 3] in coordinates of -1..1; pixels from outside have the mean colour."""
        grid = F.affine_grid(matrix[:, :2], list(x.shape), align_corners=False)
        fill = self.mean if x.shape[1] > 1 else torch.zeros_like(self.mean)
        return (F.grid_sample(x - fill, grid, mode=mode, align_corners=False) + fill).clamp(0.0, 1.0)

    def _random_op(self, x: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        assert self.policy is not None
        count, device = len(x), x.device
        chosen = torch.randint(len(RANDOM_OPS), (count,), device=device)
        chosen[torch.rand(count, device=device) >= 0.5] = -1
        size = self.policy.magnitude + self.policy.deviation * torch.randn(count, device=device)
        level = size.clamp(0.0, 10.0) / 10.0
        level = torch.where(torch.rand(count, device=device) < 0.5, -level, level)
        equal = chosen == RANDOM_OPS.index("equalize")
        if x.is_cuda or bool(equal.any()):
            x = torch.where(equal.view(-1, 1, 1, 1), equalize(x), x)
        return x, matrix @ _op_matrices(chosen, level)


def _pixel_order(size: int, device: torch.device) -> Tensor:
    """Returns the permutation of the pixels of psMNIST, the same in every training."""
    return torch.randperm(size * size, generator=torch.Generator().manual_seed(0)).to(device)


def distorted(data: Data, config: TrainConfig, seed: int) -> Data:
    """Returns the data with fixed distortions, if the config asks for them."""
    return distort_once(data, seed) if config.distort and isinstance(data, Split) else data


def distort_once(split: Split, seed: int) -> Split:
    """Returns the split with the distortion of `distort`, sampled by `seed`: equal images at every evaluation."""
    generator = torch.Generator().manual_seed(seed)
    x = split.images.float() / 255.0
    grid = F.affine_grid(_distortion(len(x), generator, x.device)[:, :2], list(x.shape), align_corners=False)
    x = _noise(F.grid_sample(x, grid, mode="bilinear", align_corners=False), generator)
    return Split((x * 255.0).round().to(torch.uint8), split.labels)


def _identity(count: int, device: torch.device) -> Tensor:
    return torch.eye(3, device=device).repeat(count, 1, 1)


def _op_matrices(chosen: Tensor, level: Tensor) -> Tensor:
    """Returns the inverse maps [B, 3, 3] of the chosen geometric operations at signed levels in -1..1."""
    matrix = _identity(len(chosen), chosen.device)
    zero = torch.zeros_like(level)
    angle = torch.where(chosen == RANDOM_OPS.index("rotate"), level * math.radians(30.0), zero)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin(), angle.sin()
    shear = torch.where(chosen == RANDOM_OPS.index("shear_x"), level * 0.3, zero)
    matrix[:, 0, 1] += shear  # about the top edge, as PIL's
    matrix[:, 0, 2] = shear + torch.where(chosen == RANDOM_OPS.index("translate_x"), level * 0.9, zero)
    matrix[:, 1, 2] = torch.where(chosen == RANDOM_OPS.index("translate_y"), level * 0.9, zero)
    return matrix


def _distortion(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Returns inverse maps [B, 3, 3]: rotation, scale and shift, uniform within the stated ranges."""
    sample = (
        torch.rand(4, count, device=device)
        if generator is None and device.type == "cuda"
        else torch.rand(4, count, generator=generator).to(device)
    )
    sample = sample * 2.0 - 1.0
    angle, scale = sample[0] * DISTORT_ROTATION, 1.0 + sample[1] * DISTORT_SCALE
    matrix = _identity(count, device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos() * scale
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin() * scale, angle.sin() * scale
    matrix[:, 0, 2], matrix[:, 1, 2] = sample[2] * 2 * DISTORT_SHIFT, sample[3] * 2 * DISTORT_SHIFT
    return matrix


def _random_crop(count: int, scale: tuple[float, ...], ratio: tuple[float, ...], device: torch.device) -> Tensor:
    """Returns inverse maps [B, 3, 3] onto a random box: area share in `scale`, log-uniform aspect in `ratio`."""
    area = torch.empty(count, device=device).uniform_(*scale)
    aspect = torch.empty(count, device=device).uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    matrix = _identity(count, device)
    matrix[:, 0, 0], matrix[:, 1, 1] = width, height
    matrix[:, 0, 2] = (torch.rand(count, device=device) * 2.0 - 1.0) * (1.0 - width)
    matrix[:, 1, 2] = (torch.rand(count, device=device) * 2.0 - 1.0) * (1.0 - height)
    return matrix


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(x.shape, generator=generator).to(x.device) if generator else torch.randn_like(x)
    return (x + DISTORT_NOISE * noise).clamp(0.0, 1.0)


def equalize(x: Tensor) -> Tensor:
    """Equalizes the histogram of each channel of [B, C, H, W] in 0..1, by PIL's rule on 256 levels."""
    B, C, H, W = x.shape
    level = (x * 255.0).round().long().view(B * C, H * W)
    histogram = torch.zeros(B * C, 256, dtype=torch.long, device=x.device)
    histogram.scatter_add_(1, level, torch.ones_like(level))
    last = histogram.gather(1, level.max(1, keepdim=True).values).squeeze(1)
    step = (H * W - last) // 255
    table = (torch.cumsum(histogram, 1) - histogram + (step // 2).unsqueeze(1)) // step.clamp(min=1).unsqueeze(1)
    flat = table.clamp(max=255).gather(1, level)
    out = torch.where((step == 0).unsqueeze(1), level, flat)
    return out.view(B, C, H, W).float() / 255.0


def _color_jitter(x: Tensor, strength: float) -> Tensor:
    """Scales brightness, contrast and saturation of each image by factors within 1 +- strength."""
    factor = 1.0 + strength * (torch.rand(3, len(x), 1, 1, 1, device=x.device) * 2.0 - 1.0)
    x = (x * factor[0]).clamp(0.0, 1.0)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, factor[1]).clamp(0.0, 1.0)
    return torch.lerp(x.mean(1, keepdim=True), x, factor[2]).clamp(0.0, 1.0)


def _erase(x: Tensor, probability: float, mode: str) -> Tensor:
    """Writes one box (2-33 % of the area, aspect 0.3-3.3, as timm's) into each chosen image: zeros or noise."""
    B, C, H, W = x.shape
    area = torch.empty(B, device=x.device).uniform_(0.02, 1 / 3) * H * W
    aspect = torch.empty(B, device=x.device).uniform_(math.log(0.3), math.log(1 / 0.3)).exp()
    height = (area * aspect).sqrt().round().clamp(1, H)
    width = (area / aspect).sqrt().round().clamp(1, W)
    top = (torch.rand(B, device=x.device) * (H - height + 1)).floor()
    left = (torch.rand(B, device=x.device) * (W - width + 1)).floor()
    inside = box_mask((top, left), (height, width), (H, W))
    inside = inside & (torch.rand(B, 1, 1, device=x.device) < probability)
    if mode == "const":
        fill = torch.zeros_like(x)
    else:
        fill = torch.randn_like(x) if mode == "pixel" else torch.randn(B, C, 1, 1, device=x.device).expand_as(x)
    return torch.where(inside.unsqueeze(1), fill, x)
