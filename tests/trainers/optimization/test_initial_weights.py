"""Trainings that start from the weights of a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from config.errors import ConfigError
from models import create_model, save_published
from trainers import checkpoint
from trainers.config import TrainConfig
from trainers.data import Split, load_train
from trainers.datasets import DataError
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.eligibility import shape
from trainers.fused.training import FusedJob, train_fused
from trainers.optimization.initial_weights import initial_weights_problem, load_initial_weights
from trainers.train import train

Tiny = Callable[..., TrainConfig]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, tiny_keys: dict[str, Any]) -> Path:
    """The last checkpoint of the tiny model after six epochs on more images, with another seed."""
    folder = tmp_path_factory.mktemp("pretrained")
    train(TrainConfig.model_validate({**tiny_keys, "seed": 0, "epochs": 6, "val_fraction": 0.2}), folder=folder)
    return checkpoint.generations(folder)[0]


def first_epoch(config: TrainConfig, folder: Path | None = None) -> EpochMetrics:
    """Returns the report of the first epoch."""
    reports: list[EpochMetrics] = []
    train(config, reports.append, folder)
    return reports[0]


def test_one_epoch_from_pretrained_weights_is_better_than_one_from_scratch(tiny: Tiny, pretrained: Path) -> None:
    scratch = first_epoch(tiny(epochs=1)).metrics["accuracy"]
    tuned = first_epoch(tiny(epochs=1, lr=0.002, initial_checkpoint=str(pretrained))).metrics["accuracy"]
    assert tuned > scratch + 15.0


@pytest.mark.parametrize("quant_bits", [None, 4])
def test_a_training_from_a_file_gives_the_same_bits_again(tiny: Tiny, pretrained: Path, quant_bits: int | None) -> None:
    config = tiny(epochs=1, initial_checkpoint=str(pretrained), quant_bits=quant_bits)
    one, other = (train(config).state_dict() for _ in range(2))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("quant_bits", [None, 4])
def test_a_resumed_training_does_not_read_the_file_again(
    tiny: Tiny, pretrained: Path, tmp_path: Path, quant_bits: int | None
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(checkpoint.load(pretrained)["model"], weights)
    config = tiny(epochs=2, initial_checkpoint=str(weights), quant_bits=quant_bits)
    whole = train(config).state_dict()

    class End(Exception):
        """Ends the training after its first epoch."""

    def end(metrics: EpochMetrics) -> None:
        raise End

    with pytest.raises(End):
        train(config, end, tmp_path / "run")
    weights.unlink()
    resumed = train(config, folder=tmp_path / "run").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_quantised_training_starts_near_the_accuracy_of_the_weights(tiny: Tiny, pretrained: Path) -> None:
    scratch = first_epoch(tiny(epochs=1, quant_bits=4)).metrics["accuracy"]
    tuned = first_epoch(tiny(epochs=1, lr=0.002, quant_bits=4, initial_checkpoint=str(pretrained))).metrics["accuracy"]
    assert tuned > scratch + 15.0
    assert initial_weights_problem(tiny(quant_bits=4, initial_checkpoint=str(pretrained))) is None


def test_a_fused_training_starts_each_member_from_its_own_file(tiny: Tiny, pretrained: Path) -> None:
    data, validation = load_train(tiny())
    assert isinstance(data, Split)
    assert isinstance(validation, Split)
    parts = Split(data.images[:100], data.labels[:100]), Split(validation.images[:200], validation.labels[:200])
    configs = [tiny(epochs=1), tiny(epochs=1, initial_checkpoint=str(pretrained))]
    assert shape(configs[0]) == shape(configs[1])
    fused: dict[Any, EpochMetrics] = {}

    def on_epochs(outcomes: dict[Any, Any]) -> tuple[()]:
        fused.update(outcomes)
        return ()

    train_fused({k: FusedJob(config) for k, config in enumerate(configs)}, on_epochs, parts)
    for k, config in enumerate(configs):
        reports: list[EpochMetrics] = []
        train(config, reports.append, parts=parts)
        assert fused[k].metrics["loss"] == pytest.approx(reports[0].metrics["loss"], rel=0.05)
    assert fused[1].metrics["accuracy"] > fused[0].metrics["accuracy"] + 15.0


def test_published_weights_of_other_classes_keep_all_but_the_classifier(tiny: Tiny, tmp_path: Path) -> None:
    other = create_model(tiny(num_classes=100))
    torch.save({"state_dict": save_published(other)}, tmp_path / "w.pth")
    config = tiny(initial_checkpoint=str(tmp_path / "w.pth"))
    torch.manual_seed(1)
    model = create_model(config)
    fresh = model.state_dict()["head.weight"].clone()
    with pytest.warns(UserWarning, match=r"w\.pth is of other classes; its classifier \(head\.weight, head\.bias\)"):
        load_initial_weights(model, config)
    assert torch.equal(model.state_dict()["head.weight"], fresh)
    assert torch.equal(
        model.state_dict()["blocks.0.mlp.fc1.bn.weight"], other.state_dict()["blocks.0.mlp.fc1.bn.weight"]
    )
    assert torch.equal(model.state_dict()["stem.chain.convs.0.weight"], other.state_dict()["stem.chain.convs.0.weight"])


def test_weights_of_other_sizes_are_refused_with_and_without_building_the_model(tiny: Tiny, pretrained: Path) -> None:
    config = tiny(embed_dim=32, initial_checkpoint=str(pretrained))
    says = r"do not fit: stem\.chain\.convs\.0\.weight is \[2, 1, 3, 3\] there and \[4, 1, 3, 3\] in the model"
    with pytest.raises(ConfigError, match=says):
        load_initial_weights(create_model(config), config)
    problem = initial_weights_problem(config)
    assert problem is not None
    assert "set the keys of its model" in problem
    assert initial_weights_problem(tiny(initial_checkpoint=str(pretrained))) is None
    assert initial_weights_problem(tiny(tau=1.5, num_classes=20, initial_checkpoint=str(pretrained))) is None
    assert initial_weights_problem(tiny()) is None


def test_a_file_that_a_worker_does_not_have_is_a_fault_of_the_environment(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(initial_checkpoint=str(tmp_path / "none.pt"))
    with pytest.raises(DataError, match=r"initial_checkpoint: no such file \(got .*none\.pt'"):
        load_initial_weights(create_model(config), config)
    assert initial_weights_problem(config) is None


@pytest.mark.parametrize("value", ["none", "", None])
def test_no_file_is_written_in_three_ways(tiny: Tiny, value: str | None) -> None:
    assert tiny(initial_checkpoint=value).initial_checkpoint is None


def test_the_command_refuses_a_missing_file_before_it_loads_torch(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("dataset: digits\nmodel: spikformer_cifar\nepochs: 1\ninitial_checkpoint: w.pt\n")
    code = (
        "import sys; from trainers.run import main; code = main(['--config', 'x.yml']); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"{code}; sys.exit(code)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n")
    text = f"no such file (got 'w.pt'; relative paths start at the working directory, {tmp_path})"
    assert done.stderr == f"x.yml: initial_checkpoint: {text}\n"
