"""Looks into single steps of training: what each layer of neurons does, what gradient each layer gets.

A look costs a few small kernels a layer and one transfer from the device; the other steps run without hooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.cost.counters import levels, spikes_per_value
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head
from trainers.diagnostics.health import INPUT, OUTPUT, Activity, Health, Routes


@dataclass
class Probe:
    """Looks at the batches that `health` asks for: some early ones, and the last one of most epochs."""

    model: SpikingModel
    health: Health
    epoch: int = 0
    batches: int = 1
    """Batches of an epoch, as the last step told."""
    _seen: dict[str, list[Tensor]] = field(default_factory=dict)

    def is_due(self, done: int, batches: int) -> bool:
        """Returns whether the batch of this number, from one, of the epoch is looked at. Called for every batch."""
        self.batches = batches
        return self.health.is_due(self.epoch * batches + done, batches)

    @contextmanager
    def step(self, done: int, batches: int) -> Iterator[None]:
        """Stands around one step of training. Raises TrainingFailure when what it sees is a failure."""
        if not self.is_due(done, batches):
            yield
            return
        neurons = [(name, module) for name, module in self.model.named_modules() if levels(module)]
        handles = [module.register_forward_hook(self._hook(name, module)) for name, module in neurons]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self.judge()

    def check(self, metrics: dict[str, float], layers: list[dict[str, Any]]) -> None:
        """Has the health judge the evaluation that followed the epoch. Raises TrainingFailure."""
        self.health.check(metrics, layers, self.health.is_judged(self.epoch + 1, self.batches))

    def _hook(self, name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.see(name, module, output)

        return hook

    @torch.no_grad()
    def see(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Takes note of what a layer of neurons gave."""
        self._seen.setdefault(name, []).append(_activity(output, levels(module) / spikes_per_value(module)))

    def judge(self) -> None:
        """Judges what was seen since the last time, and the gradients as they are. Raises TrainingFailure."""
        activities, norms = self._read()
        self._seen = {}
        self.health.check_batch(activities, norms)

    @torch.no_grad()
    def _read(self) -> tuple[dict[str, Activity], dict[str, float]]:
        """Returns the activities and the norms of the gradients, in one transfer."""
        layers = {name: module for name, module in _weighted(self.model).items() if module.weight.requires_grad}
        gradients = [module.weight.grad for module in layers.values()]
        known = [gradient for gradient in gradients if gradient is not None]
        seen = [torch.stack(readings).mean(0) for readings in self._seen.values()]
        values = torch.cat([*seen, torch.stack(torch._foreach_norm(known)).float()]).tolist()
        norms = iter(values[3 * len(seen) :])
        activities = {name: Activity(*values[3 * i : 3 * i + 3]) for i, name in enumerate(self._seen)}
        return activities, {
            name: 0.0 if gradient is None else next(norms) for name, gradient in zip(layers, gradients, strict=True)
        }


def _activity(output: Tensor, largest: float) -> Tensor:
    """Returns [rate, never, always] of spikes [T, B, ...] whose largest value is `largest`."""
    whole = output.shape[0] * largest
    sums = output.sum(0, dtype=torch.float32)
    never = sums.amax(0) == 0
    return torch.stack((sums.mean() / whole, never.float().mean(), (sums >= whole).float().mean()))


def _weighted(model: nn.Module) -> dict[str, Conv | Head]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Conv | Head)}


def routes(model: SpikingModel) -> Routes:
    """Returns what feeds what among layers of neurons and of weights, as the graph of one evaluated image tells."""
    config, parameter = model.config, next(model.parameters())
    image = torch.zeros(1, config.in_channels, config.img_size, config.img_size, device=parameter.device)
    image.requires_grad_()
    owners: dict[Any, str] = {}
    names = {name: module for name, module in model.named_modules() if levels(module)} | _weighted(model)

    def owner(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            owners[output.grad_fn] = name

        return hook

    handles = [module.register_forward_hook(owner(name)) for name, module in names.items()]
    was_training = model.training
    model.eval()  # leaves batch norms and dropout alone; some neurons give no gradient so
    for module in names.values():
        module.train()
    try:
        with torch.enable_grad():
            logits = model.forward_steps(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    found: dict[str, set[str]] = {}
    for node, name in owners.items():
        found.setdefault(name, set()).update(_sources(node, owners, image))
    found[OUTPUT] = _sources(logits.sum().grad_fn, owners, image)
    return {name: frozenset(sources - {name}) for name, sources in found.items()}


def _sources(start: Any, owners: dict[Any, str], image: Tensor) -> set[str]:
    """Returns the nearest layers, or the input, that a node of the graph depends on."""
    sources: set[str] = set()
    todo, seen = [node for node, _ in start.next_functions], {start}
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in owners:
            sources.add(owners[node])
        elif getattr(node, "variable", None) is image:
            sources.add(INPUT)
        else:
            todo += [before for before, _ in node.next_functions]
    return sources
