"""Image sets with published lists, from small files in the true formats: parts, labels, training, missing files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from trainers.config import TrainConfig
from trainers.data.image_sets import SETS
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.datasets import DATASETS, LISTED
from trainers.train import train

Tiny = Callable[..., TrainConfig]
NAMES = sorted(LISTED)
SIZES = {True: 6, False: 4}
"""Images that are written of each part; their labels count up from 0."""

pytestmark = pytest.mark.filterwarnings("ignore:.* published images")


def pictures(folder: Path, names: list[str]) -> None:
    generator = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)


def cells(values: list[str]) -> Any:
    """Returns texts as MATLAB's cell array."""
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def write_cub200(root: Path) -> None:
    rows = [*((True, i) for i in range(6)), *((False, i) for i in range(4))]
    names = [f"{label + 1:03}.Bird/bird_{number}.jpg" for number, (_, label) in enumerate(rows)]
    pictures(root / "images", names)
    lists = {
        "images.txt": names,
        "image_class_labels.txt": [label + 1 for _, label in rows],
        "train_test_split.txt": [int(is_train) for is_train, _ in rows],
    }
    for name, values in lists.items():
        (root / name).write_text("".join(f"{number} {value}\n" for number, value in enumerate(values, 1)))


def write_stanford_cars(root: Path) -> None:
    (root / "devkit").mkdir(parents=True)
    for is_train, size in SIZES.items():
        names = [f"{number:05}.jpg" for number in range(1, size + 1)]
        pictures(root / ("cars_train" if is_train else "cars_test"), names)
        kinds = [("bbox_x1", "f8"), ("class", "f8"), ("fname", "O")]
        rows = np.array([[(1.0, label + 1, name) for label, name in enumerate(names)]], dtype=kinds)
        table = "devkit/cars_train_annos.mat" if is_train else "cars_test_annos_withlabels.mat"
        savemat(root / table, {"annotations": rows})


def write_stanford_dogs(root: Path) -> None:
    for is_train, size in SIZES.items():
        part = "train" if is_train else "test"
        names = [f"n{label:08}-Dog/{part}_{label}.jpg" for label in range(size)]
        pictures(root / "Images", names)
        labels = np.arange(1, size + 1).reshape(-1, 1)
        savemat(root / f"{part}_list.mat", {"file_list": cells(names), "labels": labels})


def write_fgvc_aircraft(root: Path) -> None:
    data = root / "data"
    data.mkdir(parents=True)
    variants = [f"Type {label}-100" for label in range(6)]
    (data / "variants.txt").write_text("\n".join(variants) + "\n")
    for is_train, size in SIZES.items():
        numbers = [f"{int(is_train)}{label:06}" for label in range(size)]
        pictures(data / "images", [f"{number}.jpg" for number in numbers])
        lines = [f"{number} {variant}\n" for number, variant in zip(numbers, variants, strict=False)]
        (data / f"images_variant_{'train' if is_train else 'test'}.txt").write_text("".join(lines))


def write_flowers102(root: Path) -> None:
    pictures(root / "jpg", [f"image_{number:05}.jpg" for number in range(1, 13)])
    labels = [*range(1, 5), *range(1, 7), 1, 2]
    savemat(root / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(
        root / "setid.mat",
        {"tstid": np.array([range(1, 5)]), "trnid": np.array([range(5, 11)]), "valid": np.array([[11, 12]])},
    )


def write_tiny_imagenet(root: Path) -> None:
    for label in range(6):
        pictures(root / "train" / f"n{label:08}" / "images", [f"n{label:08}_0.JPEG"])
    names = [f"val_{label}.JPEG" for label in range(4)]
    pictures(root / "val" / "images", names)
    lines = [f"{name}\tn{label:08}\t0\t0\t62\t62\n" for label, name in enumerate(names)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


WRITERS: dict[str, Callable[[Path], None]] = {
    "cub200": write_cub200,
    "stanford_cars": write_stanford_cars,
    "stanford_dogs": write_stanford_dogs,
    "fgvc_aircraft": write_fgvc_aircraft,
    "flowers102": write_flowers102,
    "tiny_imagenet": write_tiny_imagenet,
}


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Writes a data set and returns a tiny config that reads it."""

    def make(name: str, **keys: Any) -> TrainConfig:
        WRITERS[name](tmp_path / SETS[name].folder)
        sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "batch_size": 2, "epochs": 1, "workers": 0}
        whole = {"val_fraction": 0.0, "dataset": name, "data_dir": str(tmp_path)}
        return tiny(**{**sizes, **whole, **keys})

    return make


@pytest.mark.parametrize("name", NAMES)
def test_both_parts_have_the_listed_images_and_labels(config: Callable[..., TrainConfig], name: str) -> None:
    found = config(name)
    parts = {True: load_train(found)[0], False: load_test(found)}
    for is_train, size in SIZES.items():
        assert parts[is_train].labels.tolist() == list(range(size))
    assert not set(parts[True].files) & set(parts[False].files)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_trains_from_small_files_in_the_true_format(config: Callable[..., TrainConfig], name: str) -> None:
    received: list[Any] = []
    train(config(name, val_fraction=0.5), received.append)
    assert received[-1].metrics["loss"] > 0


@pytest.mark.parametrize(("name", "theirs"), [("fgvc_aircraft", "FGVCAircraft"), ("flowers102", "Flowers102")])
def test_images_and_labels_are_those_of_torchvision(
    config: Callable[..., TrainConfig], name: str, theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, kind = config(name), getattr(torchvision.datasets, theirs)
    if name == "flowers102":
        monkeypatch.setattr(kind, "_check_integrity", lambda self: True)  # of the published MD5 sums
    for is_train, data in ((True, load_train(found)[0]), (False, load_test(found))):
        other = kind(str(tmp_path), split="train" if is_train else "test")
        assert [str(path) for path in data.files] == [str(path) for path in other._image_files]  # type: ignore[attr-defined]
        assert data.labels.tolist() == list(other._labels)


def test_sorted_validation_images_of_tiny_imagenet_are_read_too(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    found, part = config("tiny_imagenet"), tmp_path / "tiny-imagenet-200" / "val"
    for label in range(4):
        (part / f"n{label:08}").mkdir()
        (part / "images" / f"val_{label}.JPEG").rename(part / f"n{label:08}" / f"val_{label}.JPEG")
    (part / "val_annotations.txt").rename(tmp_path / "val_annotations.txt")
    assert load_test(found).labels.tolist() == list(range(4))


@pytest.mark.parametrize("name", NAMES)
def test_data_dir_may_name_the_inner_folder(config: Callable[..., TrainConfig], name: str, tmp_path: Path) -> None:
    check_present(config(name, data_dir=str(tmp_path / SETS[name].folder)))


def of_each_file() -> Iterator[tuple[str, str]]:
    return itertools.chain.from_iterable(((name, need) for need in SETS[name].needs) for name in NAMES)


@pytest.mark.parametrize(("name", "need"), list(of_each_file()))
def test_a_missing_file_is_named_with_the_remedy(
    config: Callable[..., TrainConfig], name: str, need: str, tmp_path: Path
) -> None:
    found, path = config(name), tmp_path / SETS[name].folder / need
    path.rename(path.with_name("moved"))
    with pytest.raises(DataError, match=rf"{name}: .* lacks {need}; get them with `python -m trainers.fetch {name} "):
        check_present(found)


def test_missing_images_and_damaged_lists_are_reported(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    found = config("cub200")
    next((tmp_path / "CUB_200_2011" / "images").rglob("*_0.jpg")).unlink()
    with pytest.raises(DataError, match=r"1 of 6 listed images are missing, such as .*bird_0\.jpg"):
        load_train(found)
    (tmp_path / "CUB_200_2011" / "images.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match=r"the lists in .* cannot be read"):
        load_train(found)


def test_fewer_images_than_published_give_a_warning(tmp_path: Path, config: Callable[..., TrainConfig]) -> None:
    with pytest.warns(UserWarning, match="flowers102: .* lists 10 of the 7,169 published images"):
        load_test(config("flowers102", data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_prepared_as_those_of_imagenet(name: str) -> None:
    config = TrainConfig.model_validate({"dataset": name, "model": "spikformer_imagenet", "epochs": 1})
    assert (config.img_size, config.crop_pct, config.scale) == (224, 0.875, (0.08, 1.0))
    assert config.num_classes == DATASETS[name]["num_classes"]
