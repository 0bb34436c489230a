"""Augmentation of event counts [B, T, 2, H, W] in batches, the same for all steps of a sample; counts stay counts.

The policy `snn-wide` is that of the published event recipes: of identity, horizontal shear, horizontal and vertical
shift, rotation and cutout, one operation for each sample, at a magnitude drawn from 31 levels; nearest pixels, zeros
from outside.
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
"""Largest shear, in radians."""
SHIFT = 5.0
"""Largest shift in pixels, cut to whole ones."""
ROTATION = math.radians(30.0)
CUTOUT = (0.001, 0.11)
"""Area of the square that cutout empties, as a share of the frame."""


class EventAugment:
    """Turns counts into floating-point input, with (`train`) or without random changes. Events count by value."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.mean = torch.tensor(config.mean, device=device).view(1, 1, -1, 1, 1)
        self.std = torch.tensor(config.std, device=device).view(1, 1, -1, 1, 1)

    def plain(self, counts: Tensor) -> Tensor:
        """Returns the counts themselves, where mean and std are the default 0 and 1."""
        return (counts.float() - self.mean) / self.std

    def train(self, counts: Tensor) -> Tensor:
        """Returns randomly changed counts; draws from torch's global generator."""
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
    """Returns [B, T, 2, H, W] sheared, shifted or rotated as `chosen` says, at levels in -1..1; the rest unchanged."""
    B, T, C, H, W = x.shape
    grid = F.affine_grid(_inverse_maps(chosen, level, H, W), [B, T * C, H, W], align_corners=False)
    moved = F.grid_sample(x.flatten(1, 2), grid, mode="nearest", align_corners=False)
    return moved.view(x.shape)


def _inverse_maps(chosen: Tensor, level: Tensor, height: int, width: int) -> Tensor:
    """Returns [B, 2, 3], from places in the result to places in the source, within -1..1 about the centre."""

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
    """Empties one square in each chosen sample, wherever it fits, through all its steps."""
    B, H, W = len(x), x.shape[-2], x.shape[-1]
    area = torch.empty(B, device=x.device).uniform_(*CUTOUT) * H * W
    side = area.sqrt().round().clamp(max=min(H, W) - 1)
    top = (torch.rand(B, device=x.device) * (H - side + 1)).floor()
    left = (torch.rand(B, device=x.device) * (W - side + 1)).floor()
    inside = _between(top, side, H).unsqueeze(2) & _between(left, side, W).unsqueeze(1)
    inside = inside & chosen.view(-1, 1, 1)
    return x.masked_fill(inside.view(B, 1, 1, H, W), 0.0)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    place = torch.arange(size, device=start.device).unsqueeze(0)
    return (place >= start.unsqueeze(1)) & (place < (start + length).unsqueeze(1))
