"""Several trainings of one shape as one batched model: each with its own numbers, data order, health and checkpoints.

A step is one forward and backward pass of a fused model (`models.fused`) and one of `trainers.fused.optimizer`. All
else is each training's own, done by the code that trains alone: its draws come from its own place in the generators,
and its batch norms, metrics, checkpoints and checks of health are those of its own model, whose weights are views of
the fused ones. So a training is the same in a group and alone, up to the rounding of sums, and can change from one to the other
at any epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.cost.counters import levels
from models.fused.model import FusedModel
from trainers.config import TrainConfig
from trainers.data.sources import Data
from trainers.diagnostics.health import TrainingFailure
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.optimizer import ManyAdamW
from trainers.loop import not_finite
from trainers.seeding import Stream
from trainers.train import Training, prepare


@dataclass(frozen=True)
class GroupJob:
    """A training that is to be one of a group; its folder, if it has one, is as for `train`."""

    config: TrainConfig
    folder: Path | None = None


Outcome = EpochMetrics | Exception
"""What became of a training's epoch: its metrics, or what ended it (TrainingFailure, or an error of its own)."""

Tell = Callable[[dict[Hashable, Outcome]], Collection[Hashable]]
"""Told what became of each member's epoch; returns the names of those that are not to go on."""

More = Callable[[int], Mapping[Hashable, GroupJob]]
"""Asked for this many further jobs at most, of the same shape, where members have ended."""


def train_group(
    jobs: Mapping[Hashable, GroupJob],
    tell: Tell,
    parts: tuple[Data, Data] | None = None,
    more: More = lambda free: {},
) -> None:
    """Trains all jobs together, each to its last epoch; one that fails or is stopped leaves without touching the rest.

    The jobs must be of one shape and without an obstacle (`trainers.fused.eligibility`); `parts` is as for `train`. As
    there, a job whose folder holds checkpoints goes on from the last one, and `tell` is told its epoch again.
    """
    if parts is not None and jobs:
        device = prepare(next(iter(jobs.values())).config)
        parts = parts[0].to(device), parts[1].to(device)  # once, for all members
    members = _join(jobs, tell, parts)
    while members:
        outcomes = _train_epoch(members)
        members = _staying(members, outcomes, tell)
        while len(members) < len(jobs) and (further := more(len(jobs) - len(members))):
            members += _join(further, tell, parts)


class Member:
    """One training of a group."""

    def __init__(self, name: Hashable, job: GroupJob, parts: tuple[Data, Data] | None) -> None:
        self.name = name
        self.training = Training(job.config, job.folder, parts)
        self.config, self.learner = self.training.config, self.training.learner
        self.stream = Stream(self.training.device)
        self.done = 0
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())

    @property
    def is_done(self) -> bool:
        return self.done >= self.config.epochs

    def begin(self) -> int:
        """Begins the next epoch; returns how many batches it has."""
        data, size = self.training.data, self.learner.batch_size(self.training.data, self.config)
        with self.stream:
            self.training.begin(self.done)
            self._batches = iter(data.shuffled(size))
        return len(data) // size

    def draw(self) -> tuple[Tensor, Tensor]:
        """Returns the input and the target of its next batch."""
        with self.stream:
            return self.learner.batch(*next(self._batches))


def _join(jobs: Mapping[Hashable, GroupJob], tell: Tell, parts: tuple[Data, Data] | None) -> list[Member]:
    """Sets up new members; those with checkpoints go on from there."""
    members: list[Member] = []
    outcomes: dict[Hashable, Outcome] = {}
    for name, job in jobs.items():
        try:
            member = Member(name, job, parts)
            told: list[EpochMetrics] = []
            member.done = member.training.resume(told.append)
        except Exception as error:
            outcomes[name] = error
        else:
            members.append(member)
            outcomes.update((name, report) for report in told)
    return _staying(members, outcomes, tell)


def _staying(members: Sequence[Member], outcomes: dict[Hashable, Outcome], tell: Tell) -> list[Member]:
    ended = {name for name, outcome in outcomes.items() if isinstance(outcome, Exception)}
    ended |= {*tell(outcomes)} if outcomes else set()
    return [member for member in members if member.name not in ended and not member.is_done]


def _train_epoch(members: Sequence[Member]) -> dict[Hashable, Outcome]:
    """Trains each member for one epoch and measures it."""
    outcomes: dict[Hashable, Outcome] = {}
    batches = min([member.begin() for member in members])
    group = Group(members)
    started = time.monotonic()
    for done in range(1, batches + 1):
        failures = group.step(done, batches)
        if failures:
            outcomes |= failures
            staying = [member for member in group.members if member.name not in failures]
            if not staying:
                return outcomes
            group = Group(staying, group)
    seconds = time.monotonic() - started
    for member, loss in zip(group.members, (group.total / batches).tolist(), strict=True):
        size = member.learner.batch_size(member.training.data, member.config)
        speed = {"loss": loss, "images_per_s": batches * size / seconds, "members": len(members)}
        member.done += 1
        try:
            outcomes[member.name] = member.training.finish(member.done - 1, speed)
        except Exception as error:
            outcomes[member.name] = error
    return outcomes


class Group:
    """Members whose steps are one."""

    def __init__(self, members: Sequence[Member], before: Group | None = None) -> None:
        self.members = members
        models = [member.learner.model for member in members]
        self.model = FusedModel(models).train()
        self.optimizer = ManyAdamW(
            self.model,
            models,
            [member.learner.optimizer for member in members],
            [member.config.clip_grad for member in members],
        )
        self.total = torch.zeros(len(members), device=members[0].training.device)
        if before is not None:
            self.total = before.total[[before.members.index(member) for member in members]]
        self._penalties = [member.config.spike_penalty for member in members]
        self._parameters = {name: p for name, p in self.model.body.named_parameters() if p.requires_grad}

    def step(self, done: int, batches: int) -> dict[Hashable, Outcome]:
        """Takes a step, which is number `done` of the epoch; returns the failures that it shows."""
        drawn = [member.draw() for member in self.members]
        due = {k: member for k, member in enumerate(self.members) if member.training.watch.is_due(done, batches)}
        with self._watched(due):
            losses = self._losses([x for x, _ in drawn], [target for _, target in drawn])
        found = torch.autograd.grad(losses.sum(), list(self._parameters.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(self._parameters, found, strict=True) if g is not None}
        self.optimizer.step(gradients)
        self.total += losses.detach()
        return self._diverged(done, batches) | self._judged(due, gradients)

    def _losses(self, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Returns each member's loss, [K]; none depends on another member's weights."""
        on_cuda = self.members[0].config.amp and inputs[0].is_cuda
        with torch.autocast("cuda", torch.bfloat16, enabled=on_cuda), self._spike_rates() as rates:
            logits = self.model(inputs).float()
            of_each = zip(self.members, logits.unbind(1), targets, strict=True)
            losses = torch.stack([member.learner.loss(outputs, target) for member, outputs, target in of_each])
            return losses + losses.new_tensor(self._penalties) * rates() if any(self._penalties) else losses

    @contextmanager
    def _spike_rates(self) -> Iterator[Callable[[], Tensor]]:
        """Yields a function that gives each member's mean spike rate, [K], of the forward pass inside."""
        outputs: list[Tensor] = []
        neurons = self._neurons().values() if any(self._penalties) else ()
        handles = [m.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for m in neurons]
        size = self.model.size
        try:
            yield (
                lambda: (
                    torch.stack([_of_each(x, size) for x in outputs]).sum(0) / sum(x.numel() // size for x in outputs)
                )
            )
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _watched(self, due: Mapping[int, Member]) -> Iterator[None]:
        """Shows the members that are due what their neurons do in the forward pass inside."""

        def hook(name: str) -> Any:
            def show(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                outputs = output.detach().chunk(self.model.size, 2)
                for k, member in due.items():
                    member.training.watch.see(name, module, outputs[k])

            return show

        handles = [module.register_forward_hook(hook(name)) for name, module in self._neurons().items() if due]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _judged(self, due: Mapping[int, Member], gradients: Mapping[str, Tensor]) -> dict[Hashable, Outcome]:
        """Returns the failures of the members that watched a step, for which they are lent their gradients."""
        found: dict[Hashable, Outcome] = {}
        for k, member in due.items():
            theirs = dict(member.learner.model.named_parameters())
            for name, gradient in gradients.items():
                theirs[name].grad = gradient.chunk(self.model.size)[k]
            try:
                member.training.watch.judge()
            except TrainingFailure as failure:
                found[member.name] = failure
            member.learner.optimizer.zero_grad(set_to_none=True)
        return found

    def _diverged(self, done: int, batches: int) -> dict[Hashable, Outcome]:
        if done % self.members[0].config.log_interval != 0 and done != batches:
            return {}
        finite = torch.isfinite(self.total).tolist()
        return {
            member.name: not_finite(done)
            for member, is_finite in zip(self.members, finite, strict=True)
            if not is_finite
        }

    def _neurons(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.model.body.named_modules() if levels(module)}


def _of_each(x: Tensor, size: int) -> Tensor:
    """Returns the sum of each member's part, [K], of what K models give side by side, [T, B, K C, ...]."""
    return x.sum([axis for axis in range(x.dim()) if axis != 2]).view(size, -1).sum(1)
