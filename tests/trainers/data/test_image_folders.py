"""ImageNet and a user's own folders, streamed through timm's loader."""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from trainers.config import TrainConfig
from trainers.data.image_folders import ImageFiles
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.epoch_metrics import EpochMetrics
from trainers.seeding import seed_everything
from trainers.train import measure_test, train

Tiny = Callable[..., TrainConfig]
Write = Callable[..., Path]
KEYS = {
    "dataset": "imagefolder",
    "num_classes": 3,
    "in_channels": 3,
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "threshold": 0.3,
    "attn_threshold": 0.05,
    "num_heads": 1,
    "batch_size": 4,
    "val_batch_size": 5,
    "val_fraction": 0.34,
    "workers": 0,
    "epochs": 2,
    "hflip": 0.5,
}


@pytest.fixture
def folders(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Makes a tiny config that reads the test's folder."""

    def make(**keys: Any) -> TrainConfig:
        return tiny(**{**KEYS, "data_dir": str(tmp_path), **keys})

    return make


def batches(data: Any, size: int = 4, seed: int = 1) -> list[torch.Tensor]:
    seed_everything(seed, epoch=1)
    return [images for images, _ in data.shuffled(size)]


@contextmanager
def few_classes() -> Iterator[None]:
    with pytest.warns(UserWarning, match="of the 1000 classes"):
        yield


def test_a_few_images_load_train_and_test(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    config, received = folders(reprob=0.25, aa="rand-m9-mstd0.5-inc1", mixup=0.5, cutmix=0.5), []
    check_present(config)
    data, validation = load_train(config)
    assert (len(data), len(validation), len(load_test(config))) == (12, 6, 18)
    assert isinstance(data, ImageFiles)
    assert torch.bincount(validation.labels).tolist() == [2, 2, 2]
    assert not set(data.files) & set(validation.files)
    model = train(config, received.append)
    assert 0 <= received[-1].metrics["accuracy"] <= 100
    assert measure_test(model, config).metrics["loss"] > 0


def test_imagenet_trains_on_a_few_of_its_classes_with_a_warning(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    config, received = folders(dataset="imagenet", num_classes=1000, epochs=1), []
    with few_classes():
        train(config, received.append)
    assert received[-1].metrics["loss"] > 0


def test_evaluation_images_are_timms(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    config = folders(crop_pct=0.875, interpolation="bilinear")
    data = load_test(config)
    keys = {"crop_pct": 0.875, "interpolation": "bilinear", "mean": config.mean, "std": config.std}
    transform = create_transform((3, 32, 32), is_training=False, **keys)
    expected = torch.stack([transform(Image.open(path)) for path in data.files])
    got = torch.cat([images for images, _ in data.in_order(5)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert torch.cat([labels for _, labels in data.in_order(5)]).equal(data.labels)


@pytest.mark.parametrize("aa", [None, "rand-m9-mstd0.5-inc1"])
def test_training_images_depend_on_the_seed_and_not_on_the_number_of_workers(
    folders: Tiny, write_images: Write, tmp_path: Path, aa: str | None
) -> None:
    write_images(tmp_path)
    keys = {"aa": aa, "color_jitter": 0.4, "reprob": 0.5}
    one, two = (batches(load_train(folders(workers=workers, **keys))[0]) for workers in (0, 2))
    other = batches(load_train(folders(**keys))[0], seed=2)
    assert len(one) == 3
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_stopped_training_resumes_to_the_same_bits(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(report: Any) -> None:
        raise Stop

    write_images(tmp_path)
    config = folders(reprob=0.25, mixup=0.5, aa="rand-m9-mstd0.5-inc1")
    whole = train(config).state_dict()
    with pytest.raises(Stop):
        train(config, stop, tmp_path / "run")
    resumed = train(config, folder=tmp_path / "run").state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_of_other_workers_are_not_decoded_and_change_no_other_row(
    folders: Tiny, write_images: Write, tmp_path: Path, workers: int
) -> None:
    write_images(tmp_path)
    data, _ = load_train(folders(reprob=0.9, aa="rand-m9-mstd0.5-inc1", workers=workers))
    assert isinstance(data, ImageFiles)
    part = replace(data, rows=frozenset({0, 3}))
    for whole, own in zip(batches(data), batches(part), strict=True):
        assert torch.equal(own[[0, 3]], whole[[0, 3]])
        assert not torch.equal(own[[1, 2]], whole[[1, 2]])
    labels = [[label.tolist() for _, label in one.shuffled(4)] for one in (data, part) if not seed_everything(1, 1)]
    assert labels[0] == labels[1]


def test_augmenting_an_image_does_not_use_the_trainings_generators(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    data = load_train(folders())[0]
    after = []
    for size in (4, 6):  # three batches, or two
        seed_everything(3, epoch=1)
        drawn = list(data.shuffled(size))
        after.append((len(drawn), np.random.rand(), float(torch.rand(()))))
    assert after[0][1:] == after[1][1:]


# ---------------------------------------------------------------------------------------------- missing and damaged


def refused(config: TrainConfig, *parts: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*of the 1000 classes")
        with pytest.raises(DataError) as caught:
            load_train(config)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["imagenet", "imagefolder"])
@pytest.mark.parametrize("lost", ["train", "val"])
def test_a_missing_part_is_reported(folders: Tiny, write_images: Write, tmp_path: Path, name: str, lost: str) -> None:
    write_images(tmp_path)
    shutil.rmtree(tmp_path / lost)
    config = folders(dataset=name, num_classes=3 if name == "imagefolder" else 1000)
    with pytest.raises(DataError):
        check_present(config)
    refused(config, f"{name}: {tmp_path / lost} is missing", "data_dir")


@pytest.mark.parametrize(
    ("part", "received"), [("train", "holds n00000001, which is not a folder"), ("val", "lacks n00000001")]
)
def test_a_class_that_one_part_lacks_is_reported(
    folders: Tiny, write_images: Write, tmp_path: Path, part: str, received: str
) -> None:
    write_images(tmp_path)
    shutil.rmtree(tmp_path / part / "n00000001")
    refused(folders(), received)


def test_a_class_without_images_is_reported(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    for path in (tmp_path / "train" / "n00000002").iterdir():
        path.rename(path.with_suffix(".txt"))
    refused(folders(), "n00000002 holds no images")


@pytest.mark.parametrize("count", [2, 4])
def test_an_imagefolder_must_have_num_classes_folders(
    folders: Tiny, write_images: Write, tmp_path: Path, count: int
) -> None:
    write_images(tmp_path)
    refused(folders(num_classes=count), "holds 3 folders", f"num_classes={count}")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", None], ids=["empty", "html", "cut"])
def test_an_unreadable_image_is_reported_before_the_first_step(
    folders: Tiny, write_images: Write, tmp_path: Path, content: bytes | None
) -> None:
    write_images(tmp_path)
    path = tmp_path / "train" / "n00000001" / "train_3.JPEG"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    refused(folders(), str(path), "cannot be read as an image")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_lost_during_the_training_is_reported_in_one_sentence(
    folders: Tiny, write_images: Write, tmp_path: Path, workers: int
) -> None:
    write_images(tmp_path)
    data = load_train(folders(workers=workers))[0]
    assert isinstance(data, ImageFiles)
    data.files[5].write_bytes(b"")
    with pytest.raises(DataError) as caught:
        batches(data)
    assert str(caught.value).startswith(f"{data.files[5]} cannot be read as an image")
    assert "\n" not in str(caught.value)


def test_a_test_folder_is_preferred_to_a_validation_folder(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path, parts=("train", "val", "test"), count=2)
    data = load_test(folders())
    assert isinstance(data, ImageFiles)
    assert {path.parts[-3] for path in data.files} == {"test"}


# ---------------------------------------------------------------------------------------------- what is passed over


def write_ramp(path: Path) -> None:
    """Writes a 16-bit ramp, which Pillow alone would convert to two levels."""
    Image.fromarray(np.tile(np.arange(32, dtype=np.uint16) * 2114, (32, 1))).save(path)


def test_16_bit_images_reach_the_network_with_all_their_levels(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    for path in (tmp_path / "val").rglob("*.JPEG"):
        path.unlink()
        write_ramp(path.with_suffix(".png"))
    config = folders(mean=[0.0] * 3, std=[1.0] * 3, crop_pct=1.0, workers=1)
    images = torch.cat([images for images, _ in load_test(config).in_order(5)])
    levels = torch.linspace(0, 32 * 2114 / 65535, 33)[:32]
    torch.testing.assert_close(images[0, 0], levels.expand(32, 32), rtol=0, atol=0.003)


def test_transparent_images_lie_on_the_mean_which_is_zero_for_the_network(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    for path in (tmp_path / "val").rglob("*.JPEG"):
        path.unlink()
        Image.new("LA", (32, 32)).save(path.with_suffix(".png"))
    images = torch.cat([images for images, _ in load_test(folders()).in_order(5)])
    assert images.abs().max() < 0.01


@pytest.mark.parametrize("name", ["._train_0.JPEG", ".ipynb_checkpoints/train_0-checkpoint.JPEG", ".cache/a/b.png"])
def test_hidden_files_and_folders_are_skipped(folders: Tiny, write_images: Write, tmp_path: Path, name: str) -> None:
    write_images(tmp_path)
    expected = load_train(folders())
    path = tmp_path / "train" / "n00000001" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"Mac OS X")
    (tmp_path / "train" / ".DS_Store").touch()
    got = load_train(folders())
    for part, wanted in zip(got, expected, strict=True):
        assert isinstance(part, ImageFiles)
        assert isinstance(wanted, ImageFiles)
        assert part.files == wanted.files


def test_files_that_are_passed_over_are_counted_by_their_endings(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    folder = tmp_path / "train" / "n00000001"
    for name in ("a.npy", "b.npy", "c.HEIC", "notes", "../list.txt", "../loose.png", ".hidden.txt"):
        (folder / name).touch()
    (folder / "more").symlink_to(tmp_path / "val")
    counted = r"train: files passed over: 7 \(\.npy 2, \.heic 1, \.png 1, \.txt 1, links to folders 1, \.\.\.\), as"
    with pytest.warns(UserWarning, match=counted) as caught:
        check_present(folders())
    assert len(caught) == 1
    load_train(folders())  # says it once in a process


def test_endings_of_images_are_read_in_any_case(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    folder = tmp_path / "train" / "n00000001"
    for i, ending in enumerate((".JPG", ".jfif", ".Png", ".pgm", ".pbm", ".TIF", ".bmp", ".webp", ".avif", ".jp2")):
        kind = Image.registered_extensions()[ending.lower()]
        Image.new("1" if ending == ".pbm" else "L", (40, 40), i % 2).save(folder / f"x{i}{ending}", kind)
    data, validation = load_train(folders(val_fraction=0.0))
    assert (len(data), len(validation)) == (18 + 10, 0)


def test_images_of_several_frames_are_reported(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    frames = [Image.new("L", (40, 40), value) for value in (0, 255)]
    path = tmp_path / "train" / "n00000001" / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=f"1 of 19 images read have several frames, such as {path}; only the first"):
        load_train(folders())


# ---------------------------------------------------------------------------------------------- copies


def test_copies_on_both_sides_of_the_validation_split_are_reported(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    for path in list((tmp_path / "train").rglob("*.JPEG")):
        shutil.copy(path, path.with_stem(f"{path.stem} copy"))
    with pytest.warns(UserWarning, match=r"\d of 12 validation samples are in the training part too, such as .*copy"):
        check_present(folders())


def test_a_link_to_a_lost_image_is_named(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    path = tmp_path / "train" / "n00000001" / "lost.png"
    path.symlink_to(tmp_path / "nowhere.png")
    refused(folders(), f"{path} cannot be read as an image")
    with pytest.raises(DataError, match=f"{path} cannot be read as an image"):
        check_present(folders())


def test_files_of_one_size_with_different_content_are_no_copies(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    for part, k in itertools.product(("train", "val"), range(3)):
        (tmp_path / part / f"class_{k}").mkdir(parents=True)
        for i in range(6):
            image = Image.new("L", (80, 80))  # more than the bytes that are compared first
            image.putpixel((79, 0), 10 * k + i + 1)  # the last row is stored first
            image.save(tmp_path / part / f"class_{k}" / f"{i}.bmp")
    data, validation = load_train(folders())
    assert (len(data), len(validation)) == (12, 6)


# ---------------------------------------------------------------------------------------------- classes


def test_an_empty_class_folder_is_named_with_its_remedy(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path)
    for part in ("train", "val"):
        (tmp_path / part / "unused").mkdir()
    refused(folders(), "holds 4 folders", "num_classes=3", "remove unused, which holds no images")
    refused(folders(num_classes=4), "unused holds no images; put images there, or remove the folder unused")
    with pytest.raises(DataError, match="unused holds no images"):
        check_present(folders(num_classes=4))


def test_an_empty_class_of_the_test_part_is_found_before_the_training(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path)
    for path in (tmp_path / "val" / "n00000002").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"val/n00000002 holds no images; it holds other files \(\.heic 6\); known end"):
        check_present(folders())


# ---------------------------------------------------------------------------------------------- unequal classes


def test_a_silent_network_on_unequal_classes_is_at_chance(folders: Tiny, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, count=30)
    for path in sorted((tmp_path / "train" / "n00000001").iterdir())[10:]:
        path.rename(tmp_path / "train" / "n00000000" / f"more_{path.name}")
    received: list[EpochMetrics] = []
    config = folders(num_classes=2, threshold=100.0, val_fraction=0.5, epochs=1, batch_size=30, val_batch_size=30)
    train(config, received.append)
    assert received[0].metrics["spike_rate"] == 0
    assert received[0].metrics["accuracy"] == pytest.approx(100 * 25 / 30)
    assert received[0].chance == pytest.approx(100 * 25 / 30 + 200 * (25 / 30 * 5 / 30 / 30) ** 0.5)
    assert received[0].is_at_chance


def test_a_validation_part_that_tells_no_accuracy_from_a_guess_is_reported(
    folders: Tiny, write_images: Write, tmp_path: Path
) -> None:
    write_images(tmp_path, classes=2, count=10)
    for path in sorted((tmp_path / "train" / "n00000001").iterdir())[2:]:
        path.unlink()
    with pytest.warns(UserWarning, match="has 6 samples, 5 of them of one class: too few to tell any accuracy"):
        check_present(folders(num_classes=2, val_fraction=0.5))
