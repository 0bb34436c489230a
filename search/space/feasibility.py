"""Feasibility of a config before training: its static cost, and the constraints on that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from config.errors import ConfigError, InfeasibleError
from search.space.schema import STATIC_METRICS, Constraint
from trainers.config import TrainConfig
from trainers.datasets import DATASETS, EVENTS
from trainers.optimization.initial_weights import initial_weights_problem


def refusal_cause(error: InfeasibleError) -> str:
    """Returns the reason of a refusal without the values, so that equal causes can be counted."""
    return str(error).split(" (got")[0]


class Refusals(Counter[str]):
    """Number of refused configs by cause."""

    def add(self, error: InfeasibleError) -> None:
        """Counts one refusal."""
        self[refusal_cause(error)] += 1

    def error(self) -> ConfigError:
        """Returns the error for a space in which every config was refused."""
        causes = "; ".join(f"{cause} ({count}x)" for cause, count in self.most_common(3))
        return ConfigError(
            f"space: all of {self.total()} sampled configs were refused: {causes}. Widen space or constraints"
        )


def check_constraints(config: TrainConfig, constraints: Mapping[str, Constraint]) -> None:
    """Raises InfeasibleError if a constraint on parameters or MACs excludes the config."""
    static = {name: bound for name, bound in constraints.items() if name in STATIC_METRICS}
    if not static:
        return
    cost = static_cost(config)
    for name, bound in static.items():
        if bound.violation(cost[name]) > 0:
            limit = f"<= {bound.max}" if bound.max is not None and cost[name] > bound.max else f">= {bound.min}"
            raise InfeasibleError(f"{name} {limit} must hold (got {cost[name]:.4g})")


def check_initial_weights(config: TrainConfig) -> None:
    """Raises InfeasibleError if the model cannot take the weights of its `initial_checkpoint`."""
    try:
        problem = initial_weights_problem(config)
    except ConfigError as error:  # not a weights file
        problem = str(error)
    if problem is not None:
        raise InfeasibleError(f"initial_checkpoint must hold weights that fit the model (got {problem})")


def static_cost(config: TrainConfig) -> dict[str, float]:
    """Returns `params_m`, `macs` and the number of `neurons` of a config, from shapes alone (in milliseconds)."""
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
    """Returns the shape of one sample as the model gets it: [C, H, W], or [T, C, H, W] of event frames."""
    size = (config.img_size, config.img_size)
    if config.dataset in EVENTS:
        return (config.step, DATASETS[config.dataset]["in_channels"], *size)
    return (config.in_channels, *size)
