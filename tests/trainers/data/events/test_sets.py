"""CIFAR10-DVS, DVS128 Gesture and N-Caltech101 from small files in the published formats."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.refusals import expect_one_sentence
from trainers.config import TrainConfig
from trainers.data.events.files import Events, frames
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.train import measure_test, train

Tiny = Callable[..., TrainConfig]
Write = Callable[..., Path]
NAMES = ["cifar10_dvs", "dvs128_gesture", "n_caltech101"]
KEYS = {
    "in_channels": 2,
    "patch_size": 16,
    "img_size": 32,
    "embed_dim": 8,
    "num_heads": 1,
    "batch_size": 8,
    "epochs": 1,
}
CLASSES = {"cifar10_dvs": 10, "dvs128_gesture": 11, "n_caltech101": 101, "n_mnist": 10, "hardvs": 300}


pytestmark = pytest.mark.filterwarnings("ignore:.* published samples")


@pytest.fixture
def events(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Makes a tiny config that reads an event set from the test's folder."""

    def make(name: str, **keys: Any) -> TrainConfig:
        own = {"dataset": name, "data_dir": str(tmp_path), "num_classes": CLASSES[name], "val_fraction": 0.2}
        return tiny(**{**KEYS, **own, **keys})

    return make


@pytest.mark.parametrize("name", NAMES)
def test_small_files_in_the_true_format_load_and_train(
    events: Tiny, write_events: Write, tmp_path: Path, name: str
) -> None:
    write_events(tmp_path, name)
    config, received = events(name), []
    check_present(config)
    model = train(config, received.append)
    assert received[-1].metrics["loss"] > 0
    assert measure_test(model, config).metrics["spikes"] >= 0


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_integers_of_the_requested_steps_and_size(
    events: Tiny, write_events: Write, tmp_path: Path, name: str
) -> None:
    write_events(tmp_path, name)
    data, _ = load_train(events(name, step=3))
    assert data.images.shape[1:] == (3, 2, 32, 32)
    assert data.images.dtype == torch.uint8
    assert set(data.labels.tolist()) <= set(range(CLASSES[name]))
    per_sample = data.images.sum((1, 2, 3, 4))
    assert (per_sample == 300).all() if name != "dvs128_gesture" else (per_sample > 50).all()


@pytest.mark.parametrize("name", ["cifar10_dvs", "n_caltech101"])
def test_the_first_90_percent_of_each_class_are_for_training(
    events: Tiny, write_events: Write, tmp_path: Path, name: str
) -> None:
    write_events(tmp_path, name, count=11 if name == "cifar10_dvs" else 3)
    (data, _), test = load_train(events(name, val_fraction=0.0)), load_test(events(name))
    count, classes = (10 if name == "cifar10_dvs" else 2), CLASSES[name]
    assert torch.bincount(data.labels).tolist() == [count] * classes
    assert torch.bincount(test.labels).tolist() == [1] * classes


def test_files_are_in_the_order_of_their_names_as_in_the_papers_code(
    events: Tiny, write_events: Write, random_events: Callable[..., Any], tmp_path: Path
) -> None:
    write_events(tmp_path, "cifar10_dvs", count=11)
    test = load_test(events("cifar10_dvs", img_size=128))  # of 0, 1, 10, 2, ..., 9 the last is 9
    assert torch.equal(test.images[3].int(), frames(Events(**random_events(3009)), 2, 128, 128, 128))


def test_gestures_are_cut_out_of_their_recording(
    events: Tiny, write_events: Write, random_events: Callable[..., Any], tmp_path: Path
) -> None:
    write_events(tmp_path, "dvs128_gesture", count=2)
    (data, _), test = (load_train(events("dvs128_gesture", val_fraction=0.0))), load_test(events("dvs128_gesture"))
    assert data.labels.tolist() == 2 * list(range(11))
    whole = Events(**random_events(100, count=1100))
    expected = frames(whole.between(4 * 9000, 5 * 9000), 2, 128, 128, 32)
    assert torch.equal(test.images[4].int(), expected)


def test_counts_above_255_are_kept(events: Tiny, event_bytes: Any, write_events: Write, tmp_path: Path) -> None:
    folder = write_events(tmp_path, "cifar10_dvs")
    hot = {"t": np.arange(1000), "x": np.full(1000, 5), "y": np.full(1000, 9), "p": np.ones(1000, dtype=int)}
    (folder / "bird" / "cifar10_bird_0.aedat").write_bytes(event_bytes["aedat2"](hot))
    data, _ = load_train(events("cifar10_dvs", val_fraction=0.0, img_size=128))
    assert data.images.dtype == torch.int16
    assert data.images[:, :, 1, 9, 5].max() == 500


# ---------------------------------------------------------------------------------------------- where files may lie


@pytest.mark.parametrize("name", NAMES)
def test_spikingjellys_converted_folder_gives_the_same(
    events: Tiny, write_events: Write, tmp_path: Path, name: str
) -> None:
    raw = tmp_path / "raw"
    write_events(raw, name)
    convert(name, raw, tmp_path / "root" / "events_np")
    keys = {"val_fraction": 0.0}
    ours = load_train(events(name, data_dir=str(raw), **keys))[0]
    theirs = load_train(events(name, data_dir=str(tmp_path / "root"), **keys))[0]
    if name == "dvs128_gesture":  # in the order of classes
        ours, theirs = (split.take(np.arange(33)) for split in (ours, theirs))
        ours_sorted = [x for _, x in sorted(zip(ours.labels.tolist(), ours.images.flatten(1).tolist(), strict=True))]
        theirs_sorted = [
            x for _, x in sorted(zip(theirs.labels.tolist(), theirs.images.flatten(1).tolist(), strict=True))
        ]
        assert ours_sorted == theirs_sorted
    else:
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def archive(name: str, raw: Path, root: Path) -> None:
    """Packs the published files as they are downloaded."""
    root.mkdir()
    if name == "cifar10_dvs":
        for folder in raw.iterdir():
            shutil.make_archive(str(root / folder.name), "zip", raw, folder.name)
    elif name == "n_caltech101":
        shutil.make_archive(str(root / "Caltech101"), "zip", raw, "Caltech101")
    else:
        with tarfile.open(root / "DvsGesture.tar.gz", "w:gz") as packed:
            packed.add(raw / "DvsGesture", "DvsGesture")


@pytest.mark.parametrize("name", NAMES)
def test_downloaded_archives_are_unpacked_once_with_a_warning_about_their_sums(
    events: Tiny, write_events: Write, tmp_path: Path, name: str
) -> None:
    raw, root = tmp_path / "raw", tmp_path / "root"
    root.mkdir()
    write_events(raw, name)
    archive(name, raw, root / "download")
    config = events(name, data_dir=str(root))
    check_present(config)
    assert not (root / "extract").exists(), "a check changes nothing"
    with pytest.warns(UserWarning, match=r"differ from the published ones \(MD5\)"):
        first = load_train(config)[0]
    assert sorted(path.name for path in root.iterdir()) == ["download", "extract"]
    second = load_train(config)[0]
    assert torch.equal(first.images, second.images)


def test_reading_changes_nothing_on_disk(events: Tiny, write_events: Write, tmp_path: Path) -> None:
    write_events(tmp_path, "cifar10_dvs")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.rglob("*") if path.is_file()}
    load_train(events("cifar10_dvs"))
    assert before == {
        path: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.rglob("*") if path.is_file()
    }


# ---------------------------------------------------------------------------------------------- missing and damaged


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_is_reported_in_one_sentence_with_folder_and_remedy(
    events: Tiny, tmp_path: Path, name: str
) -> None:
    archives = {"cifar10_dvs": "airplane.zip", "dvs128_gesture": "DvsGesture.tar.gz", "n_caltech101": "Caltech101.zip"}
    with pytest.raises(DataError, match=archives[name]):
        check_present(events(name))
    expect_one_sentence(events(name), f"{tmp_path} lacks", archives[name], "data_dir")


@pytest.mark.parametrize(
    ("name", "lost", "received"),
    [
        ("cifar10_dvs", "horse", "lacks the folders horse"),
        ("n_caltech101", "Caltech101/class_050", "must hold 101 folders, one per class (got 100)"),
        ("dvs128_gesture", "DvsGesture/trials_to_train.txt", "lacks trials_to_train.txt"),
        ("dvs128_gesture", "DvsGesture/user01_fluorescent.aedat", "lacks user01_fluorescent.aedat"),
        ("dvs128_gesture", "DvsGesture/user02_fluorescent_labels.csv", "lacks user02_fluorescent_labels.csv"),
    ],
)
def test_a_partial_data_set_is_reported_with_the_missing_files(
    events: Tiny, write_events: Write, tmp_path: Path, name: str, lost: str, received: str
) -> None:
    write_events(tmp_path, name)
    path = tmp_path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError):
        check_present(events(name))
    expect_one_sentence(events(name), received, "unpack")


def test_a_missing_archive_among_others_is_reported(events: Tiny, write_events: Write, tmp_path: Path) -> None:
    write_events(tmp_path / "raw", "cifar10_dvs")
    archive("cifar10_dvs", tmp_path / "raw", tmp_path / "download")
    (tmp_path / "download" / "ship.zip").unlink()
    shutil.rmtree(tmp_path / "raw")
    expect_one_sentence(events("cifar10_dvs"), "lacks ship.zip")


def test_a_damaged_archive_is_reported_and_leaves_nothing_half_unpacked(
    events: Tiny, write_events: Write, tmp_path: Path
) -> None:
    write_events(tmp_path / "raw", "n_caltech101")
    archive("n_caltech101", tmp_path / "raw", tmp_path / "download")
    packed = tmp_path / "download" / "Caltech101.zip"
    packed.write_bytes(packed.read_bytes()[:-2000])
    expect_one_sentence(events("n_caltech101"), "Caltech101.zip cannot be unpacked", "get it again")
    assert not list(tmp_path.glob("extract*"))


FILES = {
    "cifar10_dvs": "cat/cifar10_cat_0.aedat",
    "dvs128_gesture": "DvsGesture/user01_fluorescent.aedat",
    "n_caltech101": "Caltech101/class_007/image_0001.bin",
}


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "text"])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_reported_by_its_name(
    events: Tiny, write_events: Write, tmp_path: Path, name: str, damage: str
) -> None:
    write_events(tmp_path, name)
    path = tmp_path / FILES[name]
    whole = path.read_bytes()
    changed = {"empty": b"", "cut": whole[:-3], "zeros": bytes(len(whole) // 5 * 5), "text": b"<html>404</html>\n" * 3}
    path.write_bytes(changed[damage])
    expect_one_sentence(events(name, val_fraction=0.0), str(path), "cannot be read", "unpack")


@pytest.mark.parametrize("rows", ["1,2\n", "12,0,9\n", "a,b,c\n"])
def test_a_damaged_table_of_gestures_is_reported(events: Tiny, write_events: Write, tmp_path: Path, rows: str) -> None:
    folder = write_events(tmp_path, "dvs128_gesture")
    (folder / "user00_fluorescent_labels.csv").write_text("class,startTime_usec,endTime_usec\n" + rows)
    expect_one_sentence(events("dvs128_gesture"), "user00_fluorescent_labels.csv cannot be read")


def test_an_unfinished_conversion_of_spikingjelly_is_not_used(
    events: Tiny, write_events: Write, tmp_path: Path
) -> None:
    write_events(tmp_path / "extract", "cifar10_dvs")
    (tmp_path / "events_np").mkdir()
    (tmp_path / "events_np.building").touch()
    assert len(load_train(events("cifar10_dvs", val_fraction=0.0))[0]) == 20


# ---------------------------------------------------------------------------------------------- conversions


def convert(name: str, raw: Path, converted: Path) -> None:
    """Converts a set as SpikingJelly does."""
    import spikingjelly.datasets as sets

    kind = {"cifar10_dvs": "CIFAR10DVS", "dvs128_gesture": "DVS128Gesture"}
    converted.mkdir(parents=True)
    getattr(sets, kind.get(name, "NCaltech101")).create_raw_from_extracted(raw, converted)


@pytest.mark.parametrize(
    ("name", "place", "lost"),
    [
        ("cifar10_dvs", "extract", "some files"),
        ("dvs128_gesture", ".", "some files"),
        ("cifar10_dvs", ".", "a class"),
        ("dvs128_gesture", "extract", "all files"),
    ],
)
def test_a_half_made_conversion_gives_way_to_the_recordings_beside_it(
    events: Tiny, write_events: Write, tmp_path: Path, name: str, place: str, lost: str
) -> None:
    write_events(tmp_path / "raw", name)
    convert(name, tmp_path / "raw", tmp_path / "events_np")
    write_events(tmp_path / place, name)
    expected = load_train(events(name, val_fraction=0.0, data_dir=str(tmp_path / "raw")))[0]
    files = sorted((tmp_path / "events_np").rglob("*.npz"))
    for path in {"some files": files[::3], "a class": files[:3], "all files": files}[lost]:
        path.unlink()
    with pytest.warns(UserWarning, match=rf"{name}: {tmp_path}/events_np holds \d+ of the \d+ samples of .*remove or"):
        check_present(events(name))
    for data_dir in (tmp_path, tmp_path / "events_np"):
        got = load_train(events(name, val_fraction=0.0, data_dir=str(data_dir)))[0]
        assert torch.equal(got.images, expected.images)


def test_a_complete_conversion_is_read_before_the_recordings(events: Tiny, write_events: Write, tmp_path: Path) -> None:
    write_events(tmp_path / "raw", "cifar10_dvs")
    convert("cifar10_dvs", tmp_path / "raw", tmp_path / "events_np")
    (tmp_path / "raw").rename(tmp_path / "extract")
    for path in tmp_path.glob("extract/*/*.aedat"):
        path.write_bytes(b"")
    assert len(load_train(events("cifar10_dvs", val_fraction=0.0))[0]) == 20


def test_a_conversion_without_recordings_is_compared_with_the_published_counts(
    events: Tiny, write_events: Write, tmp_path: Path
) -> None:
    write_events(tmp_path / "raw", "dvs128_gesture")
    convert("dvs128_gesture", tmp_path / "raw", tmp_path / "root" / "events_np")
    with pytest.warns(UserWarning, match="events_np holds 66 of the 1,464 published samples"):
        check_present(events("dvs128_gesture", data_dir=str(tmp_path / "root")))


def test_an_empty_class_of_a_conversion_names_the_conversion_as_the_remedy(
    events: Tiny, write_events: Write, tmp_path: Path
) -> None:
    write_events(tmp_path / "raw", "cifar10_dvs")
    convert("cifar10_dvs", tmp_path / "raw", tmp_path / "root" / "events_np")
    for path in (tmp_path / "root" / "events_np" / "cat").iterdir():
        path.unlink()
    folder = tmp_path / "root" / "events_np"
    expect_one_sentence(
        events("cifar10_dvs", data_dir=str(tmp_path / "root")),
        f"{folder}/cat holds no event files",
        f"remove {folder}, or make it again with SpikingJelly",
    )


@pytest.mark.parametrize("left", [None, "readme.txt", "._cifar10_cat_0.aedat"])
def test_an_empty_class_of_recordings_names_their_archive(
    events: Tiny, write_events: Write, tmp_path: Path, left: str | None
) -> None:
    write_events(tmp_path, "cifar10_dvs")
    for path in (tmp_path / "cat").iterdir():
        path.unlink()
    if left is not None:
        (tmp_path / "cat" / left).touch()
    expect_one_sentence(events("cifar10_dvs"), f"{tmp_path}/cat holds no event files", "unpack its archive there again")


def test_an_additional_empty_class_folder_is_named(events: Tiny, write_events: Write, tmp_path: Path) -> None:
    folder = write_events(tmp_path, "n_caltech101")
    (folder / "unused").mkdir()
    expect_one_sentence(events("n_caltech101"), "got 102); remove unused, which holds no files")


@pytest.mark.parametrize("place", ["frames_number_4_split_by_number", ".", "events_np"])
@pytest.mark.parametrize("name", ["cifar10_dvs", "dvs128_gesture"])
def test_frames_made_by_spikingjelly_are_said_not_to_be_read(
    events: Tiny, tmp_path: Path, name: str, place: str
) -> None:
    classes = (
        ["cat", "dog", "airplane", "automobile", "bird", "deer", "frog", "horse", "ship", "truck"]
        if name == "cifar10_dvs"
        else [f"{part}/{label}" for part in ("train", "test") for label in range(11)]
    )
    for folder in classes:
        (tmp_path / place / folder).mkdir(parents=True)
        for i in range(2):
            np.savez(tmp_path / place / folder / f"{i}.npz", frames=np.zeros((4, 2, 128, 128), np.uint8))
    expect_one_sentence(events(name), "holds frames made by SpikingJelly", "events_np")


@pytest.mark.parametrize("name", NAMES)
def test_hidden_files_are_skipped(events: Tiny, write_events: Write, tmp_path: Path, name: str) -> None:
    folder = write_events(tmp_path, name)
    expected = load_train(events(name))[0]
    for path in [path for path in folder.rglob("*") if path.suffix in (".aedat", ".bin")]:
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "x.aedat").touch()
    assert torch.equal(load_train(events(name))[0].images, expected.images)


def test_hidden_recordings_alone_are_no_data_set(events: Tiny, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.aedat").touch()
    expect_one_sentence(events("cifar10_dvs"), f"{tmp_path} lacks airplane.zip")


def test_other_files_among_the_recordings_are_counted(events: Tiny, write_events: Write, tmp_path: Path) -> None:
    write_events(tmp_path, "cifar10_dvs")
    for name in ("cat/a.txt", "dog/b.txt", "dog/c.aedat4", "dog/.d"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=rf"{tmp_path}: files passed over: 3 \(\.aedat4 1, \.txt 2\), as"):
        check_present(events("cifar10_dvs"))


def test_copies_of_a_recording_on_both_sides_of_the_validation_split_are_reported(
    events: Tiny, write_events: Write, tmp_path: Path
) -> None:
    write_events(tmp_path, "cifar10_dvs", count=5)
    for path in list(tmp_path.glob("*/*.aedat")):
        shutil.copy(path, path.with_stem(f"{path.stem} copy"))
    with pytest.warns(UserWarning, match=r"\d+ of 40 validation samples are in the training part too"):
        load_train(events("cifar10_dvs", val_fraction=0.5))


@pytest.mark.parametrize("name", [*NAMES, "imagenet", "imagefolder", "cifar10", "cifar100"])
def test_the_command_ends_with_4_and_one_sentence_if_data_is_missing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainers.run import main

    path = tmp_path / "train.yml"
    path.write_text(
        f"model: spikformer_cifar\ndataset: {name}\nepochs: 1\n{'num_classes: 3' * (name == 'imagefolder')}\n"
    )
    assert main(["--config", str(path), "--set", f"data_dir={tmp_path}/none", "--set", f"output={tmp_path}/runs"]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: {tmp_path}/none")
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------------------- N-MNIST and HARDVS


def write_n_mnist(root: Path, event_bytes: Any, random_events: Any) -> None:
    for part, digit, i in itertools.product(("Train", "Test"), range(10), range(2)):
        folder = root / part / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        seed = 100 * (part == "Test") + 2 * digit + i
        (folder / f"{seed:05}.bin").write_bytes(event_bytes["atis"](random_events(seed, 34, 34)))


def write_hardvs(root: Path, event_bytes: Any, random_events: Any) -> None:
    for part in ("train", "val", "test"):
        names = [f"action_{label:03}/dvSave-{part}_{i}" for label in (1, 2, 300) for i in range(2)]
        (root / f"{part}_label.txt").write_text("".join(f"{name} {int(name[7:10]) - 1}\n" for name in names))
        for seed, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            np.savez(root / f"{name}.npz", **random_events(seed, 346, 260))


MORE = {
    "n_mnist": (write_n_mnist, [digit for digit in range(10) for _ in range(2)]),
    "hardvs": (write_hardvs, [0, 0, 1, 1, 299, 299]),
}


@pytest.mark.parametrize("name", MORE)
def test_official_parts_of_more_event_sets_load_and_train(
    events: Tiny, event_bytes: Any, random_events: Any, tmp_path: Path, name: str
) -> None:
    write, labels = MORE[name]
    write(tmp_path, event_bytes, random_events)
    config = events(name, val_fraction=0.5, batch_size=2, data_dir=str(tmp_path))
    check_present(config)
    parts, received = load_train(config), []
    assert sorted(label for part in parts for label in part.labels.tolist()) == labels
    assert load_test(config).labels.tolist() == labels
    assert int(load_test(config).images.sum()) == 300 * len(labels)
    train(config, received.append)
    assert received[-1].metrics["loss"] > 0
