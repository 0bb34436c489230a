"""AdamW of several trainings at once: each row of a matrix is a training, with its own rate, decay and count of steps.

The formula is torch.optim.AdamW's. The trainings' own optimizers keep the state, as views of the rows, so that they can
be saved and gone on with alone; they say the rates as well, which their schedules set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from models.fused.model import FusedModel
from models.parts.backbone import SpikingModel

AVERAGES = ("exp_avg", "exp_avg_sq")


class ManyAdamW:
    """Steps the weights of a fused model; rates and decays are those that the optimizers have when it is made."""

    def __init__(
        self,
        model: FusedModel,
        members: Sequence[SpikingModel],
        optimizers: Sequence[torch.optim.Optimizer],
        clip_grad: Sequence[float | None],
    ) -> None:
        self.model, self.optimizers = model, optimizers
        self.device = next(model.parameters()).device
        self._weights = dict(model.body.named_parameters())
        self._theirs = [dict(member.named_parameters()) for member in members]
        self._groups = [{id(p): group for group in o.param_groups for p in group["params"]} for o in optimizers]
        self._largest = self._column([float("inf") if limit is None else limit for limit in clip_grad])
        self._clips = any(limit is not None for limit in clip_grad)
        self._opened: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Takes one step. Weights without gradient are left alone, as by PyTorch."""
        weights = [self._weights[name] for name in gradients]
        steps, mean, square = self._opened or self._open(gradients)
        gradient = torch.cat([g.reshape(self.model.size, -1) for g in gradients.values()], 1)
        if self._clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient *= (self._largest / (norm + 1e-6)).clamp(max=1.0)
        beta1, beta2 = self._first["betas"]
        steps += 1
        count = steps[:, :1].double()
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        spread = (1.0 - beta2**count).sqrt().to(mean)
        size = (self._rates / (1.0 - beta1**count)).to(mean)
        update = mean / (square.sqrt() / spread + self._first["eps"]) * size
        flat = [w.view(self.model.size, -1) for w in weights]
        torch._foreach_mul_(flat, self._keeps)
        torch._foreach_sub_(flat, list(torch.split(update, [w.shape[1] for w in flat], 1)))

    def _open(self, names: Iterable[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Lays out the state and gives each optimizer its part; what it has not seen yet starts at 0."""
        K, weights = self.model.size, [self._weights[name] for name in names]
        sizes = [weight.numel() // K for weight in weights]
        steps = torch.zeros(K, len(sizes))
        averages = [torch.zeros(K, sum(sizes), device=self.device, dtype=weights[0].dtype) for _ in AVERAGES]
        keeps = torch.ones(K, len(sizes), dtype=torch.float64)
        rates = torch.zeros(K, 1, dtype=torch.float64)
        for k, (optimizer, theirs, groups) in enumerate(zip(self.optimizers, self._theirs, self._groups, strict=True)):
            rows = [torch.split(average[k], sizes) for average in averages]
            for i, name in enumerate(names):
                parameter = theirs[name]
                group, state = groups[id(parameter)], optimizer.state[parameter]
                keeps[k, i], rates[k] = 1.0 - group["lr"] * group["weight_decay"], group["lr"]
                if state:
                    steps[k, i] = state["step"]
                state["step"] = steps[k, i]
                for average, row in zip(AVERAGES, rows, strict=True):
                    view = row[i].view_as(parameter)
                    if average in state:
                        view.copy_(state[average])
                    state[average] = view
        self._first = self.optimizers[0].param_groups[0]
        self._rates = rates
        self._keeps = list(torch.split(keeps.to(weights[0]), 1, 1))
        self._opened = (steps, averages[0], averages[1])
        return self._opened

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device).unsqueeze(1)
