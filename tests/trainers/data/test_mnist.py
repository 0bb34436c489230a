"""MNIST and Fashion-MNIST from small files in the published IDX format."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.datasets import DATASETS
from trainers.train import train

Tiny = Callable[..., TrainConfig]
Write = Callable[..., Path]
NAMES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}

pytestmark = pytest.mark.filterwarnings("ignore:.* published images")


@pytest.fixture
def mnist(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Makes a tiny config that reads MNIST, or Fashion-MNIST, from the test's folder."""

    def make(name: str = "mnist", **keys: Any) -> TrainConfig:
        images = {"img_size": 28, "patch_size": 4, "embed_dim": 8, "batch_size": 10, "epochs": 1, "val_fraction": 0.25}
        return tiny(**{**images, "dataset": name, "data_dir": str(tmp_path), **keys})

    return make


@pytest.mark.parametrize("name", NAMES)
def test_a_few_images_in_the_true_format_load_and_train(mnist: Tiny, write_mnist: Write, name: str) -> None:
    config, received = mnist(name), []
    folder = write_mnist(Path(str(config.data_dir)), NAMES[name])
    data, validation = load_train(config)
    assert (len(data), len(validation)) == (30, 10)
    assert (data.images.shape[1:], data.images.dtype) == ((1, 28, 28), torch.uint8)
    train(config, received.append)
    assert received[-1].metrics["loss"] > 0
    test = load_test(config)
    assert test.images.numpy().tobytes() == (folder / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert test.labels.tolist() == [i % 10 for i in range(40)]


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_those_of_torchvision(mnist: Tiny, write_mnist: Write, tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, NAMES[name])
    theirs = getattr(torchvision.datasets, NAMES[name])(str(tmp_path), train=True)
    ours = load_train(mnist(name, val_fraction=0.0))[0]
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


@pytest.mark.parametrize("name", NAMES)
def test_the_data_set_gives_the_keys_and_images_are_not_flipped(name: str) -> None:
    config = TrainConfig.model_validate({"dataset": name, "model": "spikformer_cifar", "epochs": 1})
    assert (config.num_classes, config.in_channels, config.img_size, config.hflip) == (10, 1, 28, 0.0)
    assert (config.mean, config.std) == (DATASETS[name]["mean"], DATASETS[name]["std"])


@pytest.mark.parametrize("inner", ["", "MNIST", "MNIST/raw"])
def test_data_dir_may_name_the_inner_folders(mnist: Tiny, write_mnist: Write, tmp_path: Path, inner: str) -> None:
    write_mnist(tmp_path)
    check_present(mnist(data_dir=str(tmp_path / inner)))


def test_missing_files_are_reported_with_the_command_that_gets_them(
    mnist: Tiny, write_mnist: Write, tmp_path: Path
) -> None:
    folder = write_mnist(tmp_path)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    sentence = re.escape(
        f"mnist: {folder} lacks t10k-labels-idx1-ubyte; get them with "
        f"`python -m trainers.fetch mnist --data-dir {tmp_path}`, or name their folder with --set data_dir=... "
        "(search: --set fixed.data_dir=...)"
    )
    for check in (check_present, load_train, load_test):
        with pytest.raises(DataError, match=f"^{sentence}$"):
            check(mnist(data_dir=str(folder)))


def _idx(*shape: int, kind: int = 8, values: bytes | None = None) -> bytes:
    head = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
    return head + (bytes(torch.Size(shape).numel()) if values is None else values)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("images-idx3", b""),
        ("images-idx3", b"<html>404</html>"),
        ("images-idx3", _idx(40, 28, 28)[:-1]),
        ("images-idx3", _idx(40, 32, 32)),
        ("images-idx3", _idx(40, 784)),
        ("images-idx3", _idx(40, 28, 28, kind=9)),
        ("images-idx3", _idx(0, 28, 28)),
        ("labels-idx1", _idx(39)),
        ("labels-idx1", _idx(40, 1)),
        ("labels-idx1", _idx(40, values=b"\x0a" * 40)),
        ("labels-idx1", _idx(40, kind=9)),
    ],
)
def test_a_damaged_file_is_reported_in_one_sentence(
    mnist: Tiny, write_mnist: Write, tmp_path: Path, file: str, content: bytes
) -> None:
    folder = write_mnist(tmp_path)
    (folder / f"train-{file}-ubyte").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_train(mnist())
    text = str(caught.value)
    assert text.startswith(f"mnist: a file in {folder} cannot be read (ValueError: train-{file}-ubyte ")
    assert (
        f"remove train-images-idx3-ubyte, train-labels-idx1-ubyte, and get them with `{'python -m trainers.fetch'}"
        in text
    )
    assert "\n" not in text


def test_fewer_images_than_published_give_a_warning(mnist: Tiny, write_mnist: Write, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    with pytest.warns(UserWarning, match=r"raw holds 40 of the 60,000 published images"):
        load_train(mnist())


@pytest.mark.parametrize("name", ["smnist", "psmnist"])
def test_pixels_as_a_sequence_train_an_epoch(mnist: Tiny, write_mnist: Write, name: str) -> None:
    config, received = mnist(name, embed_layer="sequential_embed"), []
    write_mnist(Path(str(config.data_dir)), "MNIST")
    assert torch.equal(load_train(config)[0].images, load_train(mnist("mnist"))[0].images)
    train(config, received.append)
    assert received[-1].metrics["loss"] > 0


@pytest.mark.parametrize("method", ["plain", "train"])
def test_psmnist_permutes_the_pixels_of_all_images_in_one_order(mnist: Tiny, method: str) -> None:
    numbers = torch.arange(784)
    images = torch.stack([numbers // 256, numbers % 256]).view(2, 1, 28, 28).to(torch.uint8)
    found = []
    for name in ("mnist", "psmnist", "psmnist"):
        normalized = getattr(make_augment(mnist(name), torch.device("cpu")), method)(images)
        high, low = ((normalized * 0.3081 + 0.1307) * 255.0).round().long().flatten(1)
        found.append((high * 256 + low).tolist())
    assert found[0] == numbers.tolist()
    assert found[1] == found[2] != found[0]
    assert sorted(found[1]) == found[0]


def test_a_sequence_has_the_size_of_its_data(mnist: Tiny) -> None:
    with pytest.raises(ValueError, match="img_size must be the 28 of smnist, whose pixels are a sequence"):
        mnist("smnist", img_size=16)
