from __future__ import annotations

from pathlib import Path

import pytest

from results.export import main


@pytest.fixture
def checkpoints(study_folder: Path) -> Path:
    """Writes two generations of a checkpoint of trial 0, as the trainer does."""
    import torch

    from trainers import checkpoint

    folder = study_folder / "checkpoints" / "t0000"
    for epoch in (8, 9):
        state = {"model": {"head.weight": torch.full((2, 3), float(epoch)), "n": torch.tensor(epoch)}, "optimizer": {}}
        checkpoint.save(folder, epoch, state)
    return folder


def test_the_weights_are_written_beside_the_train_file(study_folder: Path, checkpoints: Path) -> None:
    from safetensors.torch import load_file

    assert main([str(study_folder), "--pick", "trial:0", "--checkpoint"]) == 0
    path = study_folder / "configs" / "spikformer" / "cifar10.safetensors"
    assert path.with_suffix(".yml").is_file()
    found = load_file(path)
    assert found["head.weight"].tolist() == [[9.0] * 3] * 2
    assert int(found["n"]) == 9


def test_the_same_checkpoint_gives_the_same_bytes(study_folder: Path, checkpoints: Path) -> None:
    path, written = study_folder / "configs" / "spikformer" / "cifar10.safetensors", []
    for _ in range(2):
        assert main([str(study_folder), "--pick", "trial:0", "--checkpoint", "--force"]) == 0
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_a_deleted_checkpoint_is_reported_and_nothing_is_written(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study_folder), "--pick", "trial:0", "--checkpoint"]) == 2
    assert "no checkpoint of trial 0 any more" in capsys.readouterr().err
    assert not (study_folder / "configs").exists()


def test_a_damaged_checkpoint_is_reported_and_nothing_is_written(
    study_folder: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoints / "epoch_0009.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main([str(study_folder), "--pick", "trial:0", "--checkpoint"]) == 2
    assert "damaged checkpoint (its SHA-256 does not match)" in capsys.readouterr().err
    assert not (study_folder / "configs").exists()


def test_existing_weights_are_not_replaced(
    study_folder: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_folder / "configs" / "spikformer" / "cifar10.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert main([str(study_folder), "--pick", "trial:0", "--checkpoint"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"


def test_a_crash_while_a_checkpoint_was_replaced_leaves_it_exportable(study_folder: Path, checkpoints: Path) -> None:
    sums = checkpoints / "epoch_0009.sha256"
    sums.write_text(f"{'0' * 64}\n{sums.read_text()}")  # the new checkpoint's and the old one's, until both are written
    assert main([str(study_folder), "--pick", "trial:0", "--checkpoint"]) == 0
