"""ES-ImageNet from small files in the true format: frames, lists, batches from disk, training, damaged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from config.errors import ConfigError
from trainers.config import TrainConfig
from trainers.data.events import es_imagenet
from trainers.data.events.es_imagenet import frames
from trainers.data.events.stream import EventFiles
from trainers.data.sources import DataError, check_present, load_test, load_train
from trainers.train import measure_test, train

Tiny = Callable[..., TrainConfig]
LABELS = {"train": [0, 0, 0, 0, 1, 1, 1, 1, 999, 999, 999, 999], "val": [0, 1, 999]}
SIZE = (200, 150)
"""Height and width of the events."""


def moves(seed: int, count: int = 400) -> np.ndarray[Any, Any]:
    """Returns random events (row, column, move)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(low, high, count) for low, high in ((0, SIZE[0]), (0, SIZE[1]), (1, 9))], 1)


@pytest.fixture
def es(tiny: Tiny, tmp_path: Path) -> Tiny:
    """Writes the published folder, and makes a tiny config that reads it."""
    root = tmp_path / "ES-imagenet-0.18"
    for part, labels in LABELS.items():
        lines = []
        for i, label in enumerate(labels):
            name = f"class{label}/n{i:08}_{i}.npz" if part == "train" else f"ILSVRC2012_val_{i + 1:08}.npz"
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            seed = 2 * i + 1000 * (part == "val")
            np.savez(root / part / name, pos=moves(seed).astype(np.uint8), neg=moves(seed + 1).astype(np.uint8))
            lines.append(f"{name} {label} {SIZE[0]} {SIZE[1]}\n")
        (root / f"{part}label.txt").write_text("".join(lines))

    def make(**keys: Any) -> TrainConfig:
        sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 8, "num_heads": 1, "batch_size": 4, "epochs": 1}
        data = {"dataset": "es_imagenet", "data_dir": str(tmp_path), "in_channels": 2, "num_classes": 1000}
        return tiny(**{**sizes, **data, "val_fraction": 0.0, "workers": 0, **keys})

    return make


def batches(data: EventFiles, size: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    return list(data.shuffled(size))


def test_an_epoch_trains_from_small_files_in_the_true_format(es: Tiny) -> None:
    config, received = es(val_fraction=0.25, hflip=0.5), []
    check_present(config)
    parts = load_train(config)
    assert [len(part) for part in parts] == [9, 3]
    assert load_test(config).labels.tolist() == LABELS["val"]
    model = train(config, received.append)
    assert received[-1].metrics["loss"] > 0
    assert measure_test(model, config).metrics["spikes"] >= 0


def test_frames_are_those_of_the_benchmark() -> None:
    neg, pos = moves(0), moves(1)
    expected = torch.zeros(8, 2, 256, 256, dtype=torch.int16)
    for channel, rows in enumerate((neg, pos)):
        for row, column, move in rows.tolist():
            expected[move - 1, channel, row + (254 - SIZE[0]) // 2, column + (254 - SIZE[1]) // 2] = 1
    assert torch.equal(frames([neg, pos], SIZE, 8, 224), expected[:, :, 16:240, 16:240])


def test_events_are_those_that_spikingjelly_reads(tmp_path: Path) -> None:
    from spikingjelly.datasets.es_imagenet import _load_events

    neg, pos = moves(0), moves(1)
    np.savez(tmp_path / "a.npz", pos=pos, neg=neg)
    theirs, whole = _load_events(tmp_path / "a.npz"), torch.zeros(8, 2, 256, 256, dtype=torch.int16)
    whole[tuple(torch.from_numpy(theirs[key].astype(np.int64)) - int(key == "t") for key in "tpyx")] = 1
    assert torch.equal(frames([neg, pos], (254, 254), 8, 224), whole[:, :, 16:240, 16:240])


def test_fewer_steps_and_smaller_frames_sum_the_moves_and_the_pixels() -> None:
    events = [moves(0), moves(1)]
    full = frames(events, SIZE, 8, 224)
    assert torch.equal(frames(events, SIZE, 2, 224), full.view(2, 4, 2, 224, 224).sum(1, dtype=torch.int16))
    small = full.view(8, 2, 32, 7, 32, 7).sum((3, 5), dtype=torch.int16)
    assert torch.equal(frames(events, SIZE, 8, 32), small)
    assert int(small.sum()) == int(full.sum()) > 0


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ((300, 0, 1), "outside of 256 x 256"),
        ((0, -200, 1), "outside of 256 x 256"),
        ((0, 0, 0), "moves other than 1 to 8"),
        ((0, 0, 9), "moves other than 1 to 8"),
        (None, "no events"),
    ],
)
def test_events_that_cannot_be_are_refused(changed: tuple[int, int, int] | None, text: str) -> None:
    rows = np.array([] if changed is None else [changed], dtype=np.int64).reshape(-1, 3)
    with pytest.raises(ValueError, match=text):
        frames([rows, rows], SIZE, 8, 32)


def test_batches_follow_torchs_generator_and_not_the_number_of_workers(es: Tiny) -> None:
    data = load_train(es())[0]
    assert isinstance(data, EventFiles)
    first, again, other = batches(data, 5), batches(data, 5), batches(data, 5, seed=1)
    assert [len(labels) for _, labels in first] == [5, 5]
    in_worker = batches(replace(data, config=es(workers=1)), 5)
    for one, two, three in zip(first, again, in_worker, strict=True):
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(one, two, three, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    counts = torch.cat([counts for counts, _ in data.in_order(5)])
    assert counts.shape == (12, 2, 2, 32, 32)
    assert torch.equal(counts[7], data.read(data.files[7], SIZE, data.config))
    assert torch.cat([labels for _, labels in data.in_order(5)]).tolist() == LABELS["train"]


def test_rows_of_other_processes_are_not_read(es: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    data, taken = load_train(es())[0], list[Path]()
    assert isinstance(data, EventFiles)

    def read(path: Path, size: tuple[int, int], config: TrainConfig) -> Tensor:
        taken.append(path)
        return es_imagenet.read(path, size, config)

    whole = batches(data, 4)
    own = batches(replace(data, rows=frozenset({0, 3}), read=read), 4)
    assert len(taken) == 2 * len(whole)
    for (counts, labels), (ours, our_labels) in zip(whole, own, strict=True):
        assert torch.equal(labels, our_labels)
        assert torch.equal(counts[[0, 3]], ours[[0, 3]])
        assert not ours[[1, 2]].any()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_reported_by_its_name(es: Tiny, tmp_path: Path, workers: int) -> None:
    data = load_train(es(workers=workers))[0]
    assert isinstance(data, EventFiles)
    data.files[3].write_bytes(b"<html>404</html>")
    for read in (lambda: list(data.in_order(4)), lambda: load_train(es())):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(f"es_imagenet: {data.files[3]} cannot be read (")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("class0/a.npz 0\n", "trainlabel.txt:1: must hold a file, its class, a height and a width"),
        ("class0/a.npz x 1 1\n", "trainlabel.txt:1: must hold"),
        ("class0/a.npz 1000 1 1\n", "trainlabel.txt:1: the class must be 0 to 999"),
        ("\n", "trainlabel.txt lists no recordings"),
    ],
)
def test_a_damaged_list_is_reported(es: Tiny, tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "ES-imagenet-0.18" / "trainlabel.txt").write_text(line)
    with pytest.raises(DataError, match=text):
        load_train(es())


@pytest.mark.parametrize("need", ["trainlabel.txt", "vallabel.txt", "train", "val"])
def test_a_missing_file_is_named_with_the_remedy(es: Tiny, tmp_path: Path, need: str) -> None:
    path = tmp_path / "ES-imagenet-0.18" / need
    path.rename(path.with_name("moved"))
    with pytest.raises(DataError, match=rf"lacks {need}; get them with `python -m trainers\.fetch es_imagenet "):
        check_present(es())


def test_spikingjellys_folder_and_the_inner_one_are_found(es: Tiny, tmp_path: Path) -> None:
    check_present(es(data_dir=str(tmp_path / "ES-imagenet-0.18")))
    (tmp_path / "extract").mkdir()
    (tmp_path / "ES-imagenet-0.18").rename(tmp_path / "extract" / "ES-imagenet-0.18")
    check_present(es())


def test_more_steps_than_moves_are_refused(es: Tiny) -> None:
    with pytest.raises((ConfigError, ValueError), match=r"step must be at most the 8 moves of es_imagenet \(got 9\)"):
        es(step=9, read_step=9)
