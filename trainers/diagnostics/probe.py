"""Probes of single training steps: the activity of each neuron layer and the gradient of each weighted layer.

A probed step costs a few small kernels per layer and one transfer from the device; the other steps run without hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.cost.counters import levels, magnitudes, spikes_per_value
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head
from trainers.diagnostics.health import INPUT, OUTPUT, Activity, Health, Routes


@contextmanager
def forward_hooks(modules: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Calls `hook(name, module, output)` after each forward pass of a module inside the context."""

    def named(name: str) -> Any:
        return lambda module, inputs, output: hook(name, module, output)

    handles = [module.register_forward_hook(named(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Probe:
    """Probes the batches that `health` asks for: some early ones, and the last one of most epochs."""

    model: SpikingModel
    health: Health
    epoch: int = 0
    _batch: int = 0
    """The last batch, counted from one over the whole training."""
    _activities: dict[str, list[Tensor]] = field(default_factory=dict)

    def is_due(self, batch: int, batches: int) -> bool:
        """Returns whether a batch of the epoch, counted from one, is probed. Must be called for every batch."""
        self._batch = self.epoch * batches + batch
        return self.health.is_due(self._batch, batches)

    @contextmanager
    def step(self, batch: int, batches: int) -> Iterator[bool]:
        """Wraps one training step, and probes it if it is due; yields whether it is. Raises TrainingFailure."""
        if not self.is_due(batch, batches):
            yield False
            return
        with forward_hooks(_neurons(self.model), self.collect):
            yield True
        self.check_step()

    def check_epoch(self, metrics: dict[str, float], layers: list[dict[str, Any]]) -> None:
        """Checks the evaluation that followed the epoch. Raises TrainingFailure."""
        self.health.check(metrics, layers, self._batch)

    @torch.no_grad()
    def collect(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Adds the output of a neuron layer to the activities of the current step."""
        spikes, largest = magnitudes(module, output), levels(module) / spikes_per_value(module)
        self._activities.setdefault(name, []).append(_activity(spikes, largest))

    def check_step(self) -> None:
        """Checks the activities collected since the last check, and the current gradients. Raises TrainingFailure."""
        activities, norms = self._read()
        self._activities = {}
        self.health.check_batch(activities, norms, self._batch)

    @torch.no_grad()
    def _read(self) -> tuple[dict[str, Activity], dict[str, float]]:
        """Returns the activities and the norms of the gradients, in one transfer."""
        layers = {name: module for name, module in _weighted(self.model).items() if module.weight.requires_grad}
        gradients = [module.weight.grad for module in layers.values()]
        existing = [gradient for gradient in gradients if gradient is not None]
        means = [torch.stack(readings).mean(0) for readings in self._activities.values()]
        values = torch.cat([*means, torch.stack(torch._foreach_norm(existing)).float()]).tolist()
        norms = iter(values[3 * len(means) :])
        activities = {name: Activity(*values[3 * i : 3 * i + 3]) for i, name in enumerate(self._activities)}
        return activities, {
            name: 0.0 if gradient is None else next(norms) for name, gradient in zip(layers, gradients, strict=True)
        }


def _activity(output: Tensor, largest: float) -> Tensor:
    """Returns [rate, never, always] of spikes [T, B, ...] whose largest value is `largest`."""
    maximum = output.shape[0] * largest
    sums = output.sum(0, dtype=torch.float32)
    never = sums.amax(0) == 0
    return torch.stack((sums.mean() / maximum, never.float().mean(), (sums >= maximum).float().mean()))


def _neurons(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if levels(module)}


def _weighted(model: nn.Module) -> dict[str, Conv | Head]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Conv | Head)}


def routes(model: SpikingModel) -> Routes:
    """Returns the layers that feed each layer of neurons or weights, from the graph of one evaluated image."""
    config, parameter = model.config, next(model.parameters())
    image = torch.zeros(1, config.in_channels, config.img_size, config.img_size, device=parameter.device)
    image.requires_grad_()
    owners: dict[Any, str] = {}
    layers: dict[str, nn.Module] = {**_neurons(model), **_weighted(model)}
    was_training = model.training
    model.eval()  # leaves batch norms and dropout alone; some neurons then give no gradient
    for layer in layers.values():
        layer.train()
    try:
        with torch.enable_grad(), forward_hooks(layers, lambda name, _, out: owners.update({out.grad_fn: name})):
            logits = model.forward_steps(image)
    finally:
        model.train(was_training)
    found: dict[str, set[str]] = {}
    for node, name in owners.items():
        found.setdefault(name, set()).update(_sources(node, owners, image))
    found[OUTPUT] = _sources(logits.sum().grad_fn, owners, image)
    return {name: frozenset(sources - {name}) for name, sources in found.items()}


def _sources(start: Any, owners: dict[Any, str], image: Tensor) -> set[str]:
    """Returns the nearest layers, or the input, that a node of the graph depends on."""
    sources: set[str] = set()
    todo, visited = [node for node, _ in start.next_functions], {start}
    while todo:
        node = todo.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if node in owners:
            sources.add(owners[node])
        elif getattr(node, "variable", None) is image:
            sources.add(INPUT)
        else:
            todo += [previous for previous, _ in node.next_functions]
    return sources
