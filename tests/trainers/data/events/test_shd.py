"""Spiking Heidelberg Digits from small files in the true format: frames, training, download, damaged files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from trainers import fetch
from trainers.config import TrainConfig
from trainers.data.events.shd import CHANNELS, FILES, frames
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.train import measure_test, train

Tiny = Callable[..., TrainConfig]
pytestmark = pytest.mark.filterwarnings("ignore:.* published (samples|ones)")


def spoken(seed: int, count: int = 300) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns random spikes: times in seconds, ascending, and channels."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.random(count)), generator.integers(0, CHANNELS, count)


def write_shd(folder: Path, labels: list[int]) -> None:
    folder.mkdir(exist_ok=True)
    for is_train, name in FILES.items():
        with h5py.File(folder / name, "w") as file:
            file["labels"] = np.array(labels, dtype=np.uint16)
            group = file.create_group("spikes")
            for key, dtype in (("times", np.float16), ("units", np.uint16)):
                rows = group.create_dataset(key, (len(labels),), dtype=h5py.vlen_dtype(dtype))
                for i in range(len(labels)):
                    rows[i] = spoken(2 * i + is_train)[key == "units"].astype(dtype)


@pytest.fixture
def shd(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Makes a tiny config that reads the files from the test's folder."""

    def make(**keys: Any) -> TrainConfig:
        sizes = {"embed_dim": 16, "num_heads": 2, "batch_size": 4, "epochs": 1, "val_fraction": 0.25}
        data = {"dataset": "shd", "data_dir": str(tmp_path), "num_classes": 20}
        return tiny(**{**sizes, **data, **keys})

    return make


def test_an_epoch_trains_from_small_files_in_the_true_format(shd: Tiny, tmp_path: Path) -> None:
    labels = [0, 0, 0, 0, 7, 7, 7, 7, 19, 19, 19, 19]
    write_shd(tmp_path, labels)
    config, received = shd(), []
    check_present(config)
    parts, test = load_train(config), load_test(config)
    assert sorted(label for part in parts for label in part.labels.tolist()) == labels == test.labels.tolist()
    assert test.images.shape == (12, 2, 1, 27, 27)
    assert test.images.dtype == torch.uint8
    assert test.images.sum((1, 2, 3, 4)).tolist() == [300] * 12
    model = train(config, received.append)
    assert received[-1].metrics["loss"] > 0
    assert measure_test(model, config).metrics["spikes"] >= 0


def test_frames_of_equal_duration_are_spikingjellys() -> None:
    from spikingjelly.datasets.shd import _integrate_events_by_fixed_frames_number

    times, units = spoken(0)
    theirs = _integrate_events_by_fixed_frames_number({"t": times, "x": units}, "time", 5, CHANNELS)
    ours = frames(times, units, 5, 27 * 27)
    assert np.array_equal(ours[:, :CHANNELS], theirs)
    assert not ours[:, CHANNELS:].any()


def test_with_fewer_places_neighbouring_channels_share_one() -> None:
    times, units = spoken(0)
    full = frames(times, units, 3, CHANNELS)
    assert np.array_equal(frames(times, units, 3, 100), full.reshape(3, 100, 7).sum(2))


@pytest.mark.parametrize(
    ("times", "units", "text"),
    [
        ([], [], "0 times and 0 channels"),
        ([0.1], [1, 2], "1 times and 2 channels"),
        ([0.1], [700], "channels other than 0 to 699"),
        ([np.nan], [3], "times that are no numbers"),
    ],
)
def test_spikes_that_cannot_be_are_refused(times: list[float], units: list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        frames(np.array(times), np.array(units), 2, 729)


def test_one_spike_is_a_frame_of_its_own() -> None:
    assert frames(np.array([0.3]), np.array([5]), 2, 729).nonzero()[1].tolist() == [5]


@pytest.mark.parametrize("keys", [{"embed_layer": "SPS"}, {"hflip": 0.5}, {"aa": "snn-wide"}, {"cutmix": 1.0}])
def test_what_needs_a_map_is_refused(shd: Tiny, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shd is one row of channels: embed_layer must be sequential_embed, and hflip"):
        shd(**keys)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_damaged_file_is_reported_by_its_name(shd: Tiny, tmp_path: Path, content: bytes) -> None:
    write_shd(tmp_path, [0, 1, 2, 3])
    (tmp_path / "shd_train.h5").write_bytes(content)
    with pytest.raises(DataError, match=rf"shd: {tmp_path}/shd_train\.h5 cannot be read .*; remove shd_train\.h5, and"):
        load_train(shd())


def test_labels_beyond_the_classes_are_reported(shd: Tiny, tmp_path: Path) -> None:
    write_shd(tmp_path, [0, 20])
    with pytest.raises(DataError, match="must hold samples of classes 0 to 19"):
        load_test(shd())


@pytest.mark.parametrize("folder", [".", "extract", "events_h5"])
def test_missing_files_are_named_and_spikingjellys_folders_are_read(shd: Tiny, tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError, match=r"lacks shd_train\.h5, shd_test\.h5; get them with"):
        check_present(shd())
    write_shd(tmp_path / folder, [0, 1])
    check_present(shd())


def test_the_published_archives_are_unpacked_where_trainings_find_them(shd: Tiny, tmp_path: Path) -> None:
    write_shd(tmp_path / "made", [0, 1, 2])
    for name in FILES.values():
        shutil.make_archive(str(tmp_path / "made" / name), "zip", tmp_path / "made", name)
        (tmp_path / "made" / name).unlink()
    root = tmp_path / "data"
    assert fetch.main(["shd", "--data-dir", str(root), "--from", str(tmp_path / "made")]) == 0
    assert load_test(shd(data_dir=str(root))).labels.tolist() == [0, 1, 2]
