"""Event augmentations against torchvision on the same random numbers, and their invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from trainers.augment.events import CUTOUT, OPS, EventAugment, cutout, transform
from trainers.augment.images import make_augment
from trainers.config import TrainConfig

Tiny = Callable[..., TrainConfig]
CPU = torch.device("cpu")
NEAREST = InterpolationMode.NEAREST
EVENTS = {"dataset": "digits_dvs", "in_channels": 2, "img_size": 32, "step": 4}


def counts(batch: int = 6, size: int = 32, width: int | None = None) -> Tensor:
    """Returns random counts [B, 4, 2, H, W], all of them above 0."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 9, (batch, 4, 2, size, width or size), generator=generator).to(torch.uint8)


@pytest.fixture
def make(tiny: Tiny) -> Callable[..., EventAugment]:
    def make(**keys: Any) -> EventAugment:
        augment = make_augment(tiny(**{**EVENTS, **keys}), CPU)
        assert isinstance(augment, EventAugment)
        return augment

    return make


def one(op: str, level: float, x: Tensor) -> Tensor:
    chosen = torch.full((len(x),), OPS.index(op))
    return transform(x.float(), chosen, torch.full((len(x),), level))


def test_events_reach_the_network_by_value(make: Callable[..., EventAugment]) -> None:
    x = counts()
    assert torch.equal(make().plain(x), x.float())
    assert torch.equal(make(hflip=0.0).train(x), x.float())
    assert torch.equal(make().plain(x.int() * 300), x.float() * 300)


def test_a_flip_mirrors_columns_of_all_steps(make: Callable[..., EventAugment]) -> None:
    x = counts()
    assert torch.equal(make(hflip=1.0).train(x), x.float().flip(-1))


@pytest.mark.parametrize("level", [-1.0, -0.4, 0.0, 0.2, 1.0])
def test_shifts_are_torchvisions(level: float) -> None:
    x, pixels = counts(), int(5 * level)
    for op, by in (("shift_x", [pixels, 0]), ("shift_y", [0, pixels])):
        expected = TF.affine(x.flatten(1, 2).float(), 0.0, by, 1.0, [0.0, 0.0], NEAREST)
        assert torch.equal(one(op, level, x).flatten(1, 2), expected)


@pytest.mark.parametrize("level", [-1.0, -0.51, 0.0, 0.23, 1.0])
@pytest.mark.parametrize("width", [32, 44])
def test_rotation_and_shear_are_torchvisions(level: float, width: int) -> None:
    x = counts(width=width)
    flat = x.flatten(1, 2).float()
    rotated = TF.rotate(flat, 30.0 * level, NEAREST)
    sheared = TF.affine(flat, 0.0, [0, 0], 1.0, [math.degrees(0.3 * level), 0.0], NEAREST)
    for op, expected in (("rotate", rotated), ("shear_x", sheared)):
        differ = (one(op, level, x).flatten(1, 2) != expected).float().mean()
        assert differ < 0.01, f"{op}: more than pixels halfway between two"


def test_no_event_is_added_and_none_comes_from_outside(make: Callable[..., EventAugment]) -> None:
    torch.manual_seed(0)
    out = make(aa="snn-wide").train(counts(200))
    assert torch.equal(out, out.round())
    assert out.min() == 0
    assert out.max() == 8
    assert out.sum() < counts(200).sum()


def test_every_step_of_a_sample_is_augmented_equally(make: Callable[..., EventAugment]) -> None:
    torch.manual_seed(0)
    x = counts(64)[:, :1].expand(-1, 4, -1, -1, -1)
    out = make(aa="snn-wide", hflip=0.5).train(x)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert len({tuple(sample.flatten().tolist()) for sample in out}) > 50, "each sample has separate random numbers"


def test_each_operation_is_sampled_equally_often(make: Callable[..., EventAugment]) -> None:
    torch.manual_seed(0)
    x = counts(1).expand(3000, -1, -1, -1, -1)
    same = (make(aa="snn-wide", hflip=0.0).train(x) == x).flatten(1).all(1).float().mean()
    # identity; shifts of less than a pixel (5 of 31 levels); no shear or rotation (1 of 31)
    assert float(same) == pytest.approx((1 + 2 * 5 / 31 + 2 / 31) / 6, abs=0.03)


def test_cutout_empties_one_square_of_the_published_size() -> None:
    torch.manual_seed(0)
    x = torch.ones(500, 2, 2, 32, 32)
    out = cutout(x, torch.arange(500) % 2 == 0)
    assert torch.equal(out[1::2], x[1::2])
    for sample in out[::2]:
        rows, columns = ((sample[0, 0] == 0).any(dim).sum() for dim in (1, 0))
        assert rows == columns
        assert (sample == 0).sum() == 4 * rows * columns, "a square, in all steps and channels"
        assert round(math.sqrt(CUTOUT[0]) * 32) <= rows <= round(math.sqrt(CUTOUT[1]) * 32)


def test_mixup_and_cutmix_of_events_mix_places_and_not_steps(tiny: Tiny) -> None:
    from trainers import optim

    mixup = optim.make_mixup(tiny(**EVENTS, cutmix=1.0, epochs=1))
    assert mixup is not None
    x = torch.stack([torch.zeros(4, 2, 32, 32), torch.ones(4, 2, 32, 32)])
    mixed, _ = mixup(x.flatten(1, -3).clone(), torch.tensor([0, 1]))
    mixed = mixed.view(x.shape)
    assert torch.equal(mixed, mixed[:, :1, :1].expand_as(mixed))
