"""Training loop of one epoch, re-estimation of batch norm, and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.cost.counters import levels, magnitudes, spikes_per_value
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv
from trainers.augment.images import Augmentation
from trainers.config import TrainConfig
from trainers.data import Data, DataError
from trainers.diagnostics.health import TrainingFailure, chance_level
from trainers.diagnostics.probe import forward_hooks
from trainers.exits.points import ExitPlan, exit_points
from trainers.optimization.gpu_step import GraphedStep, batch_statistics, untracked_norms, without_biases
from trainers.optimization.weight_ema import WeightEMA

CALIBRATION_BATCHES = 6

NOT_METRICS = frozenset(
    {
        *("read_step", "chance", "energy_memory_mj", "energy_ann_mj", "exit", "exit_rule", "exit_threshold"),
        *("images", "calibration_images", "calibrated_accuracy", "calibrated_steps"),
    }
)
"""Keys of a read-out or exit point that are not metrics."""

OnBatch = Callable[[int, int], None]
"""Gets, after some batches, the number of finished batches and the number of all."""

StepContext = Callable[[int, int], AbstractContextManager[bool]]
"""Returns the context of a step from the number of its batch, counted from one, and the number of all. Its value says
whether the step is probed: then hooks of the layers must run, and gradients stay in the parameters."""


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation: the metrics at read_step, those of every read-out and exit point, a row per layer."""

    metrics: dict[str, float]
    read_outs: list[dict[str, float]]
    layers: list[dict[str, Any]]
    exits: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Learner:
    """Model, optimizer, loss and augmentation of a training step."""

    model: SpikingModel
    optimizer: torch.optim.Optimizer
    loss: nn.Module
    mixup: Any | None
    augment: Augmentation
    forward: nn.Module | None = None
    """Wrapper of what a training step computes, if any (DDP)."""
    rows: slice | list[int] = field(default_factory=lambda: slice(None))
    """Rows of each batch that this process trains on, after the whole batch was augmented and mixed."""
    graph: GraphedStep | None = None
    """The step as a CUDA graph, if the device and the optimizer allow it."""
    ema: WeightEMA | None = None
    """The moving average of the weights, if the config asks for it."""
    left_out: list[Conv] = field(default_factory=list)
    """Convolutions whose bias has no effect in training, and is left out on a GPU."""

    def batch_size(self, data: Data, config: TrainConfig) -> int:
        """Returns the images of a batch: at most all, and an even number with mixup, which takes pairs."""
        size = min(config.batch_size, len(data))
        if self.mixup is None:
            return size
        if size < 2:
            raise DataError("mixup and cutmix need two training images (got 1); set both to 0")
        return size - size % 2

    def outputs(self, x: Tensor, config: TrainConfig) -> Tensor:
        """Returns what the loss takes: the mean output [B, K], or with `tet` the output of each step [T, B, K]."""
        forward = self.forward or (self.model if config.tet is None else self.model.forward_steps)
        logits: Tensor = forward(x)
        return logits

    def make_batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the model's input and target of a batch of the data, augmented and mixed."""
        x = self.augment.train(images)
        if self.mixup is None:
            return x, labels
        mixed, target = self.mixup(x.flatten(1, -3), labels)  # equal for all steps and channels
        return mixed.view(x.shape), target


def train_epoch(
    learner: Learner,
    data: Data,
    config: TrainConfig,
    on_batch: OnBatch | None = None,
    step_context: StepContext = lambda batch, batches: nullcontext(False),
) -> dict[str, float]:
    """Trains once over the data in an order from torch's generator. Returns the mean `loss` and `images_per_s`.

    Raises TrainingFailure of class `diverged` if the loss is not finite.
    """
    learner.model.train()
    size = learner.batch_size(data, config)
    batches = len(data) // size
    total = torch.zeros((), device=data.device)
    started = time.monotonic()
    if learner.graph is not None:
        learner.graph.start_epoch()
    with batch_statistics(untracked_norms(learner.model)), without_biases(learner.left_out):
        for batch, (images, labels) in enumerate(data.shuffled(size), start=1):
            with step_context(batch, batches) as is_probed:
                total += _step(learner, images, labels, config, batches - batch, is_probed)
            if batch % config.log_interval == 0 or batch == batches:
                if not bool(torch.isfinite(total)):
                    raise loss_not_finite(batch)
                if on_batch is not None:
                    on_batch(batch, batches)
    return {"loss": float(total) / batches, "images_per_s": batches * size / (time.monotonic() - started)}


def loss_not_finite(batch: int) -> TrainingFailure:
    """Returns the failure of a training whose loss was not finite after a batch."""
    return TrainingFailure("diverged", f"the training loss is not finite after batch {batch}")


def _step(
    learner: Learner, images: Tensor, labels: Tensor, config: TrainConfig, steps_left: int, is_probed: bool
) -> Tensor:
    if learner.graph is None:
        loss = train_step(learner, images, labels, config)
    else:
        loss = learner.graph.step(*learner.make_batch(images, labels), steps_left=steps_left, eager=is_probed)
    if learner.ema is not None:
        learner.ema.update()  # outside the graph, in which the decay would be that of its capture
    return loss


def train_step(learner: Learner, images: Tensor, labels: Tensor, config: TrainConfig) -> Tensor:
    """One forward, backward and update on a batch of the data. Returns the detached loss."""
    return update(learner, *learner.make_batch(images, labels), config)


def update(learner: Learner, x: Tensor, target: Tensor, config: TrainConfig) -> Tensor:
    """One forward, backward and update on a model's input and target. Returns the detached loss."""
    learner.optimizer.zero_grad(set_to_none=True)
    on_cuda = config.amp and x.is_cuda
    with torch.autocast("cuda", torch.bfloat16, enabled=on_cuda), _spike_rate(learner.model, config) as rate:
        logits = learner.outputs(x[learner.rows], config)
        loss = learner.loss(logits.float(), target[learner.rows])
        if config.spike_penalty:
            loss = loss + config.spike_penalty * rate()
    loss.backward()
    if config.clip_grad is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), config.clip_grad)
    learner.optimizer.step()
    return loss.detach()  # type: ignore[no-any-return]


@contextmanager
def _spike_rate(model: nn.Module, config: TrainConfig) -> Iterator[Callable[[], Tensor]]:
    """Yields a function that returns the mean spike rate of the forward pass inside, with gradient."""
    spikes: list[Tensor] = []
    sizes: list[int] = []

    def count(name: str, module: nn.Module, output: Tensor) -> None:
        share_of_largest = spikes_per_value(module) / levels(module)
        spikes.append(magnitudes(module, output).sum() * share_of_largest)
        sizes.append(output.numel())

    neurons = {name: m for name, m in model.named_modules() if levels(m)} if config.spike_penalty else {}
    with forward_hooks(neurons, count):
        yield lambda: torch.stack(spikes).sum() / sum(sizes)


@contextmanager
def full_precision() -> Iterator[None]:
    """Computes convolutions in float32 inside the context, as on a CPU; PyTorch's default on a GPU is TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
def recalibrate(model: SpikingModel, data: Data, augment: Augmentation, batch_size: int) -> None:
    """Re-estimates every batch norm's statistics as the mean over the first batches of `data`, without augmentation."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    with full_precision():
        for batch, (images, _) in enumerate(data.in_order(batch_size), start=1):
            for norm in norms:
                norm.momentum = 1.0 / batch  # a plain mean; with None, PyTorch reads a counter from the device
            model.forward_steps(augment.plain(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.no_grad()
def evaluate(
    model: SpikingModel, data: Data, augment: Augmentation, config: TrainConfig, exits: ExitPlan | None = None
) -> Evaluation:
    """Measures accuracy, loss, spikes and operations over `data` at every read-out and exit point, in one pass.

    Each read-out has its `chance`, the accuracy up to which it may be a guess, and the values of `Meter.references`.
    The metrics are those at read_step, or with the config's own exit threshold.
    """
    model.eval()
    steps = config.step
    correct = torch.zeros(steps, dtype=torch.float64, device=data.device)
    loss = torch.zeros(steps, dtype=torch.float64, device=data.device)
    counts = torch.arange(1, steps + 1, device=data.device).view(-1, 1, 1)
    kept: list[Tensor] = []
    with full_precision(), Meter(model, config.energy_rule, by_image=exits is not None) as meter:
        for images, labels in data.in_order(config.val_batch_size):
            logits = meter.forward_steps(augment.plain(images)).float().cumsum(0) / counts
            correct += (logits.argmax(2) == labels).sum(1)
            losses = F.cross_entropy(logits.flatten(0, 1), labels.repeat(steps), reduction="none")
            loss += losses.view(steps, -1).sum(1, dtype=torch.float64)
            if exits is not None:
                kept.append(logits)
    accuracies, losses_of_steps = torch.stack((100.0 * correct / len(data), loss / len(data))).tolist()
    chance = chance_level(data.labels.cpu().bincount().tolist())
    read_outs = [
        {
            "read_step": t,
            "accuracy": accuracies[t - 1],
            "chance": chance,
            "loss": losses_of_steps[t - 1],
            **meter.totals(t),
            **({} if config.exit_rule is None else {"steps": float(t)}),
            **meter.references(t),
        }
        for t in (range(1, steps + 1) if model.is_causal else [steps])
    ]
    points = [] if exits is None else exit_points(torch.cat(kept, 1), data.labels, meter, exits)
    chosen: dict[str, Any] = next(row for row in read_outs if row["read_step"] == config.read_step)
    if config.exit_threshold is not None and points:
        chosen = points[0]
    metrics = {key: value for key, value in chosen.items() if key not in NOT_METRICS}
    return Evaluation(metrics, read_outs, meter.by_layer(config.read_step), points)
