from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from config.errors import ConfigError
from config.strict_yaml import parse
from models import create_model
from search.space import reader
from trainers import checkpoint, loop
from trainers.config import TrainConfig
from trainers.epoch_metrics import EpochMetrics
from trainers.optimization.weight_ema import WeightEMA
from trainers.train import Training, measure_test, train

Tiny = Callable[..., TrainConfig]
AVERAGED = {"model_ema": True, "model_ema_decay": 0.9}


def trained_for_an_epoch(config: TrainConfig, folder: Path | None = None) -> tuple[Training, list[dict[str, Tensor]]]:
    """Returns a training after its first epoch, before the evaluation, and the weights before and after each step."""
    training = Training(config, folder)
    training.start_epoch(0)
    weights = [copy.deepcopy(dict(training.learner.model.named_parameters()))]
    step = training.learner.optimizer.step

    def record(*arguments: Any) -> None:
        step(*arguments)
        weights.append(copy.deepcopy(dict(training.learner.model.named_parameters())))

    training.learner.optimizer.step = record  # type: ignore[method-assign]
    loop.train_epoch(training.learner, training.data, config)
    return training, weights


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9998])
def test_the_average_equals_a_computation_by_hand(decay: float, tiny: Tiny) -> None:
    training, weights = trained_for_an_epoch(tiny(model_ema=True, model_ema_decay=decay))
    expected = {name: weight.detach().double() for name, weight in weights[0].items()}
    for n, after in enumerate(weights[1:]):
        share = min(decay, (1 + n) / (10 + n))
        for name, weight in after.items():
            expected[name] = share * expected[name] + (1 - share) * weight.detach().double()
    assert len(weights) == 7
    for name, weight in training.model.named_parameters():
        torch.testing.assert_close(weight.detach().double(), expected[name], rtol=1e-5, atol=1e-7)


def test_the_decay_is_constant_in_the_end(tiny: Tiny) -> None:
    model = create_model(tiny())
    ema = WeightEMA(model, 0.5)
    ema.num_updates = 8  # (1 + 8) / (10 + 8)
    before = ema.model.head.bias.detach().clone()  # type: ignore[union-attr]
    model.head.bias.data += 1.0  # type: ignore[union-attr,operator]
    for expected in (0.5, 0.75):
        ema.update()
        torch.testing.assert_close(ema.model.head.bias.detach() - before, torch.full((10,), expected))  # type: ignore[union-attr]


def test_the_average_starts_from_the_initial_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    source = train(tiny(epochs=1), folder=tmp_path / "source")
    path = checkpoint.generations(tmp_path / "source")[0]
    training = Training(tiny(initial_checkpoint=str(path), **AVERAGED))
    training.resume(lambda metrics: None)
    for average, weight in zip(training.model.parameters(), source.parameters(), strict=True):
        assert torch.equal(average, weight)


def test_training_itself_does_not_change(tiny: Tiny) -> None:
    averaged, plain = (trained_for_an_epoch(tiny(**keys))[0].learner.model for keys in (AVERAGED, {}))
    for one, other in zip(averaged.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_average_is_measured_saved_and_returned(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(**AVERAGED)
    reports: list[EpochMetrics] = []
    model = train(config, reports.append, tmp_path)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    loaded = create_model(config)
    loaded.load_state_dict(state["model"])
    assert measure_test(loaded, config).metrics == measure_test(model, config).metrics
    training = Training(config, tmp_path)
    assert training.resume(lambda metrics: None) == config.epochs
    found = loop.evaluate(loaded, training.validation, training.learner.augment, config)
    assert found.metrics == {key: reports[-1].metrics[key] for key in found.metrics}
    assert any(not torch.equal(state["model"][name], state["ema"]["trained"][name]) for name in state["model"])


def test_batch_norm_is_re_estimated_for_the_average(tiny: Tiny) -> None:
    config = tiny(**AVERAGED)
    training, _ = trained_for_an_epoch(config)
    expected = copy.deepcopy(training.model)
    training.evaluate(0, {"images_per_s": 1.0, "loss": 1.0})
    loop.recalibrate(expected, training.calibration, training.learner.augment, config.batch_size)
    trained = dict(training.learner.model.named_buffers())
    for (name, buffer), other in zip(training.model.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, other), name
        assert not name.endswith("running_mean") or not torch.equal(buffer, trained[name]), name


def test_statistics_of_the_data_are_those_of_the_trained_model(tiny: Tiny) -> None:
    keys = {"model": "spikingresformer_cifar", "embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depths": [1, 1, 1]}
    config = tiny(**keys, **AVERAGED, img_size=16, in_channels=1, patch_size=4)
    training, _ = trained_for_an_epoch(config)
    assert training.learner.ema is not None
    training.learner.ema.copy_buffers()
    buffers = dict(training.learner.model.named_buffers())
    assert any(not name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in buffers)
    for name, buffer in training.model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_a_resumed_training_gives_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(epochs=3, **AVERAGED)

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, stop, tmp_path / "interrupted")
    train(config, folder=tmp_path / "interrupted")
    train(config, folder=tmp_path / "whole")
    resumed, whole = (checkpoint.load_newest(tmp_path / name) for name in ("interrupted", "whole"))
    assert resumed is not None
    assert whole is not None
    assert resumed["ema"]["num_updates"] == whole["ema"]["num_updates"] == 18
    for found, expected in ((resumed["model"], whole["model"]), (resumed["ema"]["trained"], whole["ema"]["trained"])):
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("keys", [AVERAGED, {}], ids=str)
def test_a_training_without_the_other_s_average_is_not_resumed(
    keys: dict[str, Any], tiny: Tiny, tmp_path: Path
) -> None:
    train(tiny(epochs=1, **keys), folder=tmp_path)
    with pytest.raises(ConfigError, match="its checkpoints are of another model_ema"):
        train(tiny(epochs=1, model_ema=not keys), folder=tmp_path)


def test_the_decay_is_searched_under_the_choice_that_has_it() -> None:
    text = """
study: s
base: spikformer/digits
objectives: {accuracy: maximize}
budget: {trials: 5, epochs: 4}
space:
  tet: {choice: [none, 0.0, 0.05]}
  model_ema:
    choice:
      false:
      true: {model_ema_decay: {uniform: [0.9, 0.999]}}
"""
    space = reader.read(parse(text, "x"))
    config = space.train_config({"tet": 0.05, "model_ema": True, "model_ema_decay": 0.95})
    assert (config.tet, config.model_ema, config.model_ema_decay) == (0.05, True, 0.95)
    config = space.train_config({"tet": None, "model_ema": False})
    assert (config.tet, config.model_ema) == (None, False)
