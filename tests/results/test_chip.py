"""Export of picked points to integers: the process that is started, and its failure."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from results import chip
from results.export import main


@pytest.fixture
def started(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of processes that are started; none runs. Trials 0 to 2 have a checkpoint."""
    for number in range(3):
        folder = study_folder / "checkpoints" / f"t{number:04d}"
        folder.mkdir(parents=True)
        (folder / "epoch_0003.pt").touch()
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_picked_checkpoint_is_exported_with_its_train_file(
    study_folder: Path, started: list[list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "chip"
    assert main([str(study_folder), "--pick", "trial:0", "--chip", str(out), "--bits", "6"]) == 0
    config = study_folder / "configs" / "spikformer" / "cifar10.yml"
    checkpoint = study_folder / "checkpoints" / "t0000" / "epoch_0003.pt"
    options = [str(checkpoint), "--config", str(config), "--out", str(out), "--bits", "6"]
    assert started == [[sys.executable, "-m", chip.MODULE, *options]]
    assert config.is_file()
    assert not config.with_suffix(".safetensors").exists()


def test_several_points_have_a_folder_each(study_folder: Path, started: list[list[str]], tmp_path: Path) -> None:
    assert main([str(study_folder), "--pick", "front", "--chip", str(tmp_path / "chip")]) == 0
    folders = {command[command.index("--out") + 1] for command in started}
    assert len(folders) == len(started) > 1
    assert all(Path(folder).parent == tmp_path / "chip" for folder in folders)


def test_an_integer_graph_is_not_replaced(
    study_folder: Path, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.json").touch()
    arguments = [str(study_folder), "--pick", "trial:0", "--chip", str(tmp_path)]
    assert main(arguments) == 2
    assert "net.json: exists already; give --force" in capsys.readouterr().err
    assert not started
    assert not (study_folder / "configs").exists()
    assert main([*arguments, "--force"]) == 0
    assert len(started) == 1


def test_the_command_exists() -> None:
    assert callable(importlib.import_module(chip.MODULE).main)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "4"], "--bits is of --chip DIR"),
        (["--chip", "out", "--two-file"], "--chip reads a single train file; leave out --two-file"),
    ],
)
def test_options_that_do_not_fit_together_write_nothing(
    options: list[str], message: str, study_folder: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study_folder), "--pick", "trial:0", *options]) == 2
    assert message in capsys.readouterr().err
    assert not started
    assert not (study_folder / "configs").exists()


def test_a_failed_export_has_the_code_of_its_process(
    study_folder: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, check: SimpleNamespace(returncode=4))
    assert main([str(study_folder), "--pick", "trial:0", "--chip", "out"]) == 4
    assert "to integers failed; its reason is above" in capsys.readouterr().err
