"""Feasibility of a config before training: its static cost, and the constraints on that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from config.errors import ConfigError, InfeasibleError
from models.config import ModelConfig
from search.space.schema import STATIC_METRICS, Constraint
from trainers.config import TrainConfig
from trainers.datasets import DATASETS, EVENTS
from trainers.optimization.initial_weights import initial_weights_problem

SHAPELESS: Mapping[str, Any] = {
    "tau": 2.0,
    "threshold": 1.0,
    "attn_threshold": 0.5,
    "act_function": "sigmoid",
    "alpha": 4.0,
    "tim_alpha": 0.5,
    "tim_threshold": 0.3,
    "attn_drop": 0.0,
    "mlp_drop": 0.0,
}
"""Model keys on which no shape and no count depends, with one value for all configs."""
PARTS = ("model", "embed_layer", "attn_layer", "pos_layer", "residual", "node_type")
"""Model keys that name parts."""
MAX_CACHED = 4096
"""Architectures whose counts are kept."""
_parts_with_steps: dict[tuple[Any, ...], bool] = {}


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
    for name, bound in constraints.items():
        if name not in STATIC_METRICS:
            continue
        cost = parameters_m(config) if name == "params_m" else static_cost(config)[name]
        if bound.violation(cost) > 0:
            limit = f"<= {bound.max}" if bound.max is not None and cost > bound.max else f">= {bound.min}"
            raise InfeasibleError(f"{name} {limit} must hold (got {cost:.4g})")


def parameters_m(config: TrainConfig) -> float:
    """Returns the trainable parameters of a config in millions, without allocating them (in a hundredth of a second).

    They are counted once for all configs of one architecture, whatever their steps if no parameter depends on these.
    """
    two_steps = _architecture(config, {"step": 2, "read_step": 2})
    return _parameters_m(_architecture(config, {}) if _has_parameters_of_steps(two_steps) else two_steps)


def _has_parameters_of_steps(two_steps: ModelConfig) -> bool:
    """Returns whether parameters of each step exist, as in PSN; it is found out once for each combination of parts."""
    parts = tuple(getattr(two_steps, key) for key in PARTS)
    if parts not in _parts_with_steps:
        three_steps = two_steps.model_copy(update={"step": 3, "read_step": 3})
        _parts_with_steps[parts] = _parameters_m(two_steps) != _parameters_m(three_steps)
    return _parts_with_steps[parts]


def check_initial_weights(config: TrainConfig) -> None:
    """Raises InfeasibleError if the model cannot take the weights of its `initial_checkpoint`."""
    try:
        problem = initial_weights_problem(config)
    except ConfigError as error:  # not a weights file
        problem = str(error)
    if problem is not None:
        raise InfeasibleError(f"initial_checkpoint must hold weights that fit the model (got {problem})")


def static_cost(config: TrainConfig) -> dict[str, float]:
    """Returns what follows from the shapes of a config: `params_m`, `macs`, `neurons`, and `operations`.

    `neurons` are counted once, and `operations` (multiply-adds of weights and attention if no input were sparse) over
    all steps.
    """
    return dict(_static_cost(_architecture(config, {}), input_shape(config)))


def _architecture(config: TrainConfig, others: Mapping[str, Any]) -> ModelConfig:
    """Returns the model's config with other values of some keys, and one value of those that change no shape."""
    keys = {name: getattr(config, name) for name in ModelConfig.model_fields}
    if config.attn_scale != "learnable":
        keys["attn_scale"] = 0.125
    return ModelConfig.model_construct(**{**keys, **SHAPELESS, **others})


@lru_cache(maxsize=MAX_CACHED)
def _parameters_m(config: ModelConfig) -> float:
    from models.build import shape_model
    from models.cost.meter import count_parameters

    return count_parameters(shape_model(config)) / 1e6


@lru_cache(maxsize=MAX_CACHED)
def _static_cost(config: ModelConfig, shape: tuple[int, ...]) -> Mapping[str, float]:
    import torch

    from models.build import shape_model
    from models.cost.counters import skip_elementwise
    from models.cost.meter import Meter, count_parameters

    model = shape_model(config)
    skip_elementwise(model)
    with torch.device("meta"), torch.no_grad(), Meter(model.eval()) as meter:
        meter.forward_steps(torch.empty(1, *shape))
    layers = meter.layers.values()
    return {
        "params_m": count_parameters(model) / 1e6,
        "macs": float(sum(layer.until(config.read_step).macs for layer in layers)),
        "neurons": float(sum(layer.neurons for layer in layers)),
        "operations": float(sum(layer.shape.dense * layer.until(config.step).runs for layer in layers)),
    }


def input_shape(config: TrainConfig) -> tuple[int, ...]:
    """Returns the shape of one sample as the model gets it: [C, H, W], or [T, C, H, W] of event frames."""
    size = (config.img_size, config.img_size)
    if config.dataset in EVENTS:
        return (config.step, DATASETS[config.dataset]["in_channels"], *size)
    return (config.in_channels, *size)
