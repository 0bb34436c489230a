"""Models without memory or values, for what follows from their shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from models.build import create_model
from models.config import ModelConfig
from models.cost.counters import levels
from models.parts.backbone import SpikingModel

IN_PLACE = frozenset(
    {"uniform_", "normal_", "trunc_normal_", "zero_", "fill_", "erfinv_", "mul_", "add_", "clamp_", "copy_"}
)
"""Functions that give an initial value to a tensor."""


class _WithoutValues(TorchFunctionMode):
    """Skips the initial values of tensors that hold none, which PyTorch computes slowly."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in IN_PLACE:
            target: Tensor = args[0] if args else kwargs["tensor"]  # functions of nn.init pass it by name
            if target.is_meta:
                return target
        return func(*args, **kwargs)


def shape_model(config: ModelConfig) -> SpikingModel:
    """Returns the model of a config on the device `meta`."""
    with torch.device("meta"), _WithoutValues():
        return create_model(config)


def skip_elementwise(model: nn.Module) -> None:
    """Replaces neurons and norms, whose output has the shape of their input, as PyTorch computes that slowly."""
    for module in model.modules():
        if levels(module) or isinstance(module, _BatchNorm):
            module.forward = torch.empty_like
