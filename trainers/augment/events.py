"""Augmentation of event counts [B, T, 2, H, W] in batches, equal for all steps of a sample; counts stay integers.

The policy `snn-wide` of the published event recipes applies one operation to each sample: identity, horizontal shear,
horizontal or vertical shift, rotation or cutout, at one of 31 magnitudes. Pixels are resampled by nearest neighbour,
with zeros outside.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.config import TrainConfig

OPS = ("identity", "shear_x", "shift_x", "shift_y", "rotate", "cutout")
LEVELS = 31
SHEAR = 0.3
"""Maximum shear in radians."""
SHIFT = 5.0
"""Maximum shift in pixels, truncated to integers."""
ROTATION = math.radians(30.0)
CUTOUT = (0.001, 0.11)
"""Range of the area of the cutout square, as a share of the frame."""


class EventAugment:
    """Conversion of counts into floating-point input, with (`train`) or without (`plain`) augmentation."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.mean = torch.tensor(config.mean, device=device).view(1, 1, -1, 1, 1)
        self.std = torch.tensor(config.std, device=device).view(1, 1, -1, 1, 1)

    def plain(self, counts: Tensor) -> Tensor:
        """Returns the counts, normalized; mean and std are 0 and 1 by default."""
        return (counts.float() - self.mean) / self.std

    def train(self, counts: Tensor) -> Tensor:
        """Returns augmented counts; uses torch's global generator."""
        x = counts.float()
        if self.config.hflip:
            flip = torch.rand(len(x), device=x.device) < self.config.hflip
            x = torch.where(flip.view(-1, 1, 1, 1, 1), x.flip(-1), x)
        if self.config.aa is not None:
            chosen = torch.randint(len(OPS), (len(x),), device=x.device)
            level = torch.randint(LEVELS, (len(x),), device=x.device) * (2.0 / (LEVELS - 1)) - 1.0
            x = cutout(transform(x, chosen, level), chosen == OPS.index("cutout"))
        return (x - self.mean) / self.std


def transform(x: Tensor, chosen: Tensor, level: Tensor) -> Tensor:
    """Returns x [B, T, 2, H, W] sheared, shifted or rotated by the chosen operations at levels in -1..1."""
    B, T, C, H, W = x.shape
    grid = F.affine_grid(_inverse_maps(chosen, level, H, W), [B, T * C, H, W], align_corners=False)
    moved = F.grid_sample(x.flatten(1, 2), grid, mode="nearest", align_corners=False)
    return moved.view(x.shape)


def _inverse_maps(chosen: Tensor, level: Tensor, height: int, width: int) -> Tensor:
    """Returns maps [B, 2, 3] from result to source coordinates, both in -1..1 about the centre."""

    def of(name: str, size: float) -> Tensor:
        return torch.where(chosen == OPS.index(name), level * size, torch.zeros_like(level))

    angle, shear = of("rotate", ROTATION), of("shear_x", SHEAR).tan()
    maps = torch.zeros(len(chosen), 2, 3, device=chosen.device)
    maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
    maps[:, 0, 1] = (shear - angle.sin()) * height / width
    maps[:, 1, 0] = angle.sin() * width / height
    maps[:, 0, 2] = -of("shift_x", SHIFT).trunc() * 2.0 / width
    maps[:, 1, 2] = -of("shift_y", SHIFT).trunc() * 2.0 / height
    return maps


def cutout(x: Tensor, chosen: Tensor) -> Tensor:
    """Empties one random square within each chosen sample, in all its steps."""
    B, H, W = len(x), x.shape[-2], x.shape[-1]
    area = torch.empty(B, device=x.device).uniform_(*CUTOUT) * H * W
    side = area.sqrt().round().clamp(max=min(H, W) - 1)
    top = (torch.rand(B, device=x.device) * (H - side + 1)).floor()
    left = (torch.rand(B, device=x.device) * (W - side + 1)).floor()
    inside = box_mask((top, left), (side, side), (H, W)) & chosen.view(-1, 1, 1)
    return x.masked_fill(inside.view(B, 1, 1, H, W), 0.0)


def box_mask(corner: tuple[Tensor, Tensor], size: tuple[Tensor, Tensor], frame: tuple[int, int]) -> Tensor:
    """Returns masks [B, H, W] of boxes whose corners and sizes are given as (rows, columns), each [B]."""
    axes = []
    for start, length, count in zip(corner, size, frame, strict=True):
        index = torch.arange(count, device=start.device).unsqueeze(0)
        axes.append((index >= start.unsqueeze(1)) & (index < (start + length).unsqueeze(1)))
    return axes[0].unsqueeze(2) & axes[1].unsqueeze(1)
