"""Exit rules: how sure the read-outs of an image are, and the step at which it exits.

Shapes: `T` steps, `B` images, `K` classes. A read-out at t is the mean of the first t steps' outputs; means_TBK holds
those of all steps. Certainties rise with sureness for each rule; an image exits at the first step whose
certainty reaches the threshold, at the latest after all T steps.

| rule | certainty of a read-out | paper |
| --- | --- | --- |
| `confidence` | the largest probability | Li et al. 2023 |
| `msprt` | the largest probability of the sum of the outputs so far | Baum and Veeravalli 1994 |
| `margin` | the largest probability minus the second largest | Scheffer et al. 2001 |
| `entropy` | `1 - entropy / ln K`: 0 for equal probabilities, 1 for one class | Teerapittayanon et al. 2016 |
| `agreement` | the number of steps in a row, up to this one, whose read-outs have one class | Zhou et al. 2020 |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models import registry

Thresholds = float | Sequence[float]
"""One threshold for all steps, or one for each step but the last."""


@dataclass(frozen=True)
class ExitRule:
    """Certainties [T, B] of the read-outs [T, B, K], and the operations of one decision per class."""

    certainty: Callable[[Tensor], Tensor]
    operations: int
    """Counted as MACs: the running sum, and for probabilities an exponential, its sum and its scaling."""


def rule_of(name: str) -> ExitRule:
    """Returns the registered rule of this name."""
    rule: ExitRule = registry.load(registry.EXIT_RULES[name])
    return rule


def read_outs(logits_TBK: Tensor) -> Tensor:
    """Returns the mean of the outputs of the first t steps, for each t, [T, B, K]."""
    counts = torch.arange(1, len(logits_TBK) + 1, device=logits_TBK.device, dtype=logits_TBK.dtype)
    return logits_TBK.cumsum(0) / counts.view(-1, 1, 1)


def exit_steps(certainty_TB: Tensor, thresholds: Thresholds) -> Tensor:
    """Returns the steps, 1 to T, that each image runs, [B]. Raises ValueError for a wrong number of thresholds."""
    steps = len(certainty_TB)
    limits = certainty_TB.new_tensor(per_step(thresholds, steps))
    is_sure = certainty_TB[:-1] >= limits.unsqueeze(1)
    last = torch.ones_like(certainty_TB[:1], dtype=torch.bool)
    return torch.cat((is_sure, last)).int().argmax(0) + 1


def per_step(thresholds: Thresholds, steps: int) -> list[float]:
    """Returns a threshold for each step but the last. Raises ValueError for a wrong number of them."""
    if isinstance(thresholds, int | float):
        return [float(thresholds)] * (steps - 1)
    if len(thresholds) != steps - 1:
        raise ValueError(f"a threshold must be one number, or step - 1 of them (got {len(thresholds)}, step={steps})")
    return [float(threshold) for threshold in thresholds]


def decision_macs(name: str, num_classes: int, decisions: float) -> float:
    """Returns the MACs of this many decisions of a rule."""
    return rule_of(name).operations * num_classes * decisions


def _confidence(means_TBK: Tensor) -> Tensor:
    return means_TBK.softmax(2).amax(2)


def _msprt(means_TBK: Tensor) -> Tensor:
    """Returns the largest posterior if the outputs of the steps were log-likelihoods of independent observations."""
    counts = torch.arange(1, len(means_TBK) + 1, device=means_TBK.device, dtype=means_TBK.dtype)
    return _confidence(means_TBK * counts.view(-1, 1, 1))


def _margin(means_TBK: Tensor) -> Tensor:
    first, second = means_TBK.softmax(2).topk(2, dim=2).values.unbind(2)
    return first - second


def _entropy(means_TBK: Tensor) -> Tensor:
    log_probabilities = means_TBK.log_softmax(2)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(2)
    return 1.0 - entropy / math.log(means_TBK.shape[2])


def _agreement(means_TBK: Tensor) -> Tensor:
    classes_TB = means_TBK.argmax(2)
    runs = [torch.ones_like(classes_TB[0])]
    for before, now in itertools.pairwise(classes_TB):
        runs.append(torch.where(now == before, runs[-1] + 1, 1))
    return torch.stack(runs).to(means_TBK.dtype)


CONFIDENCE = ExitRule(_confidence, 4)
MSPRT = ExitRule(_msprt, 4)
MARGIN = ExitRule(_margin, 4)
ENTROPY = ExitRule(_entropy, 6)
AGREEMENT = ExitRule(_agreement, 2)
