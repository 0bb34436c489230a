"""Exit points of trainings on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from config.errors import ConfigError
from models import create_model
from models.exits.rules import exit_steps, read_outs, rule_of
from trainers import checkpoint, loop
from trainers.augment.images import distorted, make_augment
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import load_train
from trainers.data.split import stratified
from trainers.epoch_metrics import EpochMetrics
from trainers.exits.points import plan, plan_for_test
from trainers.exits.settings import ExitSettings
from trainers.train import train

KEYS = ("epochs=2", "step=3", "embed_dim=16", "num_heads=2", "batch_size=256", "train_images=256", "val_fraction=0.3")


def config_of(*keys: str) -> TrainConfig:
    return load(recipe_path("spikformer/digits"), overrides=[*KEYS, *keys])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpochMetrics]]:
    """The folder of a training with exits, and its epochs."""
    folder, epochs = tmp_path_factory.mktemp("exits"), []
    train(config_of("exit_rule=confidence"), epochs.append, folder, exits=ExitSettings(points=6))
    return folder, epochs


def test_the_last_epoch_has_all_points_and_earlier_ones_that_which_keeps_the_accuracy(trained: Any) -> None:
    first, last = trained[1]
    assert [row["exit"] for row in first.exits] in ([], [1])
    assert len(last.exits) >= 2
    assert {row["exit_rule"] for row in last.exits} == {"confidence"}


def test_points_are_measured_on_the_half_that_did_not_calibrate_them(trained: Any) -> None:
    folder, epochs = trained
    config = config_of("exit_rule=confidence")
    model = create_model(config).eval()
    model.load_state_dict(checkpoint.load(checkpoint.generations(folder)[0])["model"])
    data = distorted(load_train(config)[1], config, config.split_seed)
    with torch.no_grad():
        means = read_outs(model.forward_steps(make_augment(config, torch.device("cpu")).plain(data.images)))
    halves = torch.zeros(len(data), dtype=torch.bool)
    halves[torch.from_numpy(stratified(data.labels.numpy(), 0.5, config.split_seed))] = True
    for row in epochs[-1].exits:
        steps = exit_steps(rule_of("confidence").certainty(means), row["exit_threshold"])
        right = means[steps - 1, torch.arange(len(data))].argmax(1) == data.labels
        for half, accuracy, mean in (
            (~halves, "accuracy", "steps"),
            (halves, "calibrated_accuracy", "calibrated_steps"),
        ):
            assert row[accuracy] == pytest.approx(100 * float(right[half].double().mean()))
            assert row[mean] == pytest.approx(float(steps[half].double().mean()))
        assert (row["images"], row["calibration_images"]) == (int((~halves).sum()), int(halves.sum()))


def test_the_checkpoint_holds_the_points(trained: Any) -> None:
    folder, epochs = trained
    assert checkpoint.load_exits(checkpoint.generations(folder)[0]) == epochs[-1].exits
    assert checkpoint.load_exits(folder / "weights.safetensors") == []


def test_a_config_with_a_threshold_has_the_metrics_of_that_point(trained: Any) -> None:
    folder, epochs = trained
    row = epochs[-1].exits[-1]
    config = config_of("exit_rule=confidence", f"exit_threshold={row['exit_threshold']!r}")
    model = create_model(config)
    model.load_state_dict(checkpoint.load(checkpoint.generations(folder)[0])["model"])
    data = distorted(load_train(config)[1], config, config.split_seed)
    found = loop.evaluate(
        model, data, make_augment(config, torch.device("cpu")), config, plan(config, ExitSettings())
    ).metrics
    assert {name: found[name] for name in ("accuracy", "steps", "synops", "macs")} == {
        name: row[name] for name in ("accuracy", "steps", "synops", "macs")
    }


def test_the_test_set_gets_the_thresholds_of_the_training_and_calibrates_none(trained: Any) -> None:
    rows = trained[1][-1].exits
    found = plan_for_test(config_of("exit_rule=confidence"), rows)
    assert found is not None
    assert found.split_seed is None
    assert found.thresholds == {row["exit"]: row["exit_threshold"] for row in rows}


def test_trials_are_compared_by_the_costs_of_the_point_that_keeps_the_accuracy() -> None:
    plain = {"accuracy": 90.0, "synops": 100.0, "steps": 4.0}
    rows = [{"exit": 2, "synops": 10.0}, {"exit": 1, "accuracy": 88.0, "synops": 60.0, "steps": 2.5}]
    report = EpochMetrics(1, plain, [{"read_step": 4, **plain}], [], rows)
    assert report.at_step == {"accuracy": 90.0, "synops": 60.0, "steps": 2.5}
    assert EpochMetrics(1, plain, [{"read_step": 4, **plain}], []).at_step == plain


@pytest.mark.parametrize("keys", [(), ("exit_rule=confidence", "step=1")], ids=str)
def test_no_points_without_a_rule_or_with_one_step(keys: tuple[str, ...]) -> None:
    assert plan(config_of(*keys), ExitSettings()) is None


def test_no_points_where_no_image_can_exit() -> None:
    config = config_of("exit_rule=confidence").model_copy(update={"node_type": "PSN"})
    assert plan(config, ExitSettings()) is None


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (("exit_threshold=0.9",), "exit_threshold needs an exit_rule"),
        (("exit_rule=confidence", "exit_threshold=0.9", "read_step=2"), "read_step must equal step"),
        (("exit_rule=confidence", "exit_threshold=[0.9]"), r"step - 1 of them \(got 1, step=3\)"),
        (("exit_rule=confidance",), "confidence"),
    ],
)
def test_wrong_exit_keys_are_refused(keys: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_of(*keys)


def test_a_rule_does_not_change_the_training(trained: Any) -> None:
    epochs: list[EpochMetrics] = []
    train(config_of(), epochs.append)
    names = ("accuracy", "loss", "synops", "spikes", "energy_mj")
    for plain, with_exits in zip(epochs, trained[1], strict=True):
        assert [plain.metrics[name] for name in names] == [with_exits.metrics[name] for name in names]
        assert plain.exits == []
