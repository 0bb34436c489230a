"""The command: files of a checkpoint, and refusals in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from config import cli
from config.errors import ConfigError
from models import create_model
from models.chip import command, files
from models.train_file import file_beside

KEYS = "model: {}\ndataset: digits\nstep: 2\npatch_size: 2\nembed_dim: 16\nnum_heads: 2\ndepths: 1\nepochs: 1\n"


def saved(folder: Path, model: str = "spikformer_cifar", more: str = "") -> Path:
    """Writes a train file and weights, and returns the path of the weights."""
    (folder / "net.yml").write_text(KEYS.format(model) + more)
    torch.manual_seed(0)
    config = command.read_model(command.strict_yaml.read(folder / "net.yml"))
    save_file(create_model(config).state_dict(), folder / "net.safetensors")
    assert file_beside(folder / "net.safetensors") == folder / "net.yml"
    return folder / "net.safetensors"


def test_files_are_written_beside_each_other_and_are_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = saved(tmp_path)
    for name in ("one", "two"):
        assert command.main([str(weights), "--bits", "6", "--out", str(tmp_path / name)]) == cli.OK
    shown = capsys.readouterr().out
    for path in (tmp_path / "one").iterdir():
        assert f"wrote {path}" in shown
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert {"net.json", "net.safetensors", "report.csv", "report.md"} <= {p.name for p in (tmp_path / "one").iterdir()}
    assert files.read(tmp_path / "one").meta["bits"] == 6


@pytest.mark.parametrize(
    ("model", "more", "options", "message"),
    [
        ("spikformer_cifar", "", ["--bits", "2"], "bits must be 4..16 (got 2)"),
        ("spikformer_cifar", "node_type: PSN\n", [], "stem.chain.neurons.0"),
        ("spikformer_cifar", "", ["--config", "none.yml"], "none.yml"),
    ],
)
def test_refusals_are_one_sentence(
    model: str, more: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = saved(tmp_path, model, more)
    assert command.main([str(weights), "--out", str(tmp_path / "out"), *options]) != cli.OK
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_weights_without_a_train_file_need_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.pt: give --config FILE"):
        command.config_path(tmp_path / "a.pt", None)


def test_weights_of_another_net_are_refused_with_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = saved(tmp_path)
    (tmp_path / "other.yml").write_text(KEYS.format("sdt_cifar"))
    assert command.main([str(weights), "--config", str(tmp_path / "other.yml")]) == cli.USER
    shown = capsys.readouterr().err
    assert "net.safetensors: does not fit" in shown
    assert "other.yml" in shown


def test_the_range_of_pixels_follows_from_their_normalisation() -> None:
    assert command.input_range({"mean": [0.5, 0.2], "std": [0.5, 0.1]}, "mine") == (-2.0, 8.0)
    low, high = command.input_range({}, "digits")
    assert low == pytest.approx(-0.305 / 0.376)
    assert high == pytest.approx(0.695 / 0.376)
    assert command.input_range({}, "mine") == (0.0, 1.0)
