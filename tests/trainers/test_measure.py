"""The command `python -m trainers.measure`: released weights, checkpoints and exports on small data in true formats."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model, load_published
from models.parts.layers import Conv, Head
from trainers import measure
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.data import load_test
from trainers.train import measure_test, train

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "models" / "golden" / "spikformer_cifar.npz"
NAME = ["--model", "spikformer_cifar", "--set", "num_heads=4"]

pytestmark = pytest.mark.filterwarnings("ignore:cifar10. files in .* differ from the published ones")


def golden() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the keys and the state dict of the golden Spikformer."""
    with np.load(GOLDEN) as file:
        state = {key[2:]: torch.from_numpy(file[key]) for key in file.files if key.startswith("p/")}
        return json.loads(str(file["config"])), state


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, write_cifar: Callable[..., Path]) -> Path:
    """CIFAR-10 with 20 test images."""
    return write_cifar(tmp_path_factory.mktemp("data")).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder of all files that a measurement of the golden Spikformer writes."""
    folder = tmp_path_factory.mktemp("golden")
    torch.save({"state_dict": {f"module.{key}": value for key, value in golden()[1].items()}}, folder / "w.pth.tar")
    outputs = [f"--{kind}={folder}/out.{kind}" for kind in ("csv", "json")] + [f"--report={folder}/out.html"]
    arguments = [*NAME, f"--data-dir={data_dir}", "--set", f"output={folder}/runs", *outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert measure.main([str(folder / "w.pth.tar"), *arguments]) == 0
    return folder


def brute_force(data_dir: Path) -> dict[str, tuple[float, float, float]]:
    """Returns synops, macs and the published energy per image of each layer with weights, by their definitions."""
    keys, state = golden()
    config = TrainConfig.model_validate({**keys, "dataset": "cifar10", "data_dir": str(data_dir), "epochs": 1})
    model = create_model(config).eval()
    load_published(model, state)
    data, found = load_test(config), {}
    images, steps = len(data), config.step

    def count(name: str) -> Callable[..., None]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            (x,) = inputs
            dense = layer.weight[0].numel() * output[0].numel() / images
            bias = 0.0 if layer.bias is None else output[0].numel() / images
            is_head = isinstance(layer, Head)
            if is_head or layer.fed == "input":
                macs_published = (dense + bias) * (1 if is_head else steps)
                found[name] = 0.0, dense, 4.6e-9 * macs_published
                return
            ones = torch.ones_like(layer.weight)
            y = F.conv2d(x.flatten(0, 1), ones, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            is_binary = bool(((x == 0) | (x == 1)).all())
            operations = (dense + bias) * steps
            energy = 0.9e-9 * operations * float(x.mean()) if is_binary else 4.6e-9 * operations
            found[name] = float(y.sum(dtype=torch.float64)) / images, 0.0, energy

        return hook

    handles = [m.register_forward_hook(count(name)) for name, m in model.named_modules() if isinstance(m, Conv | Head)]
    with torch.no_grad():
        model.forward_steps(make_augment(config, torch.device("cpu")).plain(data.images))
    for handle in handles:
        handle.remove()
    return found


def test_every_layer_has_the_counts_and_both_energies_of_the_definitions(results: Path, data_dir: Path) -> None:
    layers = {row["name"]: row for row in json.loads((results / "out.json").read_text())["layers"]}
    expected = brute_force(data_dir)
    assert expected.keys() < layers.keys()
    for name, (synops, macs, published) in expected.items():
        row = layers[name]
        assert (row["synops"], row["macs"]) == (pytest.approx(synops), pytest.approx(macs)), name
        assert row["energy_mj"] == pytest.approx(4.6e-9 * macs + 0.9e-9 * synops), name
        assert row["energy_published_mj"] == pytest.approx(published, rel=1e-5), name


def test_the_layers_add_up_to_the_metrics(results: Path) -> None:
    found = json.loads((results / "out.json").read_text())
    for key in ("spikes", "synops", "macs", "energy_mj", "energy_published_mj"):
        assert sum(row.get(key, 0.0) for row in found["layers"]) == pytest.approx(found["metrics"][key]), key
    assert [row["read_step"] for row in found["read_outs"]] == [1, 2, 3, 4]
    assert found["read_outs"][-1]["energy_mj"] == found["metrics"]["energy_mj"]


def test_the_metrics_are_those_of_an_evaluation_under_each_rule(results: Path, data_dir: Path) -> None:
    keys, state = golden()
    found = json.loads((results / "out.json").read_text())["metrics"]
    for rule, name in (("default", "energy_mj"), ("published", "energy_published_mj")):
        base = {"dataset": "cifar10", "data_dir": str(data_dir), "epochs": 1, "energy_rule": rule}
        config = TrainConfig.model_validate({**keys, **base})
        model = create_model(config)
        load_published(model, state)
        metrics = measure_test(model, config).metrics
        assert metrics["energy_mj"] == pytest.approx(found[name])
        assert {key: metrics[key] for key in ("accuracy", "spikes", "synops", "macs")} == {
            key: pytest.approx(found[key]) for key in ("accuracy", "spikes", "synops", "macs")
        }


def test_the_csv_has_a_row_a_layer_and_the_total(results: Path) -> None:
    with (results / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = json.loads((results / "out.json").read_text())
    assert [row["name"] for row in rows] == [*(row["name"] for row in found["layers"]), "total"]
    assert float(rows[-1]["energy_published_mj"]) == found["metrics"]["energy_published_mj"]
    assert (rows[0]["spike_rate"], rows[1]["synops"]) == ("", "")


def test_the_report_is_one_file_that_loads_nothing(results: Path) -> None:
    text = (results / "out.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "blocks.1.mlp.fc2.conv" in text
    assert not any(word in text for word in ("http", "src=", "<script", "@import"))


def test_the_read_of_the_test_set_is_logged(results: Path) -> None:
    (entry,) = [json.loads(line) for line in (results / "runs" / "test-reads.jsonl").read_text().splitlines()]
    assert (entry["dataset"], entry["images"]) == ("cifar10", 20)
    assert entry["weights"] == str(results / "w.pth.tar")


def test_a_part_of_the_test_images_can_be_measured(
    results: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*NAME, f"--data-dir={data_dir}", f"--set=output={results}/runs2", "--images", "10"]
    assert measure.main([str(results / "w.pth.tar"), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("config      recipe spikformer/cifar10_2-384 (heads, steps and neurons are its)")
    assert lines[1].endswith("of the weights: embed_dim 64, depths 2, num_classes 10")
    assert "cifar10, 10 of 20 test images" in lines[3]
    assert lines[-1].startswith("total ")


def test_a_run_s_checkpoint_is_measured_by_its_own_train_file(
    tmp_path: Path, tiny_keys: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.model_validate({**tiny_keys, "epochs": 1, "output": str(tmp_path / "runs")})
    model = train(config, folder=tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "train.yml").write_text(json.dumps(config.dump()))
    assert measure.main([str(tmp_path / "run" / "checkpoints" / "epoch_0001.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"config      {tmp_path}/run/train.yml"
    assert f"accuracy    {measure_test(model, config).metrics['accuracy']:.4g} %" in lines


def test_without_the_data_set_the_command_says_how_to_get_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure.main([str(results / "w.pth.tar"), *NAME, f"--data-dir={tmp_path}"]) == 4
    text = capsys.readouterr().err
    assert f"python -m trainers.fetch cifar10 --data-dir {tmp_path}" in text
    assert text.endswith("spikes and energy depend on the images, so they are measured on the test set only\n")


def test_heads_that_no_weights_show_are_asked_for(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main([str(results / "w.pth.tar"), "--model", "spikformer_cifar"]) == 2
    assert "is unknown: give --set num_heads=N" in capsys.readouterr().err


def test_weights_of_another_model_are_refused_with_their_names(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure.main([str(results / "w.pth.tar"), "--model", "qkformer_cifar"]) == 2
    assert "--model qkformer_cifar: the weights have other names than this model's" in capsys.readouterr().err
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    assert measure.main([str(tmp_path / "linear.pth"), "--config", "spikformer/digits"]) == 2
    assert "linear.pth: does not fit spikformer_cifar (" in capsys.readouterr().err


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no file": (["none.pth", "--model", "sdt_cifar"], "none.pth: no such file\n"),
    "no model": (["none.pth"], "give --model NAME, or --config FILE: there is no train file beside the weights\n"),
    "unknown model": (["none.pth", "--model", "sdt_cifr"], "Did you mean sdt_cifar?\n"),
    "no image": (["none.pth", "--model", "sdt_cifar", "--images", "0"], "--images must be >= 1 (got 0)\n"),
}


@pytest.mark.parametrize(("arguments", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_user_error_is_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert measure.main(arguments) == 2
    text = capsys.readouterr().err
    assert text.endswith(says)
    assert len(text.splitlines()) == 1


def test_user_errors_are_found_without_torch() -> None:
    code = "import sys; from trainers.measure import main; main(['none.pth', '--model', 'sdt_cifar']); "
    done = subprocess.run([sys.executable, "-c", code + "print('torch' in sys.modules)"], cwd=ROOT,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "False\n"
