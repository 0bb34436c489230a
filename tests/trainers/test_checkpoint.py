from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import checkpoint

STATE = {"model": {"weight": torch.arange(1000.0)}, "optimizer": {"step": 3}, "names": ["a"], "report": {"loss": 0.1}}


class Hostile:
    """An object that runs code when it is unpickled, which a checkpoint must not do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def saved(folder: Path, *epochs: int) -> list[Path]:
    return [checkpoint.save(folder, epoch, {**STATE, "epoch": epoch}) for epoch in epochs]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_state_loads_to_the_same_bits(tmp_path: Path) -> None:
    saved(tmp_path / "new" / "folder", 1)
    state = checkpoint.load_newest(tmp_path / "new" / "folder")
    assert state is not None
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])  # type: ignore[index]
    assert {key: state[key] for key in ("optimizer", "names", "report", "epoch")} == {
        "optimizer": {"step": 3},
        "names": ["a"],
        "report": {"loss": 0.1},
        "epoch": 1,
    }


def test_two_generations_are_stored_each_with_its_checksum(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4)
    assert files(tmp_path) == [f"epoch_000{i}.{kind}" for i in (3, 4) for kind in ("pt", "sha256")]


def test_the_newest_is_by_number_not_by_name(tmp_path: Path) -> None:
    saved(tmp_path, 9_998, 9_999, 10_000)
    assert [path.name for path in checkpoint.generations(tmp_path)] == ["epoch_10000.pt", "epoch_9999.pt"]
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["epoch"] == 10_000


def test_without_a_folder_or_checkpoints_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path) is None
    assert checkpoint.load_newest(tmp_path / "absent") is None


def _half_a_save(state: Any, file: Any) -> None:
    file.write(b"half")
    raise OSError("no space left on device")


def _no_replace(*args: Any) -> None:
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("target", "name", "broken"),
    [(torch, "save", _half_a_save), (os, "replace", _no_replace), (Path, "write_bytes", _no_replace)],
    ids=["while writing", "while renaming", "while writing the sum"],
)
def test_a_failure_while_saving_leaves_the_older_ones_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any, name: str, broken: Callable[..., None]
) -> None:
    saved(tmp_path, 1, 2)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, broken)
        with pytest.raises(OSError, match="no space left"):
            saved(tmp_path, 3)
    assert files(tmp_path) == before
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["epoch"] == 2


def test_a_full_disk_is_reported_with_the_file_and_the_free_space(tmp_path: Path) -> None:
    (tmp_path / "epoch_0001.pt").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device \(\d+\.\d MiB are free\).*epoch_0001\.pt"):
        checkpoint._save(STATE, tmp_path / "epoch_0001.pt")


def test_a_crash_between_the_sum_and_the_checkpoint_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)
    replace, calls = os.replace, []

    def once(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", once)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path, 2)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["epoch"] == 1


@pytest.mark.parametrize("moves", [1, 2])
def test_a_crash_while_the_best_is_replaced_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    path = checkpoint.save_best(tmp_path, {**STATE, "epoch": 1})
    replace, calls = os.replace, []

    def few(*args: Any) -> None:
        calls.append(args)
        if len(calls) > moves:
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", few)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save_best(tmp_path, {**STATE, "epoch": 2})
    assert checkpoint.load(path)["epoch"] == moves
    checkpoint.save_best(tmp_path, {**STATE, "epoch": 3})
    assert checkpoint.load(path)["epoch"] == 3
    assert _sum(path).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _sum(path: Path) -> Path:
    return path.with_suffix(".sha256")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "text": lambda path: path.write_text("not a checkpoint"),
    "HTML": lambda path: path.write_text("<html><body>404 Not Found</body></html>"),
    "a flipped bit": _flip,
    "no sum": lambda path: _sum(path).unlink(),
    "a wrong sum": lambda path: _sum(path).write_text("0" * 64),
    "an empty sum": lambda path: _sum(path).write_text(""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_older_generation_used(tmp_path: Path, damage: str) -> None:
    older, newer = saved(tmp_path, 1, 2)
    DAMAGES[damage](newer)
    with pytest.raises(ValueError, match=r"epoch_0002\.pt: damaged checkpoint"):
        checkpoint.load(newer)
    with pytest.warns(UserWarning, match=r"epoch_0002\.pt: damaged checkpoint .*; using the one before it"):
        state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["epoch"] == 1
    assert older.exists()


def test_nothing_is_loaded_if_every_checkpoint_is_damaged(tmp_path: Path) -> None:
    for path in saved(tmp_path, 1, 2):
        _flip(path)
    with pytest.warns(UserWarning, match="damaged checkpoint") as caught:
        assert checkpoint.load_newest(tmp_path) is None
    assert len(caught) == 2
    assert str(caught[1].message).endswith("there is none before it, so the training starts from scratch")


def test_a_checkpoint_that_holds_more_than_data_is_refused_even_with_the_right_sum(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"model": Hostile()})
    with pytest.raises(ValueError, match=r"damaged checkpoint .*[Ww]eights"):
        checkpoint.load(path)
