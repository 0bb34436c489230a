"""Trainings whose steps are graphs have the numbers of eager ones, on the CPU with recorded graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.recorded_graph import RecordedGraph, record_graphs
from trainers import loop
from trainers.config import TrainConfig
from trainers.optimization import gpu_step
from trainers.optimization.gpu_step import GraphedStep
from trainers.train import Training

Tiny = Callable[..., TrainConfig]
SETTINGS: dict[str, dict[str, Any]] = {
    "clipped and penalized": {"clip_grad": 0.5, "spike_penalty": 0.1},
    "mixed until the last epoch": {"mixup": 0.5, "smoothing": 0.1, "mixup_off_epoch": 2},
    "dropout": {"attn_drop": 0.1, "mlp_drop": 0.2},
    "averaged weights": {"model_ema": True},
    "loss of each step": {"tet": 0.05},
    "adam and learned gains": {"opt": "adam", "node_type": "KLIFNode"},
    "running firing rates": {"attn_layer": "DSSA"},
}


@pytest.fixture(autouse=True)
def _recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    record_graphs(monkeypatch)
    monkeypatch.setattr(gpu_step, "MIN_STEPS", 5)


def train(config: TrainConfig, *, has_graphs: bool) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Returns the metrics of each epoch and the weights, of a training that is set up as on a GPU."""
    training = Training(config)
    learner, found = training.learner, []
    for group in learner.optimizer.param_groups:
        group["fused"] = True
    training._set_up_gpu(learner.model)
    assert learner.graph is not None
    learner.graph.is_worth_it = True
    if not has_graphs:
        learner.graph = None
    for epoch in range(config.epochs):
        training.start_epoch(epoch)
        speed = loop.train_epoch(learner, training.data, config, None, training.probe.step)
        metrics = training.evaluate(epoch, {**speed, "images_per_s": 0.0}).metrics
        found.append({"training_loss": speed["loss"], **metrics, "peak_mem_gib": 0.0})
    return found, {**learner.model.state_dict(), **{f"measured.{k}": v for k, v in training.model.state_dict().items()}}


@pytest.mark.parametrize("keys", SETTINGS.values(), ids=SETTINGS)
def test_a_training_with_graphs_has_the_bits_of_an_eager_one(keys: dict[str, Any], tiny: Tiny) -> None:
    config = tiny(device="cpu", epochs=3, batch_size=20, sched="cosine", warmup_epochs=1, **keys)
    metrics, weights = train(config, has_graphs=True)
    assert RecordedGraph.replays > 20
    expected, expected_weights = train(config, has_graphs=False)
    assert metrics == expected
    assert all(torch.equal(value, expected_weights[name]) for name, value in weights.items())


def test_a_graph_keeps_the_learning_rate_of_its_epoch() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)

    def update(x: Tensor, target: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = (weight * x - target).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        return loss.detach()

    def change() -> float:
        before = weight.detach().clone()
        step.step(torch.ones(3), torch.zeros(3), steps_left=100, eager=False)
        return float((weight.detach() - before).abs().max())

    step = GraphedStep(update, optimizer)
    step.is_worth_it = True
    assert all(change() > 0.0 for _ in range(5))
    assert RecordedGraph.replays == 3
    optimizer.param_groups[0]["lr"] = 0.0
    assert change() > 0.0
    step.start_epoch()
    assert change() == 0.0


def test_a_step_that_reads_a_value_stays_eager() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, calls = torch.optim.AdamW([weight], fused=True), []

    def update(x: Tensor, target: Tensor) -> Tensor:
        calls.append(float(x.sum()))
        return x.sum()

    step = GraphedStep(update, optimizer)
    step.is_worth_it = True
    for _ in range(5):
        step.step(torch.ones(3), torch.zeros(3), steps_left=100, eager=False)
    assert (step.is_worth_it, RecordedGraph.replays, len(calls)) == (False, 0, 5)
