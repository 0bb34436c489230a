from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from config.errors import ConfigError
from models import create_model
from trainers.config import TrainConfig
from trainers.optim import make_loss, make_mixup, make_optimizer, make_schedule

Tiny = Callable[..., TrainConfig]


def rates(config: TrainConfig) -> list[float]:
    """Returns the learning rate of each epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule, collected = make_schedule(optimizer, config), []
    for epoch in range(config.epochs):
        schedule.step(epoch)
        collected.append(optimizer.param_groups[0]["lr"])
    return collected


@pytest.mark.parametrize("sched", ["cosine", "tanh", "poly"])
def test_a_schedule_warms_up_falls_and_ends_at_min_lr_when_the_cooldown_starts(tiny: Tiny, sched: str) -> None:
    config = tiny(
        sched=sched, epochs=12, warmup_epochs=2, cooldown_epochs=3, lr=1.0, warmup_lr=0.1, min_lr=0.01, batch_size=4
    )
    collected = rates(config)
    assert collected[:2] == pytest.approx([0.1, 0.55], rel=1e-3)
    assert collected[2:] == sorted(collected[2:], reverse=True)
    assert collected[9:] == pytest.approx([0.01] * 3)


def test_cosine_is_half_way_in_the_middle(tiny: Tiny) -> None:
    assert rates(tiny(epochs=8, lr=1.0, min_lr=0.0))[4] == pytest.approx(0.5)


def test_poly_is_a_straight_line(tiny: Tiny) -> None:
    assert rates(tiny(sched="poly", epochs=10, lr=1.0, min_lr=0.0)) == pytest.approx([1.0 - i / 10 for i in range(10)])


def test_step_divides_the_rate_by_ten_every_ninety_epochs(tiny: Tiny) -> None:
    collected = rates(tiny(sched="step", epochs=200, lr=1.0, min_lr=0.5))
    assert [collected[0], collected[89], collected[90], collected[180]] == pytest.approx([1.0, 1.0, 0.1, 0.01])


def test_one_epoch_trains_with_any_warmup_and_cooldown(tiny: Tiny) -> None:
    assert len(rates(tiny(epochs=1, warmup_epochs=20, cooldown_epochs=10))) == 1


def test_biases_and_norms_get_no_weight_decay(tiny: Tiny) -> None:
    model = create_model(tiny())
    groups = make_optimizer(model, tiny(weight_decay=0.3)).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] == 0.3 for p in group["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.dim() > 1}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("opt", ["adamw", "sgd", "lamb"])
def test_the_optimizers_of_the_published_recipes_exist(tiny: Tiny, opt: str) -> None:
    assert make_optimizer(create_model(tiny()), tiny(opt=opt, lr=0.1)).param_groups[0]["lr"] == 0.1


def test_the_names_are_those_of_timm_that_need_no_further_library() -> None:
    from timm.optim import list_optimizers

    from config.optimizers import OPTIMIZERS

    others = {name for name in list_optimizers() if name.startswith(("bnb", "fused"))} | {"adahessian"}
    assert set(list_optimizers()) - others == OPTIMIZERS


def test_an_unknown_optimizer_is_reported_by_name(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="opt: timm has no optimizer 'adamww'"):
        make_optimizer(create_model(tiny()), tiny().model_copy(update={"opt": "adamww"}))


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"mixup": 0.5, "smoothing": 0.1}, SoftTargetCrossEntropy),
        ({"cutmix": 1.0}, SoftTargetCrossEntropy),
        ({"smoothing": 0.1}, LabelSmoothingCrossEntropy),
        ({"smoothing": 0.0}, nn.CrossEntropyLoss),
    ],
)
def test_the_loss_fits_the_kind_of_targets(tiny: Tiny, keys: dict[str, float], kind: type[nn.Module]) -> None:
    config = tiny(**keys)
    assert isinstance(make_loss(config), kind)
    assert (make_mixup(config) is None) == (kind is not SoftTargetCrossEntropy)
