"""The measured export: accuracies on the validation part, the executor's counts, and what is missing."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from config import cli
from models import create_model
from models.chip import command, dense
from models.chip.executor import execute
from models.chip.lowering import frames
from models.chip.quantize import Precision, quantize
from trainers.config import load
from trainers.measurement import chip

KEYS = "model: spikformer_cifar\ndataset: digits\nstep: 2\npatch_size: 2\nembed_dim: 16\nnum_heads: 2\ndepths: 1\n"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of an untrained network that fires, with the train file beside them."""
    (tmp_path / "net.yml").write_text(f"{KEYS}epochs: 1\nthreshold: 0.3\n")
    config = load(tmp_path / "net.yml")
    torch.manual_seed(0)
    model = create_model(config)
    with torch.no_grad():
        for x, _ in chip.inputs(config, chip.validation(config, 64)):
            model(x)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_the_report_has_accuracies_and_counts(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = weights.parent / "out"
    assert chip.main([str(weights), "--images", "40", "--executed", "2", "--out", str(out)]) == cli.OK
    shown = capsys.readouterr().out
    assert "validation images: 40 of digits" in shown
    assert re.search(r"executor in float64: 0 spikes of [1-9][\d,]* and 0 operations of [1-9][\d,]* differ", shown)
    with (out / "report.csv").open() as file:
        rows = {row["layer"]: row for row in csv.DictReader(file)}
    assert float(rows["stem.chain.neurons.0"]["spikes"]) > 0.0
    assert 0.0 <= float(rows["stem.chain.neurons.0"]["drift"]) < 20.0
    assert float(rows["stem.chain.convs.1"]["synops"]) > 0.0
    assert rows["stem.chain.convs.1"]["saturated"] == "0"
    assert "points lost" in (out / "report.md").read_text()


def test_the_accuracy_in_integers_is_that_of_the_executor(weights: Path) -> None:
    path = weights.with_suffix(".yml")
    loaded, config = command.load(weights, path), load(path)
    integer = quantize(command.lower_loaded(loaded), Precision(), loaded.input_range)
    data = chip.validation(config, 12)
    (x, labels), *_ = chip.inputs(config, data)
    inputs = np.stack([frames(loaded.model, image) for image in x])
    logits = np.stack([execute(integer, image).readout for image in inputs])
    np.testing.assert_allclose(dense.run(integer, inputs).logits, logits, rtol=1e-12, atol=1e-12)
    found = chip.accuracy(loaded.model, integer, config, data)
    assert found.images == 12
    assert found.integer == pytest.approx(100.0 * (logits.argmax(1) == labels.numpy()).mean())


def test_nothing_is_measured_without_images(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chip.main([str(weights), "--images", "0", "--out", str(weights.parent / "out")]) == cli.OK
    assert "accuracy" not in capsys.readouterr().out


def test_missing_data_are_a_warning(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with weights.with_suffix(".yml").open("a") as file:
        file.write("val_fraction: 0.0\n")
    assert chip.main([str(weights), "--out", str(weights.parent / "out")]) == cli.OK
    assert "warning: not measured: digits: there is no validation part" in capsys.readouterr().err
    assert (weights.parent / "out" / "net.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--images", "-1"], "--images must be >= 0 (got -1)"), (["--bits", "20"], "bits must be 4..16 (got 20)")],
)
def test_refusals_are_of_the_user(
    options: list[str], message: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chip.main([str(weights), "--out", str(weights.parent / "out"), *options]) == cli.USER
    assert message in capsys.readouterr().err
