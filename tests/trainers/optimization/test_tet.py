from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model
from trainers import loop, optim
from trainers.augment.images import Augment
from trainers.config import TrainConfig
from trainers.data.sources import load_train
from trainers.optimization.tet import StepOutputs, TemporalEfficientTraining
from trainers.seeding import seed_everything

Tiny = Callable[..., TrainConfig]
T, B, K = 3, 5, 4


def cross_entropy(logits_BK: Tensor, shares_BK: Tensor) -> Tensor:
    """Returns the mean over the batch of minus the sum of share times log softmax."""
    return -(shares_BK * (logits_BK - logits_BK.logsumexp(1, keepdim=True))).sum(1).mean()


def plain_tet(logits_TBK: Tensor, shares_BK: Tensor, weight: float) -> Tensor:
    """Returns the loss as the paper states it."""
    mean_loss = sum((cross_entropy(logits, shares_BK) for logits in logits_TBK), torch.zeros(())) / len(logits_TBK)
    return (1 - weight) * mean_loss + weight * ((logits_TBK - 1.0) ** 2).mean()


def learner_of(config: TrainConfig) -> loop.Learner:
    """Returns a learner whose outputs differ between the steps and the classes."""
    seed_everything(config.seed, epoch=0)
    model = create_model(config)
    nn.init.normal_(model.head.weight)  # type: ignore[arg-type,union-attr]
    augment = Augment(config, torch.device("cpu"))
    return loop.Learner(model, optim.make_optimizer(model, config), optim.make_loss(config), None, augment)


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(
    ("keys", "smoothing"), [({"smoothing": 0.0}, 0.0), ({"smoothing": 0.1}, 0.1), ({"mixup": 0.5}, None)]
)
def test_the_loss_equals_the_formula_of_the_paper(
    weight: float, keys: dict[str, float], smoothing: float | None, tiny: Tiny
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(T, B, K, generator=generator)
    labels = torch.randint(K, (B,), generator=generator)
    if smoothing is None:
        target = shares = torch.rand(B, K, generator=generator).softmax(1)
    else:
        target, shares = labels, (1 - smoothing) * F.one_hot(labels, K) + smoothing / K
    loss = optim.make_loss(tiny(tet=weight, **keys))
    torch.testing.assert_close(loss(logits, target), plain_tet(logits, shares, weight))


def test_without_the_key_the_loss_is_that_of_the_mean_output(tiny: Tiny) -> None:
    assert not isinstance(optim.make_loss(tiny()), TemporalEfficientTraining)
    config = tiny()
    learner, data = learner_of(config), load_train(config)[0]
    assert learner.outputs(learner.augment.train(data.images[:50]), config).shape == (50, 10)


@pytest.mark.parametrize("keys", [{}, {"node_type": "PSN"}, {"step": 1}, {"step": 3, "read_step": 1}])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_step_descends_the_gradient_of_the_formula_over_all_trained_steps(
    keys: dict[str, object], penalty: float, tiny: Tiny
) -> None:
    config = tiny(tet=0.2, spike_penalty=penalty, **keys)
    learner, data = learner_of(config), load_train(config)[0]
    learner.model.train()
    images, labels = data.images[:50], data.labels[:50]
    with loop._spike_rate(learner.model, config) as rate:
        logits = learner.model.forward_steps(learner.augment.train(images))
        expected = plain_tet(logits, F.one_hot(labels, 10), 0.2)
        expected = expected + penalty * rate() if penalty else expected
    weights = dict(learner.model.named_parameters())
    gradients = torch.autograd.grad(expected, list(weights.values()))
    found = loop.train_step(learner, images, labels, config)
    torch.testing.assert_close(found, expected.detach())
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_at_one_step_without_pull_the_loss_is_the_plain_one(tiny: Tiny) -> None:
    losses = []
    for weight in (None, 0.0):
        config = tiny(step=1, tet=weight)
        learner, data = learner_of(config), load_train(config)[0]
        losses.append(loop.train_step(learner, data.images[:50], data.labels[:50], config))
    assert losses[0] == losses[1]


def test_a_wrapped_model_returns_its_steps_and_shares_its_weights(tiny: Tiny) -> None:
    model = create_model(tiny(step=3)).eval()
    wrapped = StepOutputs(model)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(wrapped(x), model.forward_steps(x))
    assert list(wrapped.parameters()) == list(model.parameters())
