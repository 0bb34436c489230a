"""AdamW for fused training: each row of a matrix is a member, with its own learning rate, decay and step count.

The formula is torch.optim.AdamW's. The members' own optimizers hold the state, as views of the rows, so that a member
can be saved and resumed alone. They also hold the learning rates, which their schedules set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.device import copy_to
from models.fused.model import FusedModel
from models.parts.backbone import SpikingModel

AVERAGES = ("exp_avg", "exp_avg_sq")


class FusedAdamW:
    """Steps the weights of a fused model with the rates and decays that the optimizers have at the first step."""

    def __init__(
        self,
        model: FusedModel,
        members: Sequence[SpikingModel],
        optimizers: Sequence[torch.optim.Optimizer],
        clip_grad: Sequence[float | None],
    ) -> None:
        self.model, self.optimizers = model, optimizers
        self._weights = dict(model.body.named_parameters())
        self._member_weights = [dict(member.named_parameters()) for member in members]
        self._defaults = optimizers[0].param_groups[0]
        limits = [float("inf") if limit is None else limit for limit in clip_grad]
        self._max_norms = torch.tensor(limits, device=next(model.parameters()).device).unsqueeze(1)
        self._clips = any(limit is not None for limit in clip_grad)
        self._state: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Takes one step. Weights without gradient do not change, as in PyTorch."""
        if self._state is None:
            self._state = self._stack_state(list(gradients))
            self._rates, self._decays = self._stack_rates(list(gradients))
        steps, mean, square = self._state
        gradient = torch.cat([g.reshape(self.model.size, -1) for g in gradients.values()], 1)
        if self._clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient *= (self._max_norms / (norm + 1e-6)).clamp(max=1.0)
        beta1, beta2 = self._defaults["betas"]
        steps += 1
        count = steps[:, :1].double()
        mean.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        spread = copy_to(mean, (1.0 - beta2**count).sqrt().to(mean.dtype))
        size = copy_to(mean, (self._rates / (1.0 - beta1**count)).to(mean.dtype))
        update = mean / (square.sqrt() / spread + self._defaults["eps"]) * size
        flat = [self._weights[name].view(self.model.size, -1) for name in gradients]
        torch._foreach_mul_(flat, self._decays)
        torch._foreach_sub_(flat, list(torch.split(update, [w.shape[1] for w in flat], 1)))

    def _stack_state(self, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns step counts [K, weights] and both averages [K, numbers], of which the optimizers now hold views.

        Weights without state start at 0.
        """
        weights = [self._weights[name] for name in names]
        sizes = [weight.numel() // self.model.size for weight in weights]
        steps = torch.zeros(self.model.size, len(sizes))
        averages = [weights[0].new_zeros(self.model.size, sum(sizes)) for _ in AVERAGES]
        for k, (optimizer, parameters) in enumerate(zip(self.optimizers, self._member_weights, strict=True)):
            rows = [torch.split(average[k], sizes) for average in averages]
            for i, name in enumerate(names):
                state = optimizer.state[parameters[name]]
                views = {key: row[i].view_as(parameters[name]) for key, row in zip(AVERAGES, rows, strict=True)}
                for key, view in {"step": steps[k, i], **views}.items():
                    if key in state:
                        view.copy_(state[key])
                    state[key] = view
        return steps, averages[0], averages[1]

    def _stack_rates(self, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Returns the members' learning rates [K, 1], and each weight's factors [K, 1] of decoupled decay."""
        rates, decays = [], []
        for optimizer, parameters in zip(self.optimizers, self._member_weights, strict=True):
            groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
            chosen = [groups[id(parameters[name])] for name in names]
            rates.append([chosen[-1]["lr"]])
            decays.append([1.0 - group["lr"] * group["weight_decay"] for group in chosen])
        factors = torch.tensor(decays, dtype=torch.float64).to(self._weights[names[0]])
        return torch.tensor(rates, dtype=torch.float64), list(torch.split(factors, 1, 1))
