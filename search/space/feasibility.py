"""What a config costs, known before it is trained, and whether the constraints allow it."""

from __future__ import annotations

from collections.abc import Mapping

from config.errors import InfeasibleError
from search.space.schema import STATIC_METRICS, Constraint
from trainers.config import TrainConfig
from trainers.datasets import DATASETS, EVENTS


def check_constraints(config: TrainConfig, constraints: Mapping[str, Constraint]) -> None:
    """Raises InfeasibleError when a constraint on parameters or MACs rules the config out."""
    asked = {name: bound for name, bound in constraints.items() if name in STATIC_METRICS}
    if not asked:
        return
    cost = static_cost(config)
    for name, bound in asked.items():
        if not bound.allows(cost[name]):
            limit = f"<= {bound.max}" if bound.max is not None and cost[name] > bound.max else f">= {bound.min}"
            raise InfeasibleError(f"{name} {limit} must hold (got {cost[name]:.4g})")


def static_cost(config: TrainConfig) -> dict[str, float]:
    """Returns `params_m`, `macs` and the number of `neurons` of a config, from its shapes alone, in milliseconds."""
    import torch

    from models import create_model
    from models.cost.meter import Meter, count_parameters

    with torch.device("meta"), torch.no_grad():
        model = create_model(config).eval()
        with Meter(model) as meter:
            meter.forward_steps(torch.empty(1, *input_shape(config)))
    layers = meter.layers.values()
    return {
        "params_m": count_parameters(model) / 1e6,
        "macs": float(sum(layer.macs_until(config.read_step) for layer in layers)),
        "neurons": float(sum(layer.neurons for layer in layers)),
    }


def input_shape(config: TrainConfig) -> tuple[int, ...]:
    """Returns the shape of one sample as the model sees it: [C, H, W], or [T, C, H, W] of event frames."""
    size = (config.img_size, config.img_size)
    if config.dataset in EVENTS:
        return (config.step, DATASETS[config.dataset]["in_channels"], *size)
    return (config.in_channels, *size)
