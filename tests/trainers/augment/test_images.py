"""Augmentations against PIL, timm and constructed images, on the same random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import auto_augment as timm_augment
from torch import Tensor

from trainers.augment.images import RANDOM_OPS, Augment, _distortion, _op_matrices, distort_once, equalize
from trainers.config import TrainConfig
from trainers.data.sources import Split

Tiny = Callable[..., TrainConfig]
CPU = torch.device("cpu")


@pytest.fixture
def make(tiny: Tiny) -> Callable[..., Augment]:
    """Makes the augmentation of 32x32 colour images, with everything off except the given keys."""

    def make(**keys: Any) -> Augment:
        return Augment(tiny(**{"dataset": "cifar10", "in_channels": 3, "img_size": 32, **keys}), CPU)

    return make


def random_images(count: int, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, size, size), generator=generator).to(torch.uint8)


def smooth_image() -> Tensor:
    """Returns one colour image [1, 3, 32, 32] without hard edges, so that resamplers agree."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    waves = torch.stack([torch.sin(x / 5) * torch.cos(y / 7), torch.sin((x + y) / 6), torch.cos(x / 4 - y / 9)])
    return ((waves + 1) * 127).round().to(torch.uint8).unsqueeze(0)


# ---------------------------------------------------------------------------------------------- without change


def test_plain_images_are_shifted_and_scaled_by_channel(make: Callable[..., Augment]) -> None:
    images = random_images(4)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(make().plain(images).double(), expected, rtol=0, atol=1e-6)


def test_with_everything_off_training_images_are_the_plain_ones(make: Callable[..., Augment]) -> None:
    augment, images = make(hflip=0.0), random_images(4)
    assert torch.equal(augment.train(images), augment.plain(images))


@pytest.mark.parametrize("op", range(len(RANDOM_OPS)))
def test_at_magnitude_zero_no_operation_moves_anything(op: int) -> None:
    assert torch.equal(_op_matrices(torch.tensor([op]), torch.zeros(1)), torch.eye(3).unsqueeze(0))


def test_a_policy_of_magnitude_zero_only_equalizes(make: Callable[..., Augment]) -> None:
    augment, images = make(aa="rand-m0-n2", hflip=0.0), random_images(64)
    torch.manual_seed(0)
    changed = augment.train(images)
    once, twice = (equalize(x) for x in (images / 255, equalize(images / 255)))
    plain, once, twice = (((x - augment.mean) / augment.std) for x in (images / 255, once, twice))
    for i in range(64):
        assert any(torch.allclose(changed[i], x[i], atol=1e-5) for x in (plain, once, twice))


# ---------------------------------------------------------------------------------------------- resizing


def test_images_of_the_right_size_are_unchanged(make: Callable[..., Augment]) -> None:
    images = random_images(2)
    assert torch.equal(make()._fit(images.float(), 1.0), images.float())


def test_crop_pct_resizes_and_takes_the_middle(make: Callable[..., Augment]) -> None:
    augment, images = make(crop_pct=0.5, interpolation="nearest"), random_images(2)
    doubled = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    whole = make()
    assert torch.equal(augment.plain(images), (doubled[:, :, 16:48, 16:48] / 255 - whole.mean) / whole.std)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_images_of_another_size_are_brought_to_img_size(make: Callable[..., Augment], interpolation: str) -> None:
    augment = make(interpolation=interpolation, hflip=0.5)
    for images in (random_images(2, size=20), torch.full((2, 3, 48, 48), 255, dtype=torch.uint8)):
        for x in (augment.plain(images), augment.train(images)):
            assert x.shape == (2, 3, 32, 32)
            pixels = x * augment.std + augment.mean
            assert pixels.min() >= -1e-6
            assert pixels.max() <= 1 + 1e-6


# ---------------------------------------------------------------------------------------------- equalize


def images_to_equalize() -> dict[str, Tensor]:
    ramp = torch.arange(1024).view(1, 1, 32, 32)
    two = torch.zeros(1, 1, 32, 32)
    two[..., :5] = 200
    almost = torch.full((1, 1, 32, 32), 7)
    almost[..., 0, 0] = 9
    return {
        "random": random_images(3),
        "smooth": smooth_image(),
        "dark": random_images(2) // 8,
        "constant": torch.full((1, 3, 32, 32), 77),
        "black": torch.zeros(1, 3, 32, 32),
        "two levels": two.expand(1, 3, 32, 32),
        "almost constant": almost.expand(1, 3, 32, 32),
        "ramp": (ramp // 4).expand(1, 3, 32, 32),
        "few pixels": random_images(2, size=8),
        "skewed": (ramp**2 // 4107).expand(1, 3, 32, 32),
    }


@pytest.mark.parametrize("name", images_to_equalize())
def test_equalize_is_pils_to_the_bit(name: str) -> None:
    images = images_to_equalize()[name].to(torch.uint8)
    ours = (equalize(images / 255.0) * 255).round().to(torch.uint8)
    for image, got in zip(images, ours, strict=True):
        theirs = ImageOps.equalize(Image.fromarray(image.permute(1, 2, 0).numpy()))
        assert np.array_equal(got.permute(1, 2, 0).numpy(), np.asarray(theirs))


# ---------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_hflip_mirrors_left_and_right(make: Callable[..., Augment], mode: str) -> None:
    augment, images = make(hflip=1.0, train_interpolation=mode), random_images(3)
    torch.testing.assert_close(augment.train(images), augment.plain(images.flip(3)), rtol=0, atol=1e-4)


def test_hflip_of_a_half_mirrors_about_half_of_the_images(make: Callable[..., Augment]) -> None:
    augment, images = make(hflip=0.5), random_images(400, size=32)
    torch.manual_seed(0)
    changed, plain, mirrored = augment.train(images), augment.plain(images), augment.plain(images.flip(3))
    flipped = [torch.allclose(x, y, atol=1e-3) for x, y in zip(changed, mirrored, strict=True)]
    unchanged = [torch.allclose(x, y, atol=1e-3) for x, y in zip(changed, plain, strict=True)]
    assert sum(flipped) + sum(unchanged) == 400
    assert 160 < sum(flipped) < 240


TIMM = {
    "rotate": lambda image, level, **keys: timm_augment.rotate(image, 30.0 * level, **keys),
    "shear_x": lambda image, level, **keys: timm_augment.shear_x(image, 0.3 * level, **keys),
    "translate_x": lambda image, level, **keys: timm_augment.translate_x_rel(image, 0.45 * level, **keys),
    "translate_y": lambda image, level, **keys: timm_augment.translate_y_rel(image, 0.45 * level, **keys),
}


@pytest.mark.parametrize("op", TIMM)
@pytest.mark.parametrize("level", [0.9, -0.6, 0.25])
def test_geometric_operations_have_the_direction_and_magnitude_of_timms(
    make: Callable[..., Augment], op: str, level: float
) -> None:
    augment, image = make(), smooth_image()
    matrix = _op_matrices(torch.tensor([RANDOM_OPS.index(op)]), torch.tensor([level]))
    ours = augment._resample(image / 255.0, matrix, "bilinear")[0]
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    moved = TIMM[op](picture, level, resample=Image.Resampling.BILINEAR, fillcolor=(125, 123, 114))
    theirs = torch.from_numpy(np.array(moved)).permute(2, 0, 1) / 255
    inside = _inside(augment, matrix)
    assert 0.3 < inside.float().mean() < 1.0
    torch.testing.assert_close(ours[:, inside], theirs[:, inside], rtol=0, atol=1.5 / 255)
    outside = ~_inside(augment, matrix, margin=-1)
    torch.testing.assert_close(ours[:, outside], theirs[:, outside], rtol=0, atol=1 / 255)  # the mean colour


def _inside(augment: Augment, matrix: Tensor, margin: int = 1) -> Tensor:
    """Returns which pixels come from within the picture, by at least `margin` pixels."""
    grid = torch.nn.functional.affine_grid(matrix[:, :2], [1, 1, 32, 32], align_corners=False)[0]
    return (grid.abs() < 1.0 - 2 * margin / 32).all(2)


@pytest.mark.parametrize(("op", "axis"), [("translate_x", 3), ("translate_y", 2)])
def test_a_translation_by_whole_pixels_moves_pixels_and_fills_with_the_mean(
    make: Callable[..., Augment], op: str, axis: int
) -> None:
    augment, x = make(), random_images(1) / 255
    level = 4 / (0.45 * 32)
    matrix = _op_matrices(torch.tensor([RANDOM_OPS.index(op)]), torch.tensor([level]))
    moved = augment._resample(x, matrix, "bicubic")
    torch.testing.assert_close(moved.narrow(axis, 0, 28), x.narrow(axis, 4, 28), rtol=0, atol=1e-4)
    fill = moved.narrow(axis, 30, 2)
    torch.testing.assert_close(fill, augment.mean.expand_as(fill), rtol=0, atol=0.06)  # bicubic rings a little


def test_one_random_operation_leaves_half_of_the_images_unchanged(make: Callable[..., Augment]) -> None:
    augment, images = make(aa="rand-m9-n1-mstd0.4-inc1", hflip=0.0), random_images(1000)
    torch.manual_seed(0)
    changed, plain = augment.train(images), augment.plain(images)
    unchanged = sum(torch.allclose(x, y, atol=1e-3) for x, y in zip(changed, plain, strict=True))
    assert 440 < unchanged < 560
    equalized = (equalize(images / 255) - augment.mean) / augment.std
    assert 60 < sum(torch.allclose(x, y, atol=1e-3) for x, y in zip(changed, equalized, strict=True)) < 140


def test_a_random_crop_shows_a_part_of_the_stated_size(make: Callable[..., Augment]) -> None:
    augment = make(scale=[0.25, 0.25], hflip=0.0, train_interpolation="bilinear")
    ramp = torch.arange(0, 256, 8).view(1, 1, 1, 32).expand(50, 3, 32, 32).to(torch.uint8)
    torch.manual_seed(0)
    shown = (augment.train(ramp) * augment.std + augment.mean) * 255
    slopes = shown.diff(dim=3)[..., 4:-4]
    torch.testing.assert_close(slopes, torch.full_like(slopes, 4.0), rtol=0, atol=1e-2)
    middle = shown[..., 15:17].mean((1, 2, 3))
    assert middle.std() > 20, "the part is somewhere else each time"
    assert 64 - 4 <= middle.min() <= middle.max() <= 192 + 4


def test_colour_jitter_scales_a_grey_image_and_is_off_with_a_policy(make: Callable[..., Augment]) -> None:
    grey = torch.full((200, 3, 32, 32), 100, dtype=torch.uint8)
    torch.manual_seed(0)
    augment = make(color_jitter=0.5, hflip=0.0)
    shown = (augment.train(grey) * augment.std + augment.mean) * 255
    levels = shown[:, 0, 0, 0]
    torch.testing.assert_close(shown, levels.view(-1, 1, 1, 1).expand_as(shown), rtol=0, atol=0.1)
    assert 49 <= levels.min() < 60
    assert 140 < levels.max() <= 151
    with_policy = make(color_jitter=0.5, hflip=0.0, aa="rand-m0-n1")
    torch.testing.assert_close(with_policy.train(grey), with_policy.plain(grey), rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------- erasing


def erased(augment: Augment, images: Tensor) -> Tensor:
    """Returns which pixels [B, H, W] were written over."""
    torch.manual_seed(0)
    return (augment.train(images) != augment.plain(images)).any(1)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_writes_one_box_of_a_share_between_2_and_33_percent(make: Callable[..., Augment], mode: str) -> None:
    augment = make(reprob=1.0, remode=mode, hflip=0.0)
    boxes = erased(augment, random_images(100))
    for box in boxes:
        rows, columns = box.any(1).nonzero(), box.any(0).nonzero()
        filled = box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert filled.all()
        assert 0.01 < float(box.float().mean()) < 0.4
    assert len({tuple(box.any(1).nonzero().flatten().tolist()) for box in boxes}) > 50


def test_erasing_fills_with_zero_or_one_colour_or_noise(make: Callable[..., Augment]) -> None:
    images = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    collected = {}
    for mode in ("const", "rand", "pixel"):
        augment = make(reprob=1.0, remode=mode, hflip=0.0)
        box = erased(augment, images)[0]
        torch.manual_seed(0)
        collected[mode] = augment.train(images)[0][:, box]
    assert not collected["const"].any(), "normalised, so the mean colour"
    assert [len(channel.unique()) for channel in collected["rand"]] == [1, 1, 1]
    assert len(collected["rand"].unique()) == 3
    assert len(collected["pixel"].unique()) == collected["pixel"].numel()


def test_erasing_hits_the_stated_share_of_images(make: Callable[..., Augment]) -> None:
    hit = erased(make(reprob=0.25, hflip=0.0), random_images(400)).flatten(1).any(1)
    assert 70 < int(hit.sum()) < 130


# ---------------------------------------------------------------------------------------------- distort


def digits(count: int = 40) -> Split:
    return Split(random_images(count, channels=1, size=8), torch.arange(count))


def test_a_fixed_distortion_depends_on_its_seed_only() -> None:
    torch.manual_seed(1)
    first = distort_once(digits(), seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first.images, distort_once(digits(), seed=5).images)
    assert not torch.equal(first.images, distort_once(digits(), seed=6).images)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is not used"
    assert first.images.dtype == torch.uint8
    assert torch.equal(first.labels, digits().labels)


def test_a_distortion_keeps_within_the_stated_ranges() -> None:
    matrix = _distortion(2000, torch.Generator().manual_seed(0), CPU)
    a, b, shift = matrix[:, 0, 0], matrix[:, 1, 0], matrix[:, :2, 2]
    angle, scale = torch.rad2deg(torch.atan2(b, a)), torch.hypot(a, b)
    assert 14.8 < angle.abs().max() < 15.001
    assert 0.88 - 1e-5 < scale.min() < 0.885
    assert 1.115 < scale.max() < 1.12 + 1e-5
    assert 0.235 < shift.abs().max() <= 0.24  # of -1..1, so 12 % of the width
    assert torch.equal(matrix[:, 0, 1], -b)
    assert math.isclose(float(angle.mean()), 0.0, abs_tol=0.6)


def test_training_images_are_distorted_differently_each_time_by_the_global_seed(tiny: Tiny) -> None:
    augment, images = Augment(tiny(distort=True), CPU), digits().images
    torch.manual_seed(0)
    one, other = augment.train(images), augment.train(images)
    torch.manual_seed(0)
    assert torch.equal(one, augment.train(images))
    assert not torch.equal(one, other)
    assert torch.isfinite(one).all()
