"""Fused training: several trainings of one shape as one batched model.

A step is one forward and backward pass of a fused model (`models.fused`) and one step of `trainers.fused.optimizer`.
Everything else is per member and runs the code of a single training. A member has its own random generators, batch
norms, metrics, checkpoints and health checks, and its model's weights are views of the fused ones. So a training gives
the same results fused and alone, up to the rounding of sums, and can change between the two at any epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.cost.counters import levels, magnitudes
from models.fused.model import FusedModel
from trainers.config import TrainConfig
from trainers.data import Data
from trainers.diagnostics.health import TrainingFailure
from trainers.diagnostics.probe import forward_hooks
from trainers.epoch_metrics import EpochMetrics
from trainers.exits.settings import DEFAULTS, ExitSettings
from trainers.fused.optimizer import FusedAdamW
from trainers.loop import loss_not_finite
from trainers.optimization.gpu_step import batch_statistics, untracked_norms, without_biases
from trainers.seeding import GeneratorState
from trainers.train import Training, prepare


@dataclass(frozen=True)
class FusedJob:
    """Config of a member, the folder of its checkpoints, if any, and its exit points, as for `train`."""

    config: TrainConfig
    folder: Path | None = None
    exits: ExitSettings = DEFAULTS


Outcome = EpochMetrics | Exception
"""Result of a member's epoch: its metrics, or the exception that ended the member."""

OnEpochs = Callable[[dict[Hashable, Outcome]], Collection[Hashable]]
"""Gets the outcome of each member's epoch by name; returns the names of the members to stop."""


def train_fused(jobs: Mapping[Hashable, FusedJob], on_epochs: OnEpochs, parts: tuple[Data, Data] | None = None) -> None:
    """Trains all jobs together, each to its last epoch; a member that fails or is stopped does not affect the rest.

    The jobs must have one shape and no obstacle (`trainers.fused.eligibility`); `parts` is as for `train`. As there, a
    job whose folder holds checkpoints resumes from the last one, and `on_epochs` gets that epoch once more.
    """
    if parts is not None and jobs:
        device = prepare(next(iter(jobs.values())).config)
        parts = parts[0].to(device), parts[1].to(device)  # once, for all members
    members, outcomes = _set_up(jobs, parts)
    members = _remaining(members, outcomes, on_epochs)
    while members:
        members = _remaining(members, train_epoch(members), on_epochs)


class Member:
    """One training of a fused training."""

    def __init__(self, name: Hashable, job: FusedJob, parts: tuple[Data, Data] | None) -> None:
        self.name = name
        self.training = Training(job.config, job.folder, parts, exits=job.exits)
        self.config, self.learner = self.training.config, self.training.learner
        self.generators = GeneratorState(self.training.device)
        self.num_epochs = 0
        self.batch_size = self.learner.batch_size(self.training.data, self.config)
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())

    def start_epoch(self) -> int:
        """Starts the next epoch; returns its number of batches."""
        with self.generators:
            self.training.start_epoch(self.num_epochs)
            self._batches = iter(self.training.data.shuffled(self.batch_size))
        return len(self.training.data) // self.batch_size

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Returns the input and the target of its next batch."""
        with self.generators:
            return self.learner.make_batch(*next(self._batches))

    def finish_epoch(self, speed: dict[str, float]) -> EpochMetrics:
        """Evaluates and saves the member."""
        metrics = self.training.evaluate(self.num_epochs, speed)
        self.training.save(metrics)
        self.num_epochs += 1
        return metrics


def _set_up(
    jobs: Mapping[Hashable, FusedJob], parts: tuple[Data, Data] | None
) -> tuple[list[Member], dict[Hashable, Outcome]]:
    """Returns the members, and the last saved epoch of those that resume, or the exception that prevents it."""
    members: list[Member] = []
    outcomes: dict[Hashable, Outcome] = {}
    for name, job in jobs.items():
        try:
            member = Member(name, job, parts)
            resumed: list[EpochMetrics] = []
            member.num_epochs = member.training.resume(resumed.append)
            members.append(member)
            outcomes.update((name, metrics) for metrics in resumed)
        except Exception as error:
            outcomes[name] = error
    return members, outcomes


def _remaining(members: Sequence[Member], outcomes: dict[Hashable, Outcome], on_epochs: OnEpochs) -> list[Member]:
    ended = {name for name, outcome in outcomes.items() if isinstance(outcome, Exception)}
    ended |= {*on_epochs(outcomes)} if outcomes else set()
    return [member for member in members if member.name not in ended and member.num_epochs < member.config.epochs]


def train_epoch(members: Sequence[Member]) -> dict[Hashable, Outcome]:
    """Trains each member for one epoch and evaluates it; returns the outcomes by name."""
    outcomes: dict[Hashable, Outcome] = {}
    batches = min([member.start_epoch() for member in members])
    fused = FusedTraining(members)
    started = time.monotonic()
    for batch in range(1, batches + 1):
        failures = fused.step(batch, batches)
        if failures:
            outcomes |= failures
            remaining = [member for member in fused.members if member.name not in failures]
            if not remaining:
                return outcomes
            fused = FusedTraining(remaining, fused)
    seconds = time.monotonic() - started
    for member, loss in zip(fused.members, (fused.total / batches).tolist(), strict=True):
        speed = {"loss": loss, "images_per_s": batches * member.batch_size / seconds, "members": len(members)}
        try:
            outcomes[member.name] = member.finish_epoch(speed)
        except Exception as error:
            outcomes[member.name] = error
    return outcomes


class FusedTraining:
    """Members that take their steps as one."""

    def __init__(self, members: Sequence[Member], previous: FusedTraining | None = None) -> None:
        self.members = members
        models = [member.learner.model for member in members]
        self.model = FusedModel(models).train()
        optimizers = [member.learner.optimizer for member in members]
        self.optimizer = FusedAdamW(self.model, models, optimizers, [member.config.clip_grad for member in members])
        self.total = torch.zeros(len(members), device=members[0].training.device)
        if previous is not None:
            self.total = previous.total[[previous.members.index(member) for member in members]]
        self._averages = [member.learner.ema for member in members if member.learner.ema is not None]
        self._penalties = [member.config.spike_penalty for member in members]
        self._parameters = {name: p for name, p in self.model.body.named_parameters() if p.requires_grad}
        left_out = {id(conv) for conv in members[0].learner.left_out}
        names = [name for name, module in models[0].named_modules() if id(module) in left_out]
        self._left_out = [self.model.body.get_submodule(name) for name in names]
        self._norms = untracked_norms(self.model)
        self._neurons = {name: module for name, module in self.model.body.named_modules() if levels(module)}

    def step(self, batch: int, batches: int) -> dict[Hashable, Outcome]:
        """Takes the step of this batch, counted from one, of the epoch; returns the failures that it shows."""
        inputs, targets = zip(*(member.next_batch() for member in self.members), strict=True)
        probed = {k: member for k, member in enumerate(self.members) if member.training.probe.is_due(batch, batches)}
        with self._probing(probed), batch_statistics(self._norms), without_biases(self._left_out):
            losses = self._losses(inputs, targets)
        found = torch.autograd.grad(losses.sum(), list(self._parameters.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(self._parameters, found, strict=True) if g is not None}
        self.optimizer.step(gradients)
        for ema in self._averages:
            ema.update()
        self.total += losses.detach()
        return self._diverged(batch, batches) | self._unhealthy(probed, gradients)

    def _losses(self, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Returns each member's loss, [K]; none depends on another member's weights."""
        on_cuda = self.members[0].config.amp and inputs[0].is_cuda
        outputs: list[Tensor] = []
        counted = self._neurons if any(self._penalties) else {}
        with (
            torch.autocast("cuda", torch.bfloat16, enabled=on_cuda),
            forward_hooks(counted, lambda name, module, output: outputs.append(magnitudes(module, output))),
        ):
            of_each = zip(self.members, self._outputs(inputs), targets, strict=True)
            losses = torch.stack([member.learner.loss(output, target) for member, output, target in of_each])
            if not counted:
                return losses
            size = self.model.size
            rates = torch.stack([_sum_by_member(x, size) for x in outputs]).sum(0)
            return losses + losses.new_tensor(self._penalties) * (rates / sum(x.numel() // size for x in outputs))

    def _outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Returns what each member's loss takes: the mean output, or with `tet` the output of each step."""
        has_steps = [member.config.tet is not None for member in self.members]
        if not any(has_steps):
            return list(self.model(inputs).float().unbind(1))  # one mean for all
        steps = self.model.forward_steps(inputs).float().unbind(2)
        return [output if kept else output.mean(0) for output, kept in zip(steps, has_steps, strict=True)]

    @contextmanager
    def _probing(self, probed: Mapping[int, Member]) -> Iterator[None]:
        """Gives the probed members the outputs of their neurons in the forward pass inside."""

        def collect(name: str, module: nn.Module, output: Tensor) -> None:
            outputs = output.detach().chunk(self.model.size, 2)
            for k, member in probed.items():
                member.training.probe.collect(name, module, outputs[k])

        with forward_hooks(self._neurons if probed else {}, collect):
            yield

    def _unhealthy(self, probed: Mapping[int, Member], gradients: Mapping[str, Tensor]) -> dict[Hashable, Outcome]:
        """Returns the failures of the probed members, whose parameters get their gradients for the check."""
        found: dict[Hashable, Outcome] = {}
        for k, member in probed.items():
            parameters = dict(member.learner.model.named_parameters())
            for name, gradient in gradients.items():
                parameters[name].grad = gradient.chunk(self.model.size)[k]
            try:
                member.training.probe.check_step()
            except TrainingFailure as failure:
                found[member.name] = failure
            member.learner.optimizer.zero_grad(set_to_none=True)
        return found

    def _diverged(self, batch: int, batches: int) -> dict[Hashable, Outcome]:
        if batch % self.members[0].config.log_interval != 0 and batch != batches:
            return {}
        finite = zip(self.members, torch.isfinite(self.total).tolist(), strict=True)
        return {member.name: loss_not_finite(batch) for member, is_finite in finite if not is_finite}


def _sum_by_member(x: Tensor, size: int) -> Tensor:
    """Returns the sum of each member's part, [K], of a tensor with K models' channels, [T, B, K C, ...]."""
    return x.sum([axis for axis in range(x.dim()) if axis != 2]).view(size, -1).sum(1)
