"""Records a forward pass as nodes of a graph: which node computes each tensor, and what functions between layers do.

Tensors are [T, B, ...] of one image, B = 1; one of T = 1 is the same at every step. A node has the shape of one step,
without a leading B of 1. A constant factor on a tensor is not yet a node: layers behind it take it into their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.overrides import TorchFunctionMode

from config.errors import ConfigError
from models.chip.graph import Node
from models.chip.ops import OPS, Array, Shape

STEPS_MIXED = "it mixes time steps, and a graph computes one step after the other"
IMAGES_MIXED = "it mixes the images of a batch, and a graph computes one image"


CONSTANTS = frozenset({"new_zeros", "new_ones", "new_tensor", "zeros_like", "ones_like"})
"""Functions of a tensor whose result does not depend on its values."""

READS = frozenset(
    {"item", "tolist", "numpy", "array", "bool", "float", "int", "iter", "contains", "equal", "allclose", "is_nonzero"}
)
"""Functions by which a forward pass could depend on an image's values without a tensor."""

Function = Callable[["Recorder", Any, dict[str, Any], Any], None]
"""Records a call of a function of torch, from its arguments and its result."""


@dataclass(frozen=True)
class Value:
    """What a tensor is: the output of a node times a factor, and its shape [T, B, ...]."""

    node: str
    factor: float
    full: Shape


def step_shape(full: Sequence[int]) -> Shape:
    """Returns the shape of one step of [T, B, ...], without B where it is 1."""
    shape = tuple(full[1:])
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


class Recorder(TorchFunctionMode):
    """The nodes of a forward pass, in the order of execution, and the values of the tensors in it."""

    def __init__(self, steps: int, functions: Mapping[str, Function]) -> None:
        super().__init__()
        self.steps, self.functions = steps, functions
        self.nodes: dict[str, Node] = {}
        self.path: list[str] = [""]
        """Dotted names of the modules that are running, the innermost last."""
        self.inside_layer = 0
        """How many running modules are recorded as a whole."""
        self._values: dict[int, tuple[Tensor, Value]] = {}

    def refuse(self, reason: str) -> ConfigError:
        """Returns the error that the running module cannot be expressed."""
        return ConfigError(f"{self.path[-1] or 'the model'}: {reason}")

    def find(self, tensor: Any) -> Value | None:
        """Returns the value of a tensor, or None if it does not depend on the image."""
        found = self._values.get(id(tensor))
        return found[1] if found is not None else None

    def known(self, tensor: Any) -> Value:
        """Returns the value of a tensor that must depend on the image."""
        found = self.find(tensor)
        if found is None:
            raise self.refuse("it computes with a constant in a way that a graph has no operation for")
        return found

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        layer: str = "",
    ) -> str:
        """Adds a node and returns its name: that of its layer, or the running module's and the operation."""
        name = base = layer or ".".join(part for part in (self.path[-1], op) if part)
        number = 2
        while name in self.nodes:
            name, number = f"{base}#{number}", number + 1
        attrs, arrays = attrs or {}, arrays or {}
        try:
            shape = OPS[op].shape([self.nodes[i].shape for i in inputs], arrays, attrs)
        except ConfigError as error:
            raise self.refuse(str(error)) from None
        self.nodes[name] = Node(name, op, shape, tuple(inputs), arrays, attrs, layer)
        return name

    def bind(self, tensor: Tensor, node: str, factor: float = 1.0) -> None:
        """Says that a tensor is the output of a node times a factor; it gets the tensor's shape."""
        if len(tensor) not in (1, self.steps):
            raise self.refuse(STEPS_MIXED)
        value = Value(self.reshaped(node, step_shape(tensor.shape)), factor, tuple(tensor.shape))
        self._values[id(tensor)] = tensor, value

    def reshaped(self, node: str, shape: Shape) -> str:
        """Returns a node with the values of a node in this shape."""
        if self.nodes[node].shape == shape:
            return node
        return self.emit("reshape", [node], {"shape": list(shape)})

    def plain(self, value: Value) -> str:
        """Returns a node of a value with its factor."""
        if value.factor == 1.0:
            return value.node
        return self.emit("scale", [value.node], arrays={"factor": np.array(value.factor)})

    def constant(self, tensor: Tensor, like: Shape) -> str:
        """Returns a node of a constant that meets a tensor of the shape `like`, [T, B, ...]."""
        return self.emit("constant", [], arrays={"value": self.per_step(tensor, like)})

    def per_step(self, tensor: Tensor, like: Sequence[int]) -> Array:
        """Returns the values of a constant at each step, for the shape of one step of `like`."""
        array = np.array(tensor.detach().double().numpy())  # a copy, as the model may write into the tensor later
        if array.ndim == len(like):
            if np.any(array != array[:1]):
                raise self.refuse("it adds or multiplies constants that differ from step to step")
            array = array[0]
        if array.ndim == len(like) - 1 and array.shape[0] == 1:
            array = array[0]
        return np.ascontiguousarray(array)

    def operand(self, x: Any, like: Shape) -> Value:
        """Returns the value of an operand, a constant as a node of its own."""
        found = self.find(x)
        return found or Value(self.constant(x, like), 1.0, like)

    def write(self, target: Tensor, index: Any, source: Tensor) -> None:
        """Records values written into the middle of a constant, the padding of a layer."""
        value = self.known(source)
        spans = [at.indices(size) for at, size in zip(index[1:], target.shape[-len(index) + 1 :], strict=True)]
        inner = [stop - start for start, stop, step in spans if step == 1]
        if index[0] is not Ellipsis or self.find(target) is not None or inner != list(source.shape[1 - len(index) :]):
            raise self.refuse("it writes into a tensor")
        sizes = target.shape[-len(spans) :]
        ends = [[start, size - stop] for (start, stop, _), size in zip(spans, sizes, strict=True)]
        node = self.plain(value)
        widths = [[0, 0]] * (len(self.nodes[node].shape) - len(ends)) + ends
        arrays = {"value": self.per_step(target, target.shape)}
        self.bind(target, self.emit("pad", [node], {"widths": widths}, arrays))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside_layer or not any(self.find(x) for x in _tensors((*args, *kwargs.values()))):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).strip("_")
        self.inside_layer += 1
        try:
            if name == "setitem":
                self.write(*args)
            result = func(*args, **kwargs)
            if name in READS or (_tensors((result,)) and name not in CONSTANTS):
                rule = self.functions.get(name)
                if rule is None:
                    raise self.refuse(f"a graph has no operation for torch's {name}")
                rule(self, args, kwargs, result)
        finally:
            self.inside_layer -= 1
        return result


def _tensors(values: Any) -> list[Tensor]:
    """Returns the tensors among values, those in lists and tuples included."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found
