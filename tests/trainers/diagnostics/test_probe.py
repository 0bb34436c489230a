"""Probed activity of a training step, and the layers on every path to the output."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from models import create_model
from models.cost.counters import levels
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv, Head
from trainers import loop, optim
from trainers import train as train_module
from trainers.augment.images import Augment
from trainers.config import TrainConfig
from trainers.data.sources import load_train
from trainers.diagnostics.health import OUTPUT, Activity, Health, TrainingFailure, first_barrier
from trainers.diagnostics.probe import Probe, routes
from trainers.epoch_metrics import EpochMetrics
from trainers.train import train

Tiny = Callable[..., TrainConfig]
CUTS = [f"stem.chain.neurons.{i}" for i in range(4)]


def broken(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[SpikingModel], None]) -> None:
    """Damages each model before its training."""
    create = train_module.create_model

    def create_broken(config: TrainConfig) -> SpikingModel:
        model = create(config)
        spoil(model)
        return model

    monkeypatch.setattr(train_module, "create_model", create_broken)


def failure_of(config: TrainConfig) -> tuple[str, str, int]:
    """Returns the class, the text, and how many batches were trained when a training failed."""
    done: list[int] = []
    received: list[EpochMetrics] = []
    with pytest.raises(TrainingFailure) as failure:
        train(config, received.append, on_batch=lambda batch, batches: done.append(batch))
    return failure.value.failure_class, str(failure.value), len(done)


def learner_of(config: TrainConfig) -> loop.Learner:
    torch.manual_seed(0)
    model = create_model(config)
    return loop.Learner(
        model, optim.make_optimizer(model, config), optim.make_loss(config), None, Augment(config, torch.device("cpu"))
    )


# ---------------------------------------------------------------------------------------------- paths to the output


def test_the_layers_that_no_shortcut_goes_around_are_those_of_the_stem_and_the_head(tiny: Tiny) -> None:
    model = create_model(tiny())
    found = routes(model)
    neurons = [name for name, module in model.named_modules() if levels(module)]
    assert [name for name in neurons if first_barrier(found, [name])] == CUTS
    assert first_barrier(found, ["stem.chain.convs.0"]) == "stem.chain.convs.0"
    assert first_barrier(found, ["head"]) == "head"
    assert first_barrier(found, neurons) == CUTS[0]
    assert first_barrier(found, []) is None


def test_two_blocked_branches_leave_no_path() -> None:
    ways = {
        "a": frozenset({"<input>"}),
        "b": frozenset({"<input>"}),
        "c": frozenset({"a", "b"}),
        OUTPUT: frozenset({"c"}),
    }
    assert first_barrier(ways, ["a"]) is None
    assert first_barrier(ways, ["b", "a"]) == "a"


@pytest.mark.parametrize("node", ["LIFNode", "PLIFNode", "CLIFNode", "GLIFNode", "PSN", "ILIFNode"])
def test_finding_the_routes_changes_no_state_and_no_generator(tiny: Tiny, node: str) -> None:
    model = create_model(tiny(node_type=node)).train()
    state, before = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    assert first_barrier(routes(model), CUTS) == CUTS[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


# ---------------------------------------------------------------------------------------------- measurements


def test_a_probe_measures_rates_units_and_gradients_exactly(tiny: Tiny) -> None:
    config = tiny(batch_size=20)
    learner, data = learner_of(config), load_train(config)[0]
    collected: list[Any] = []

    class Listener(Health):
        def check_batch(self, activities: Any, gradients: Any, batch: int) -> None:
            collected.append((activities, gradients, batch))

    outputs: dict[str, torch.Tensor] = {}
    for name, module in learner.model.named_modules():
        if levels(module):
            module.register_forward_hook(lambda m, i, out, name=name: outputs.update({name: out.detach()}))
    learner.model.train()
    with Probe(learner.model, Listener()).step(4, 100):
        loop.train_step(learner, data.images[:20], data.labels[:20], config)
    ((activities, gradients, batch),) = collected
    assert batch == 4
    assert activities.keys() == outputs.keys()
    for name, out in outputs.items():
        fired = out.flatten(0, 1).any(0)
        expected = Activity(float(out.mean()), float((~fired).float().mean()), float(out.bool().all(0).float().mean()))
        assert vars(activities[name]) == pytest.approx(vars(expected), abs=1e-6)
    layers = {name: module for name, module in learner.model.named_modules() if isinstance(module, Conv | Head)}
    assert gradients == pytest.approx({name: float(module.weight.grad.norm()) for name, module in layers.items()})


def test_checks_are_in_early_batches_and_then_at_the_ends_of_epochs(tiny: Tiny) -> None:
    health = Health()
    assert [n for n in range(1, 1001) if health.is_due(n, 500)] == [1, 4, 30, 60, 90, 120, 150, 500, 1000]
    assert [n for n in range(1, 49) if health.is_due(n, 12)] == [1, 4, 12, 24, 30, 36, 48]


def test_short_epochs_are_checked_once_in_ten_batches() -> None:
    assert [n for n in range(161, 200) if Health().is_due(n, 1)] == [170, 180, 190]
    assert [n for n in range(161, 200) if Health().is_due(n, 6)] == [162, 174, 180, 192]


def test_evaluations_are_counted_in_batches_of_the_whole_training(tiny: Tiny) -> None:
    probe = Probe(create_model(tiny()), Health())
    silent = [{"name": CUTS[0], "spike_rate": 0.0}]
    for epoch in range(3):
        probe.epoch = epoch
        assert [batch for batch in range(1, 51) if probe.is_due(batch, 50)][-1] == 50
        with pytest.raises(TrainingFailure) if epoch == 2 else nullcontext():
            probe.check_epoch({}, silent)


# ---------------------------------------------------------------------------------------------- failures


def set_norms(model: SpikingModel, name: str, bias: float) -> None:
    norm = model.get_submodule(name)
    assert isinstance(norm, BatchNorm)
    nn.init.constant_(norm.bias, bias)


SPOILED: dict[str, tuple[Callable[[SpikingModel], None], str]] = {
    "silent": (lambda model: set_norms(model, "stem.chain.bns.2", -1000.0), "stem.chain.neurons.2 emits fewer"),
    "saturated": (lambda model: set_norms(model, "stem.chain.bns.1", 1000.0), "stem.chain.neurons.1 fires all the"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_damaged_layer_ends_the_training_at_the_second_check_by_its_name(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spoil, text = SPOILED[kind]
    broken(monkeypatch, spoil)
    config = tiny(batch_size=10, log_interval=1, lr=0.0, min_lr=0.0, warmup_lr=0.0, weight_decay=0.0)
    found = failure_of(config)
    assert found[0] == kind
    assert found[1].startswith(text)
    assert found[2] == 3, "batches finished before the one in which the second check fails"


def test_a_layer_with_few_firing_units_is_dead(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: SpikingModel) -> None:
        norm = model.get_submodule("stem.chain.bns.3")
        assert isinstance(norm, BatchNorm)
        nn.init.constant_(norm.bias, -1000.0)
        with torch.no_grad():
            norm.bias[0] = 1000.0  # one channel of 64 fires, more than a thousandth of all

    broken(monkeypatch, spoil)
    kind, text, _ = failure_of(tiny(batch_size=10, embed_dim=64, lr=0.0, min_lr=0.0, warmup_lr=0.0))
    assert (kind, text) == ("dead_layer", "stem.chain.neurons.3 has 98.4% of units that never fire")


def test_a_silent_branch_does_not_end_the_training(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[EpochMetrics] = []
    train(tiny(attn_threshold=100.0, epochs=3), received.append)
    assert len(received) == 3
    row = next(row for row in received[-1].layers if row["name"] == "blocks.0.attn.attn_neuron")
    assert row["spike_rate"] == 0.0


SANE = [
    {},
    {"model": "spikingformer_cifar"},
    {"model": "sdt_cifar"},
    {"model": "qkformer_cifar", "embed_dim": 32, "depths": 3},
    {"model": "spikformer_cifar", "node_type": "PSN"},
    {"model": "spikformer_cifar", "node_type": "ILIFNode"},
    {"step": 1, "threshold": 0.5},
    {"act_function": "atan", "alpha": 2.0, "tau": 4.0, "depths": 3},
]


@pytest.mark.parametrize("keys", SANE, ids=str)
def test_sane_configs_pass_every_check(tiny: Tiny, keys: dict[str, Any]) -> None:
    received: list[EpochMetrics] = []
    train(tiny(**{"batch_size": 30, "epochs": 2, "val_batch_size": 300, **keys}), received.append)
    assert len(received) == 2


def test_a_gradient_that_is_not_finite_is_found_at_the_check(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda model: model.get_submodule("head").weight.register_hook(lambda grad: grad / 0))  # type: ignore[operator,union-attr]
    kind, text, done = failure_of(tiny(batch_size=10, log_interval=1000))
    assert kind == "diverged"
    assert "gradient of" in text or "loss" in text
    assert done == 0
