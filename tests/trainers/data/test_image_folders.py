"""ImageNet and a user's own folders, streamed through timm's loader."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
