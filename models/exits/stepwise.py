"""Models run step by step on the images of a batch that have not exited yet.

Shapes: `T` steps, `B` images, `K` classes. The neurons carry their states from call to call, and the first layer of a
still image runs once, as in a run of all steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from spikingjelly.activation_based import base, functional
from torch import Tensor, nn

from config.errors import ConfigError
from models.attention.tim import TemporalInteraction
from models.exits.rules import Thresholds, per_step, rule_of
from models.feasibility import check_feasible, exit_obstacle
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv


class Exited(NamedTuple):
    """Logits [B, K] of the read-outs at which the images exited, and the steps [B] that they ran."""

    logits: Tensor
    steps: Tensor


class WithExits(nn.Module):
    """A model that ends the run of each image once its read-out is sure; for evaluation, without gradients."""

    def __init__(self, model: SpikingModel, rule: str, thresholds: Thresholds) -> None:
        super().__init__()
        self.model = model
        self.rule = rule
        self.thresholds = per_step(thresholds, model.config.step)
        self.train(model.training)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Exited:
        """Returns logits and steps of still images [B, C, H, W] or of sequences [B, T, C, H, W]."""
        if self.model.training:
            raise ConfigError("exits are for evaluation: call eval() first")
        steps = self.model.config.step
        rows = torch.arange(len(x), device=x.device)
        taken = torch.full((len(x),), steps, device=x.device)
        result: Tensor | None = None
        means: list[Tensor] = []
        with _Run(self.model, x) as run:
            for t in range(steps):
                logits = run.next_step()
                means.append(logits if t == 0 else means[-1] + (logits - means[-1]) / (t + 1))
                result = logits.new_empty(len(x), logits.shape[1]) if result is None else result
                left = self._left(means)
                result[rows], taken[rows] = means[-1], t + 1
                if not len(left):
                    break
                if len(left) < len(rows):
                    rows, means = rows[left], [mean[left] for mean in means]
                    run.keep(left)
        assert result is not None
        return Exited(result, taken)

    def _left(self, means: list[Tensor]) -> Tensor:
        """Returns the positions of the images that have not exited; none after the last step."""
        t = len(means) - 1
        if t == len(self.thresholds):
            return torch.zeros(0, dtype=torch.long)
        certainty = rule_of(self.rule).certainty(torch.stack(means))[-1]
        return (certainty < self.thresholds[t]).nonzero().squeeze(1)


def with_exits(model: SpikingModel, rule: str | None = None, threshold: Thresholds | None = None) -> WithExits:
    """Returns a module that gives logits [B, K] and steps [B], and runs no step of an image that has exited.

    Rule and threshold are by default those of the model's train file. Raises ConfigError for models in which an image
    cannot exit, as its output depends on later steps or on other images.
    """
    config = model.config
    changes = {
        "exit_rule": rule or config.exit_rule,
        "exit_threshold": config.exit_threshold if threshold is None else threshold,
        "read_step": config.step,
    }
    if None in changes.values():
        raise ConfigError("with_exits needs a rule and a threshold, such as with_exits(model, 'confidence', 0.9)")
    if not model.is_causal:
        raise ConfigError(f"with_exits: {exit_obstacle(config) or 'the model is not causal'}")
    checked = config.model_copy(update=changes)
    check_feasible(checked)
    assert checked.exit_rule is not None
    assert checked.exit_threshold is not None
    return WithExits(model, checked.exit_rule, checked.exit_threshold)


class _Run:
    """A run of a model, one step per call, whose batch may shrink between the calls."""

    def __init__(self, model: SpikingModel, x: Tensor) -> None:
        self.model = model
        self._input = model.as_steps(x)
        self._is_still = len(self._input) == 1
        self._t = 0
        modules = list(model.modules())
        self._first = [_Once(m) for m in modules if self._is_still and isinstance(m, Conv) and m.fed == "input"]
        self._repeaters = [module for module in modules if isinstance(getattr(module, "step", None), int)]
        self._interactions = [module for module in modules if isinstance(module, TemporalInteraction)]
        self._neurons = [module for module in modules if isinstance(module, base.MemoryModule)]

    def __enter__(self) -> _Run:
        functional.reset_net(self.model)
        for repeater in self._repeaters:  # of a still image
            repeater.step = 1  # type: ignore[assignment]
        for interaction in self._interactions:
            interaction.carries = True
        for first in self._first:
            first.conv.forward = first  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        for repeater in self._repeaters:
            repeater.step = self.model.config.step  # type: ignore[assignment]
        for interaction in self._interactions:
            interaction.carries, interaction.past = False, None
        for first in self._first:
            del first.conv.forward
        functional.reset_net(self.model)

    def next_step(self) -> Tensor:
        """Returns the logits of the next step, [B, K]."""
        now = self._input if self._is_still else self._input[self._t : self._t + 1]
        self._t += 1
        return self.model.step_logits(now)[0]

    def keep(self, index: Tensor) -> None:
        """Drops all images but those at these positions."""
        batch = self._input.shape[1]
        self._input = self._input[:, index]
        for first in self._first:
            first.keep(index)
        for interaction in self._interactions:
            interaction.past = None if interaction.past is None else interaction.past[:, index]
        for neuron in self._neurons:
            for name, state in neuron._memories.items():
                if isinstance(state, Tensor) and state.dim():
                    assert len(state) == batch, f"a state of {type(neuron).__name__} has no row per image"
                    neuron._memories[name] = state[index]


class _Once:
    """The first layer on a still image: computed at the first step, then reused."""

    def __init__(self, conv: Conv) -> None:
        self.conv = conv
        self._output: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._output is None:
            self._output = type(self.conv).forward(self.conv, x)
        return self._output

    def keep(self, index: Tensor) -> None:
        """Drops all images but those at these positions."""
        self._output = None if self._output is None else self._output[:, index]
