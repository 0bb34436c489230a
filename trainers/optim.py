"""Optimizer, learning-rate schedule, mixup and loss, all from timm."""

from __future__ import annotations

from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from config.errors import ConfigError
from trainers.config import TrainConfig
from trainers.optimization.tet import TemporalEfficientTraining

FUSED = frozenset({"adam", "adamw", "sgd"})
"""Optimizers of PyTorch with one kernel for all weights on a GPU."""
IMPLEMENTATION = ("fused", "foreach", "capturable")
"""Keys of an optimizer's groups that choose how it computes."""


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns timm's optimizer, without weight decay on biases, norms and scalars. Raises ConfigError."""
    on_gpu = next(model.parameters()).is_cuda
    options = {"fused": True} if on_gpu and config.opt in FUSED else {}
    try:
        optimizer = create_optimizer_v2(
            model, opt=config.opt, lr=config.lr, weight_decay=config.weight_decay, **options
        )
    except (AssertionError, ValueError) as error:
        raise ConfigError(f"opt: timm has no optimizer {config.opt!r} ({error})") from None
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads a saved state, which may come from another kind of device; how the optimizer computes stays."""
    groups = [
        {**saved, **{key: own[key] for key in IMPLEMENTATION if key in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> Any:
    """Returns timm's schedule, stepped once per epoch; it reaches min_lr at the start of the cooldown."""
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=config.sched,
        num_epochs=max(1, config.epochs - config.cooldown_epochs),
        warmup_epochs=config.warmup_epochs,
        warmup_lr=config.warmup_lr,
        min_lr=config.min_lr,
        cooldown_epochs=config.cooldown_epochs,
        decay_rate=1.0 if config.sched == "poly" else 0.1,  # the power of poly, the factor of step
    )
    return schedule


def make_mixup(config: TrainConfig) -> Any | None:
    """Returns timm's mixup, or None if both mixup and cutmix are off."""
    if not _is_mixed(config):
        return None
    return Mixup(
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        prob=config.mixup_prob,
        switch_prob=config.mixup_switch_prob,
        mode=config.mixup_mode,
        label_smoothing=config.smoothing,
        num_classes=config.num_classes,
    )


def make_loss(config: TrainConfig) -> nn.Module:
    """Returns the training loss of the mean output [B, K], or with `tet` of the output of each step [T, B, K].

    With o the output, p its softmax, y the class and K the number of classes:

    | loss | formula | paper | keys |
    | --- | --- | --- | --- |
    | `cross_entropy` | `-log p_y` | | |
    | `label_smoothing` | cross-entropy to `1 - s` for y plus `s / K` for all | Szegedy et al. 2016 | `smoothing` |
    | `mixup` | cross-entropy to the classes of two blended images, by their shares | Zhang et al. 2018 | `mixup` |
    | `cutmix` | the same of an image with a rectangle of another | Yun et al. 2019 | `cutmix` |
    | `tet` | `(1 - w) mean_t L(o_t, y) + w mean((o - 1)^2)`, L any of these | Deng et al. 2022 | `tet` |
    | `spike_penalty` | plus w times the mean spike rate, by the training loop | | `spike_penalty` |
    """
    loss = _make_cross_entropy(config)
    return loss if config.tet is None else TemporalEfficientTraining(loss, config.tet)


def _make_cross_entropy(config: TrainConfig) -> nn.Module:
    """Returns the cross-entropy: of soft targets with mixup, else smoothed or plain."""
    if _is_mixed(config):
        return SoftTargetCrossEntropy()  # type: ignore[no-any-return]
    if config.smoothing:
        return LabelSmoothingCrossEntropy(smoothing=config.smoothing)  # type: ignore[no-any-return]
    return nn.CrossEntropyLoss()


def _is_mixed(config: TrainConfig) -> bool:
    return config.mixup > 0.0 or config.cutmix > 0.0
