from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv
from trainers import loop, optim
from trainers.augment.images import Augment
from trainers.config import TrainConfig
from trainers.data.sources import DataError, Split, load_train
from trainers.diagnostics.health import TrainingFailure, chance_level
from trainers.epoch_metrics import EpochMetrics
from trainers.train import calibration_split, seed_everything

Tiny = Callable[..., TrainConfig]
CPU = torch.device("cpu")


def learner_of(config: TrainConfig) -> loop.Learner:
    """Returns the parts that `train` builds from a config, before the first step."""
    seed_everything(config.seed, epoch=0)
    model = create_model(config)
    return loop.Learner(
        model,
        optim.make_optimizer(model, config),
        optim.make_loss(config),
        optim.make_mixup(config),
        Augment(config, CPU),
    )


def lively(config: TrainConfig) -> SpikingModel:
    """Returns a model that spikes without having been trained."""
    seed_everything(config.seed, epoch=0)
    model = create_model(config)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.constant_(module.weight, 4.0)
            nn.init.uniform_(module.bias, -0.5, 2.5)
    nn.init.normal_(model.head.weight)  # type: ignore[arg-type,union-attr]
    return model.eval()


# ---------------------------------------------------------------------------------------------- training


class _DoubleAugment(Augment):
    def train(self, images: Tensor) -> Tensor:
        return super().train(images).double()


GOLDEN_LOSSES = [2.304715156555176, 2.301211357116699, 2.3043806552886963, 2.2959799766540527, 2.2808306217193604]


def test_five_steps_give_the_golden_losses(tiny: Tiny) -> None:
    """Refactorings must reproduce them.

    In float64 a rounding difference between CPU types is too small to carry a membrane over its threshold. In float32 a
    single flipped spike would show. So the tolerance can be that of the loss, which is in float32.
    """
    config = tiny()
    learner = learner_of(config)
    learner.model.double().train()
    learner.augment = _DoubleAugment(config, CPU)
    data = load_train(config)[0]
    losses = [
        float(loop.train_step(learner, data.images[i : i + 50], data.labels[i : i + 50], config))
        for i in range(0, 250, 50)
    ]
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-6)


def test_an_epoch_sees_each_image_at_most_once_and_drops_the_incomplete_batch(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, collected, received = tiny(batch_size=70, log_interval=2), [], []

    def step(learner: loop.Learner, images: Tensor, labels: Tensor, config: TrainConfig) -> Tensor:
        collected.append(labels)
        return torch.ones(())

    monkeypatch.setattr(loop, "train_step", step)
    data = Split(torch.zeros(300, 1, 8, 8, dtype=torch.uint8), torch.arange(300))
    speed = loop.train_epoch(learner_of(config), data, config, lambda done, batches: received.append((done, batches)))
    assert [len(labels) for labels in collected] == [70] * 4
    assert len(torch.cat(collected).unique()) == 280
    assert received == [(2, 4), (4, 4)]
    assert speed["loss"] == 1.0
    assert speed["images_per_s"] > 0


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_fewer_images_than_a_batch_are_one_batch_an_even_one_for_mixup(tiny: Tiny, mixup: float) -> None:
    config, received = tiny(batch_size=100, mixup=mixup), []
    data = load_train(config)[0]
    few = Split(data.images[:33], data.labels[:33])
    loop.train_epoch(learner_of(config), few, config, lambda done, batches: received.append((done, batches)))
    assert received == [(1, 1)]


def test_a_loss_that_is_not_finite_ends_the_epoch_as_diverged(tiny: Tiny) -> None:
    config = tiny()
    learner = learner_of(config)
    nn.init.constant_(learner.model.head.bias, float("nan"))  # type: ignore[arg-type,union-attr]
    with pytest.raises(TrainingFailure, match="the training loss is not finite after batch 6") as failure:
        loop.train_epoch(learner, load_train(config)[0], config)
    assert failure.value.failure_class == "diverged"


def test_clip_grad_bounds_the_norm_of_the_gradient(tiny: Tiny) -> None:
    norms = {}
    for clip in (None, 0.01):
        config = tiny(clip_grad=clip)
        learner, data = learner_of(config), load_train(config)[0]
        loop.train_step(learner, data.images[:50], data.labels[:50], config)
        gradients = [p.grad.norm() for p in learner.model.parameters() if p.grad is not None]
        norms[clip] = float(torch.stack(gradients).norm())
    assert norms[None] > 0.02
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)


def test_a_spike_penalty_adds_its_weight_times_the_mean_rate_to_the_loss(tiny: Tiny) -> None:
    losses, rate = {}, 0.0
    for penalty in (0.0, 3.0):
        config = tiny(spike_penalty=penalty)
        learner, data, outputs = learner_of(config), load_train(config)[0], []
        learner.model.train()
        for module in learner.model.modules():
            if hasattr(module, "levels"):
                module.register_forward_hook(lambda module, inputs, output, outputs=outputs: outputs.append(output))
        losses[penalty] = float(loop.train_step(learner, data.images[:50], data.labels[:50], config))
        rate = float(torch.cat([x.detach().flatten() for x in outputs]).mean())
    assert losses[3.0] - losses[0.0] == pytest.approx(3.0 * rate, rel=1e-4)
    assert not any(len(module._forward_hooks) > 1 for module in learner.model.modules())


@pytest.mark.parametrize(("node", "most"), [("ILIFNode", 4), ("NILIFNode", 1)])
def test_a_spike_penalty_counts_a_neuron_of_several_levels_as_its_spike_rate_does(
    tiny: Tiny, node: str, most: int
) -> None:
    config = tiny(node_type=node, spike_penalty=1.0)
    learner, data, outputs = learner_of(config), load_train(config)[0], []
    for module in learner.model.train().modules():
        if hasattr(module, "levels"):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach().flatten()))
    with loop._spike_rate(learner.model, config) as rate:
        learner.model(learner.augment.train(data.images[:50]))
        found = float(rate().detach())
    assert found == pytest.approx(float(torch.cat(outputs).mean()) / most, rel=1e-4)


def test_the_gradient_of_a_spike_penalty_is_that_of_the_mean_rate(tiny: Tiny) -> None:
    gradients = {}
    for penalty in (0.0, 3.0):
        config = tiny(spike_penalty=penalty, opt="sgd", lr=0.0, min_lr=0.0, weight_decay=0.0)
        learner, data = learner_of(config), load_train(config)[0]
        learner.model.train()
        loop.train_step(learner, data.images[:50], data.labels[:50], config)
        gradients[penalty] = {name: value.grad.clone() for name, value in learner.model.named_parameters()}
    learner, outputs = learner_of(tiny()), []
    for module in learner.model.train().modules():
        if hasattr(module, "levels"):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    learner.model(learner.augment.train(data.images[:50]))
    rate = torch.cat([x.flatten() for x in outputs]).mean()
    named = dict(learner.model.named_parameters())
    of_rate = torch.autograd.grad(rate, list(named.values()), allow_unused=True)
    for (name, value), expected in zip(named.items(), of_rate, strict=True):
        expected = torch.zeros_like(value) if expected is None else 3.0 * expected
        torch.testing.assert_close(gradients[3.0][name] - gradients[0.0][name], expected, atol=1e-5, rtol=1e-3)
    assert any(value.abs().max() > 1e-4 for value in gradients[3.0].values())


def test_one_image_cannot_be_mixed(tiny: Tiny) -> None:
    config = tiny(mixup=0.5)
    learner, data = learner_of(config), load_train(config)[0]
    with pytest.raises(DataError, match="need two training images"):
        loop.train_epoch(learner, data.take([0]), config)


# ---------------------------------------------------------------------------------------------- batch norm


def test_only_whole_batches_estimate_statistics(tiny: Tiny) -> None:
    config = tiny()
    data = load_train(config)[0]
    for count, size, wanted in ((251, 50, 250), (99, 50, 50), (30, 50, 30)):
        taken = data.take(list(range(count)))
        assert len(calibration_split(taken, tiny(batch_size=size))) == wanted


def test_statistics_are_re_estimated_as_the_mean_over_the_fixed_batches(tiny: Tiny) -> None:
    config = tiny(epochs=1)
    learner = learner_of(config)
    data, model = load_train(config)[0], learner.model
    loop.train_epoch(learner, data, config)
    fixed = calibration_split(data, config)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" not in key}
    loop.recalibrate(model, fixed, learner.augment, config.batch_size)
    conv = next(module for module in model.modules() if isinstance(module, Conv))
    norm = next(module for module in model.modules() if isinstance(module, BatchNorm))
    with torch.no_grad():
        maps = [conv(learner.augment.plain(x).unsqueeze(0))[0] for x in fixed.images.split(50)]
    assert len(maps) == 6
    mean = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in maps]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert {module.momentum for module in model.modules() if isinstance(module, BatchNorm)} == {0.1}
    assert not any(module.training for module in model.modules())
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if "num_batches" not in key)


def test_estimating_twice_gives_the_same_bits(tiny: Tiny) -> None:
    config = tiny()
    learner = learner_of(config)
    fixed = calibration_split(load_train(config)[0], config)
    states = []
    for _ in range(2):
        loop.recalibrate(learner.model, fixed, learner.augment, config.batch_size)
        states.append({key: value.clone() for key, value in learner.model.state_dict().items()})
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("distort", [False, True])
def test_the_fixed_batches_do_not_depend_on_the_seed_of_the_training(tiny: Tiny, distort: bool) -> None:
    data = load_train(tiny())[0]
    one, other = (calibration_split(data, tiny(seed=seed, distort=distort, batch_size=20)) for seed in (1, 2))
    assert len(one) == 6 * 20
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert not torch.equal(one.images, calibration_split(data, tiny(split_seed=1, batch_size=20)).images)


# ---------------------------------------------------------------------------------------------- evaluation


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one == pytest.approx(other, rel=1e-9)


def test_each_read_out_equals_a_shorter_run_of_the_same_weights(tiny: Tiny) -> None:
    whole = tiny(step=3)
    model, data = lively(whole), load_train(whole)[0]
    found = loop.evaluate(model, data, Augment(whole, CPU), whole)
    assert [row["read_step"] for row in found.read_outs] == [1, 2, 3]
    assert len({row["loss"] for row in found.read_outs}) == 3
    for t in (1, 2, 3):
        config = tiny(step=3, read_step=t)
        alone = create_model(config).eval()
        alone.load_state_dict(model.state_dict())
        second = loop.evaluate(alone, data, Augment(config, CPU), config)
        row = {key: value for key, value in found.read_outs[t - 1].items() if key not in loop.NOT_METRICS}
        assert same(second.metrics, row)
        with torch.no_grad():
            logits = alone(Augment(config, CPU).plain(data.images))
        assert row["accuracy"] == 100 * int((logits.argmax(1) == data.labels).sum()) / len(data)
        assert row["loss"] == pytest.approx(float(F.cross_entropy(logits.double(), data.labels)), rel=1e-6)
        assert second.layers == loop.evaluate(model, data, Augment(config, CPU), config).layers


def test_the_metrics_are_those_at_read_step_under_their_agreed_names(tiny: Tiny) -> None:
    config = tiny(step=3, read_step=2)
    found = loop.evaluate(lively(config), load_train(config)[0], Augment(config, CPU), config)
    assert set(found.metrics) == {"accuracy", "loss", "spikes", "spike_rate", "synops", "macs", "energy_mj"}
    assert found.metrics["accuracy"] == found.read_outs[1]["accuracy"]
    labels = load_train(config)[0].labels.tolist()
    assert {row["chance"] for row in found.read_outs} == {chance_level([labels.count(k) for k in range(10)])}


@pytest.mark.parametrize("few", [10, 40])
def test_a_network_that_always_answers_the_largest_class_is_at_chance(tiny: Tiny, few: int) -> None:
    config, generator = tiny(num_classes=11), torch.Generator().manual_seed(0)
    labels = torch.tensor([9] * (100 - few) + [4] * few)
    noise = Split(torch.randint(256, (100, 1, 8, 8), generator=generator, dtype=torch.uint8), labels)
    model = lively(config)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    with torch.no_grad():
        model.head.bias[9] = 1.0  # type: ignore[index]
    found = loop.evaluate(model, noise, Augment(config, CPU), config)
    report = EpochMetrics(1, found.metrics, found.read_outs, found.layers)
    assert found.metrics["accuracy"] == 100 - few
    assert report.chance == pytest.approx(100 - few + 200 * (few / 100 * (1 - few / 100) / 100) ** 0.5)
    assert report.is_at_chance


def test_the_batch_size_does_not_change_the_metrics(tiny: Tiny) -> None:
    config = tiny()
    model, data = lively(config), load_train(config)[0]
    one, other = (
        loop.evaluate(model, data, Augment(config, CPU), tiny(val_batch_size=size)).metrics for size in (300, 77)
    )
    assert other == pytest.approx(one, rel=1e-6)


def test_evaluating_changes_no_weight_and_no_statistic(tiny: Tiny) -> None:
    config = tiny()
    model = lively(config).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loop.evaluate(model, load_train(config)[0], Augment(config, CPU), config)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluations_and_new_statistics_are_computed_in_full_precision(tiny: Tiny) -> None:
    """On a GPU, PyTorch's default for convolutions is TF32, with which accuracy would differ from that on a CPU."""
    config, seen = tiny(), set[tuple[bool, bool]]()
    learner, data = learner_of(config), load_train(config)[1].take(np.arange(50))
    for conv in (module for module in learner.model.modules() if isinstance(module, Conv)):
        conv.register_forward_pre_hook(
            lambda module, inputs: seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        )
    before = torch.backends.cudnn.allow_tf32
    loop.recalibrate(learner.model, data, learner.augment, config.batch_size)
    loop.evaluate(learner.model, data, learner.augment, config)
    assert seen == {(False, False)}
    assert torch.backends.cudnn.allow_tf32 is before is True


def test_a_model_that_is_not_causal_is_read_at_its_last_step_only(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(step=3)
    model = lively(config)
    monkeypatch.setattr(type(model), "is_causal", False)
    found = loop.evaluate(model, load_train(config)[0], Augment(config, CPU), config)
    assert [row["read_step"] for row in found.read_outs] == [3]
