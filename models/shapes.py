"""Models without memory or values, for what follows from their shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

IN_PLACE = frozenset(
    {"uniform_", "normal_", "trunc_normal_", "zero_", "fill_", "erfinv_", "mul_", "add_", "clamp_", "copy_"}
)
"""Functions that give an initial value to a tensor."""


class WithoutValues(TorchFunctionMode):
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
