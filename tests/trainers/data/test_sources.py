from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from tests.support.refusals import expect_one_sentence
from trainers.config import TrainConfig
from trainers.data import cifar as cifar_files
from trainers.data import digits
from trainers.data.sources import (
    SOURCES,
    DataError,
    Source,
    Split,
    check_present,
    load_test,
    load_train,
    register,
    stratified,
    stratified_sample,
)
from trainers.data.split import REDUCED_AT_ONCE, reduced
from trainers.datasets import DATASETS, TRAIN_IMAGES
from trainers.train import train

Tiny = Callable[..., TrainConfig]
WriteCifar = Callable[..., Path]
CIFAR = {"in_channels": 3, "img_size": 32, "patch_size": 8, "embed_dim": 8, "batch_size": 10, "epochs": 1}


@pytest.fixture
def cifar(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Makes a tiny config that reads CIFAR-10, or CIFAR-100, from the test's folder."""

    def make(name: str = "cifar10", **keys: Any) -> TrainConfig:
        return tiny(**{**CIFAR, "dataset": name, "data_dir": str(tmp_path), "val_fraction": 0.1, **keys})

    return make


@contextmanager
def md5_warning() -> Iterator[None]:
    with pytest.warns(UserWarning, match="differ from the published ones"):
        yield


# ---------------------------------------------------------------------------------------------- splits


def test_digits_have_1500_images_for_training_and_297_for_testing(tiny: Tiny) -> None:
    config = tiny(val_fraction=0.0)
    (whole, validation), test = load_train(config), load_test(config)
    assert (len(whole), len(validation), len(test)) == (TRAIN_IMAGES["digits"], 0, 297)
    assert whole.images.shape[1:] == (1, 8, 8)
    assert whole.images.dtype == torch.uint8
    assert (whole.images.min(), whole.images.max()) == (0, 255)
    counts = torch.bincount(test.labels) / torch.bincount(torch.cat([whole.labels, test.labels]))
    assert counts.min() > 0.15, "the test set is stratified by class"
    both = torch.cat([whole.images, test.images]).flatten(1)
    assert len(both.unique(dim=0)) == 1797, "no image is in both"


def test_the_mean_and_deviation_of_digits_are_those_of_its_training_images(tiny: Tiny) -> None:
    pixels = load_train(tiny(val_fraction=0.0))[0].images.double() / 255
    assert DATASETS["digits"]["mean"] == (pytest.approx(float(pixels.mean()), abs=1e-3),)
    assert DATASETS["digits"]["std"] == (pytest.approx(float(pixels.std()), abs=1e-3),)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_validation_split_has_the_share_of_each_class(tiny: Tiny, share: float) -> None:
    data, validation = load_train(tiny(val_fraction=share))
    assert len(data) + len(validation) == 1500
    remaining, cut = torch.bincount(data.labels), torch.bincount(validation.labels)
    assert torch.equal(cut, ((remaining + cut) * share).round().long())


def test_the_validation_split_depends_on_split_seed_only(tiny: Tiny) -> None:
    one, other = (load_train(tiny(seed=seed))[1].images for seed in (1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, load_train(tiny(split_seed=1))[1].images)


def test_stratified_sampling_does_not_touch_the_global_generator() -> None:
    labels = np.repeat(np.arange(3), 10)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    chosen = stratified(labels, 0.3, seed=5)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    assert sorted(np.bincount(labels[chosen])) == [3, 3, 3]
    assert len(set(chosen)) == 9


def test_a_share_too_small_for_every_class_is_sampled_from_all_together() -> None:
    chosen = stratified(np.arange(50), 0.1, seed=5)
    assert len(set(chosen)) == 5
    assert len(stratified(np.arange(50), 0.0, seed=5)) == 0


@pytest.mark.parametrize("size", [1, 7, 100, 101, 133, 150])
def test_a_stratified_sample_has_each_class_in_proportion(size: int) -> None:
    labels = np.repeat([2, 0, 1], [75, 50, 25])
    chosen = stratified_sample(labels, size, seed=5)
    assert len(set(chosen)) == size
    wanted = size * np.array([50, 25, 75]) / 150
    assert np.all(np.abs(np.bincount(labels[chosen], minlength=3) - wanted) < 1)


def test_a_larger_stratified_sample_contains_the_smaller_ones() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 500)
    small, large = (set(stratified_sample(labels, size, seed=1)) for size in (120, 200))
    assert small < large
    assert small != set(stratified_sample(labels, 120, seed=2))


def test_train_images_is_a_part_by_class_and_leaves_the_validation_part_as_it_is(tiny: Tiny) -> None:
    (whole, validation), (part, same) = load_train(tiny()), load_train(tiny(train_images=120))
    assert torch.equal(validation.images, same.images)
    assert len(part) == 120
    share = torch.bincount(whole.labels) * 120 / len(whole)
    assert (torch.bincount(part.labels) - share).abs().max() < 1
    known = {image.numpy().tobytes() for image in whole.images}
    assert all(image.numpy().tobytes() in known for image in part.images)


def test_train_images_are_sampled_by_split_seed_only(tiny: Tiny) -> None:
    one, other = (load_train(tiny(train_images=120, seed=seed))[0].images for seed in (1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, load_train(tiny(train_images=120, split_seed=1))[0].images)


def test_train_images_of_all_that_validation_leaves_change_nothing(tiny: Tiny) -> None:
    whole = load_train(tiny())[0]
    same = load_train(tiny(train_images=len(whole)))[0]
    assert torch.equal(whole.images, same.images)
    assert torch.equal(whole.labels, same.labels)


def test_more_train_images_than_the_files_hold_are_refused(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path
) -> None:
    write_cifar(tmp_path)
    expect_one_sentence(
        cifar(train_images=91), "train_images must be at most the 90 images that val_fraction=0.1 leaves (got 91)"
    )


# ---------------------------------------------------------------------------------------------- smaller images


@pytest.mark.parametrize("size", [16, 12, 32, 40])
def test_larger_images_are_reduced_by_area_when_they_are_loaded(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path, size: int
) -> None:
    write_cifar(tmp_path)
    keys = {"val_fraction": 0.0, "patch_size": 4}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*published ones")
        whole = load_train(cifar(**keys))[0].images
        ours, test = load_train(cifar(**keys, img_size=size))[0].images, load_test(cifar(img_size=size)).images
    expected = whole if size >= 32 else F.interpolate(whole.float(), (size, size), mode="area").round().byte()
    assert torch.equal(ours, expected)
    assert test.shape[-2:] == ours.shape[-2:]


def test_digits_are_reduced_in_parts_as_at_once(tiny: Tiny) -> None:
    whole, ours = (load_train(tiny(val_fraction=0.0, img_size=size, patch_size=2))[0].images for size in (8, 4))
    assert len(whole) > REDUCED_AT_ONCE
    assert torch.equal(ours, F.interpolate(whole.float(), (4, 4), mode="area").round().byte())


def test_images_of_another_shape_are_reduced_if_neither_side_is_too_small() -> None:
    images = NOISE.view(50, 2, 8, 8)
    assert reduced(images[..., :6], 6).shape[-2:] == (6, 6)
    assert reduced(images[..., :5], 6).shape[-2:] == (8, 5), "it is resized batch by batch"


def test_a_training_on_few_small_images_is_the_same_at_every_call(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path
) -> None:
    write_cifar(tmp_path)
    config = cifar(img_size=16, train_images=40)
    losses = []
    for _ in range(2):
        received: list[Any] = []
        with md5_warning():
            train(config, received.append)
        losses.append(received[-1].metrics["loss"])
    assert losses[0] == losses[1] > 0


# ---------------------------------------------------------------------------------------------- CIFAR's true format


def test_cifar_as_a_sequence_of_pixels_trains_an_epoch(cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path) -> None:
    write_cifar(tmp_path)
    config, received = cifar("scifar10", embed_layer="sequential_embed"), list[Any]()
    with md5_warning():
        train(config, received.append)
    assert received[-1].metrics["loss"] > 0


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_few_images_in_the_true_format_load_and_train(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path, name: str
) -> None:
    folder = write_cifar(tmp_path, name, count=500 // (5 if name == "cifar10" else 1))
    config, received = cifar(name), []
    with md5_warning():
        data, validation = load_train(config)
    with md5_warning():
        test = load_test(config)
    assert (len(data), len(validation)) == (450, 50)
    assert (data.images.shape[1:], data.images.dtype) == ((3, 32, 32), torch.uint8)
    with md5_warning():
        train(config, received.append)
    assert received[-1].metrics["loss"] > 0
    entry = pickle.loads((folder / ("test_batch" if name == "cifar10" else "test")).read_bytes())
    assert torch.equal(test.images.flatten(1), torch.from_numpy(entry["data"]))
    assert test.labels.tolist() == entry["labels" if name == "cifar10" else "fine_labels"]


def test_pixels_are_ordered_as_in_torchvision(cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path) -> None:
    class Unchecked(torchvision.datasets.CIFAR10):  # type: ignore[misc]
        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            pass

    write_cifar(tmp_path)
    theirs = Unchecked(str(tmp_path), train=True)
    with md5_warning():
        ours = load_train(cifar(val_fraction=0.0))[0]
    assert np.array_equal(ours.images.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert ours.labels.tolist() == theirs.targets


def test_files_whose_keys_are_bytes_are_read_too(cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    (folder / "test_batch").write_bytes(_entry())
    with md5_warning():
        assert len(load_test(cifar())) == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_data_dir_may_name_the_inner_folder(cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path, name: str) -> None:
    inner = write_cifar(tmp_path, name)
    check_present(cifar(name, data_dir=str(inner)))
    check_present(cifar(name, data_dir=f"{inner}/"))
    with md5_warning():
        assert len(load_test(cifar(name, data_dir=str(inner)))) == 20


def test_missing_data_is_reported_in_one_sentence_with_folder_file_and_remedy(cifar: Tiny, tmp_path: Path) -> None:
    config = cifar()
    sentence = re.escape(
        f"cifar10: {tmp_path}/cifar-10-batches-py lacks data_batch_1, data_batch_2, data_batch_3, data_batch_4, "
        f"data_batch_5, test_batch, batches.meta; get them with "
        f"`python -m trainers.fetch cifar10 --data-dir {tmp_path}`, "
        "or name their folder with --set data_dir=... (search: --set fixed.data_dir=...)"
    )
    for check in (check_present, load_train, load_test):
        with pytest.raises(DataError, match=f"^{sentence}$"):
            check(config)


@pytest.mark.parametrize(
    ("name", "lost"), [("cifar10", "data_batch_3"), ("cifar10", "batches.meta"), ("cifar100", "test")]
)
def test_a_partial_data_set_is_reported_by_the_missing_file(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path, name: str, lost: str
) -> None:
    folder = write_cifar(tmp_path, name)
    (folder / lost).unlink()
    config = cifar(name)
    with pytest.raises(DataError):
        check_present(config)
    expect_one_sentence(config, f"{folder} lacks {lost};", f"trainers.fetch {name} ", "data_dir")


def test_an_archive_that_was_not_unpacked_is_reported(cifar: Tiny, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    expect_one_sentence(cifar(), f"`python -m trainers.fetch cifar10 --data-dir {tmp_path}`")


def test_labels_may_be_a_list_of_numpys_integers(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(_entry(labels=list(np.arange(20) % 10)))
    assert cifar_files._read(tmp_path / "data_batch_1", 10).labels.tolist() == [i % 10 for i in range(20)]


def _entry(count: int = 20, **changes: Any) -> bytes:
    entry = {b"data": np.zeros((count, 3072), np.uint8), b"labels": [0] * count}
    return pickle.dumps({**entry, **{key.encode(): value for key, value in changes.items()}}, protocol=2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        _entry()[:-1],
        _entry()[: len(_entry()) // 2],
        b"<html>404</html>",
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [0]}, protocol=2),
        _entry(data=np.zeros((20, 3000), np.uint8)),
        _entry(labels=[0] * 19),
        _entry(labels=[10] * 20),
        _entry(labels=[-1] * 20),
        _entry(labels=["cat"] * 20),
        _entry(data=np.zeros((20, 3072), np.float32)),
    ],
    ids=[
        "empty",
        "zeros",
        "cut",
        "half",
        "html",
        "list",
        "no data",
        "shape",
        "few labels",
        "high",
        "low",
        "text",
        "type",
    ],
)
def test_a_damaged_file_is_reported_with_folder_and_remedy(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path, content: bytes
) -> None:
    folder = write_cifar(tmp_path)
    (folder / "data_batch_2").write_bytes(content)
    expect_one_sentence(cifar(), "cifar10: ", str(folder), "unpack cifar-10-python.tar.gz again")


def test_a_validation_share_that_leaves_no_training_image_is_reported(
    cifar: Tiny, write_cifar: WriteCifar, tmp_path: Path
) -> None:
    write_cifar(tmp_path, count=1)
    expect_one_sentence(cifar(val_fraction=0.99), "val_fraction=0.99 leaves no image to train on")


# ---------------------------------------------------------------------------------------------- user data sets


@pytest.fixture
def no_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets a registered data set at the end of the test."""
    for table in (SOURCES, DATASETS, TRAIN_IMAGES):
        monkeypatch.setitem(table, "squares", None)  # type: ignore[arg-type]  # puts the tables back afterwards
        del table["squares"]  # type: ignore[attr-defined]


GREY = {"img_size": 8, "in_channels": 1, "mean": (0.3,), "std": (0.4,), "num_classes": 4}
NOISE = torch.randint(256, (100, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
FOUR = torch.arange(100) % 4


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (NOISE / 255, FOUR, r"images must be uint8 \[M, 1, H, W\], 0 to 255 \(got float32 \[100, 1, 8, 8\]\); conv"),
        (NOISE.to(torch.int16) * 257, FOUR, r"images must be uint8 .* \(got int16 \[100, 1, 8, 8\]\)"),
        (NOISE[:, 0], FOUR, r"images must be uint8 .* \(got uint8 \[100, 8, 8\]\)"),
        (NOISE, FOUR + 1, r"labels must be 100 int64 from 0 to num_classes - 1 = 3 \(got 100 int64 from 1 to 4\)"),
        (NOISE, FOUR - 1, r"labels must be .* \(got 100 int64 from -1 to 2\)"),
        (NOISE, FOUR.float(), r"labels must be .* \(got 100 float32 from 0 to 3\)"),
        (NOISE[:50], FOUR, r"labels must be 50 int64 .* \(got 100 int64 from 0 to 3\)"),
    ],
    ids=["float", "16 bits", "no channels", "high", "low", "float labels", "few images"],
)
@pytest.mark.usefixtures("no_squares")
def test_samples_that_the_training_would_misread_are_refused(
    tiny: Tiny, images: torch.Tensor, labels: torch.Tensor, text: str
) -> None:
    register("squares", Source(lambda config, train: Split(images, labels)), GREY, 100)
    for load in (load_train, load_test):
        with pytest.raises(DataError, match=f"^squares: {text}"):
            load(tiny(dataset="squares", num_classes=4))


@pytest.mark.usefixtures("no_squares")
def test_equal_samples_on_both_sides_of_the_validation_split_are_reported(tiny: Tiny) -> None:
    images = NOISE.clone()
    images[50:] = images[:50]
    register("squares", Source(lambda config, train: Split(images, FOUR)), GREY, 100)
    with pytest.warns(
        UserWarning, match=r"^squares: \d+ of 20 validation samples are in the training part too; remove"
    ):
        load_train(tiny(dataset="squares", num_classes=4, val_fraction=0.2))


@pytest.mark.usefixtures("no_squares")
def test_a_registered_data_set_trains_by_its_name(tiny: Tiny) -> None:
    generator, received = torch.Generator().manual_seed(0), []
    images = torch.randint(256, (100, 1, 8, 8), generator=generator).to(torch.uint8)
    info = {key: DATASETS["digits"][key] for key in ("img_size", "in_channels", "mean", "std")}
    source = Source(lambda config, train: Split(images, torch.arange(100) % 4))
    register("squares", source, {**info, "num_classes": 4}, 100)
    train(tiny(dataset="squares", num_classes=4, epochs=1), received.append)
    assert received[0].metrics["accuracy"] > 0
    with pytest.raises(ValueError, match="the info of the data set circles lacks mean, std"):
        register("circles", source, {"img_size": 8, "in_channels": 1}, 100)
    with pytest.raises(ValueError, match="squares is registered already"):
        register("squares", source, info, 100)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    for mine, theirs in zip(digits.read_all(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(mine, theirs)
