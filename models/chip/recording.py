"""Records a forward pass as nodes of a graph: which node computes each tensor, and what functions between layers do.

Tensors are [T, B, ...] of one image, B = 1; one of T = 1 is the same at every step. A node has the shape of one step,
without a leading B of 1. A constant factor on a tensor is not yet a node: layers behind it take it into their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from config.errors import ConfigError
from models.chip.graph import Node
from models.chip.ops import OPS, Array, Shape

STEPS_MIXED = "it mixes time steps, and a graph computes one step after the other"
IMAGES_MIXED = "it mixes the images of a batch, and a graph computes one image"


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

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
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
        array = tensor.detach().double().numpy()
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
                _write(self, *args)
            result = func(*args, **kwargs)
            if name in READS or (_tensors((result,)) and name not in CONSTANTS):
                rule = FUNCTIONS.get(name)
                if rule is None:
                    raise self.refuse(f"a graph has no operation for torch's {name}")
                rule(self, args, kwargs, result)
        finally:
            self.inside_layer -= 1
        return result


CONSTANTS = frozenset({"new_zeros", "new_ones", "new_tensor", "zeros_like", "ones_like"})
"""Functions of a tensor whose result does not depend on its values."""

READS = frozenset({"item", "tolist", "numpy", "bool", "float", "int"})
"""Functions by which a forward pass could depend on an image's values without a tensor."""

Function = Callable[[Recorder, Any, dict[str, Any], Any], None]


def _tensors(values: Any) -> list[Tensor]:
    """Returns the tensors among values, those in lists and tuples included."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found


def _known(recorder: Recorder, x: Any) -> Value:
    found = recorder.find(x)
    if found is None:
        raise recorder.refuse("it computes with a constant in a way that a graph has no operation for")
    return found


def _reshape(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = _known(recorder, args[0])
    if len(result) != value.full[0]:
        raise recorder.refuse(STEPS_MIXED if value.full[1] == 1 else IMAGES_MIXED)
    recorder.bind(result, value.node, value.factor)


def _expand(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = recorder.find(args[0])
    if value is None:  # a constant, with the shape of a value
        return
    if tuple(result.shape[1:]) != value.full[1:]:
        raise recorder.refuse("it repeats values along an axis other than the steps")
    recorder.bind(result, value.node, value.factor)


def _permuted(recorder: Recorder, args: Any, result: Tensor, axes: list[int]) -> None:
    """Records a permutation of [T, B, ...]."""
    value = _known(recorder, args[0])
    if axes[0] != 0:
        raise recorder.refuse(STEPS_MIXED)
    if axes[1] == 1 and value.full[1] == 1 and len(axes) > 2:
        node, moved = value.node, [axis - 2 for axis in axes[2:]]
    else:
        node, moved = recorder.reshaped(value.node, value.full[1:]), [axis - 1 for axis in axes[1:]]
    recorder.bind(result, recorder.emit("transpose", [node], {"axes": moved}), value.factor)


def _transpose(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    axes = list(range(result.dim()))
    first, second = (axis % result.dim() for axis in args[1:3])
    axes[first], axes[second] = second, first
    _permuted(recorder, args, result, axes)


def _permute(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    given = args[1] if isinstance(args[1], list | tuple) else args[1:]
    _permuted(recorder, args, result, [axis % result.dim() for axis in given])


def _cut(recorder: Recorder, value: Value, result: Tensor, axis: int, span: range) -> None:
    """Records the part of [T, B, ...] at these positions of an axis."""
    if axis == 0:
        raise recorder.refuse(STEPS_MIXED)
    node = recorder.reshaped(value.node, value.full[1:])
    attrs = {"axis": axis - 1, "start": span.start, "stop": span.stop, "step": span.step}
    recorder.bind(result, recorder.emit("slice", [node], attrs), value.factor)


def _split(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Any) -> None:
    value = _known(recorder, args[0])
    axis = (kwargs["dim"] if "dim" in kwargs else args[2] if len(args) > 2 else 0) % len(value.full)
    start = 0
    for part in result:
        _cut(recorder, value, part, axis, range(start, start + part.shape[axis]))
        start += part.shape[axis]


def _getitem(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = _known(recorder, args[0])
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *(slice(None) for _ in range(len(value.full) - len(index) + 1)), *index[at + 1 :])
    node, shape = recorder.reshaped(value.node, value.full[1:]), list(value.full)
    for axis, at in enumerate(index):
        if isinstance(at, int):
            span = range(at % shape[axis], at % shape[axis] + 1)
        elif isinstance(at, slice):
            span = range(*at.indices(shape[axis]))
        else:
            raise recorder.refuse("it selects values by an index that is no slice")
        if span == range(shape[axis]) and isinstance(at, slice):
            continue
        if axis == 0:
            raise recorder.refuse(STEPS_MIXED)
        attrs = {"axis": axis - 1, "start": span.start, "stop": span.stop, "step": span.step}
        node, shape[axis] = recorder.emit("slice", [node], attrs), len(span)
    recorder.bind(result, node, value.factor)


def _same(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = _known(recorder, args[0])
    recorder.bind(result, value.node, value.factor)


def _joined(recorder: Recorder, values: Sequence[Value]) -> tuple[list[str], float]:
    """Returns nodes of values and the factor that all have in common."""
    if len({value.factor for value in values}) == 1:
        return [value.node for value in values], values[0].factor
    return [recorder.plain(value) for value in values], 1.0


def _add(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    if kwargs:
        raise recorder.refuse("it adds with a factor")
    a, b = args
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        a, b = (x if isinstance(x, Tensor) else torch.tensor(float(x)) for x in (a, b))
    for x, other in ((a, b), (b, a)):
        if recorder.find(other) is None and not torch.any(other):
            value = _known(recorder, x)
            recorder.bind(result, value.node, value.factor)
            return
    nodes, factor = _joined(recorder, [recorder.operand(x, tuple(result.shape)) for x in (a, b)])
    recorder.bind(result, recorder.emit("add", nodes), factor)


def _multiply(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    a, b = args
    value, other = (recorder.find(a), b) if recorder.find(a) is not None else (recorder.find(b), a)
    assert value is not None
    if recorder.find(other) is not None:
        raise recorder.refuse("it multiplies two values of the image outside of a counted product of spikes")
    if not isinstance(other, Tensor) or other.numel() == 1:
        recorder.bind(result, value.node, value.factor * float(other))
        return
    factor = recorder.per_step(other, result.shape)
    recorder.bind(result, recorder.emit("scale", [value.node], arrays={"factor": factor}), value.factor)


def _divide(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = recorder.find(args[0])
    if value is None or isinstance(args[1], Tensor):
        raise recorder.refuse("it divides by a value that is no number")
    recorder.bind(result, value.node, value.factor / args[1])


def summed(recorder: Recorder, value: Value, axes: Any, *, keepdims: bool, layer: str = "") -> str:
    """Returns the node of a sum over axes of [T, B, ...]."""
    axes = sorted(axis % len(value.full) for axis in (axes if isinstance(axes, list | tuple) else (axes,)))
    if 0 in axes:
        raise recorder.refuse(STEPS_MIXED)
    if 1 in axes:
        raise recorder.refuse(IMAGES_MIXED)
    dropped = len(value.full) - len(recorder.nodes[value.node].shape)
    attrs = {"axes": [axis - dropped for axis in axes], "keepdims": keepdims}
    return recorder.emit("sum", [value.node], attrs, layer=layer)


def _sum(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = _known(recorder, args[0])
    axes = args[1] if len(args) > 1 else kwargs.get("dim")
    if axes is None:
        raise recorder.refuse(STEPS_MIXED)
    node = summed(recorder, value, axes, keepdims=result.dim() == len(value.full))
    recorder.bind(result, node, value.factor)


def _mean(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    _sum(recorder, args, kwargs, result)
    value, source = _known(recorder, result), _known(recorder, args[0])
    terms = int(np.prod(source.full)) // result.numel()
    recorder.bind(result, value.node, value.factor / terms)


def _cat(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    parts = [recorder.operand(x, tuple(x.shape)) for x in args[0]]
    axis = (kwargs["dim"] if "dim" in kwargs else args[1] if len(args) > 1 else 0) % result.dim()
    _concatenated(recorder, parts, axis, result)


def _stack(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    parts = [recorder.operand(x, tuple(x.shape)) for x in args[0]]
    axis = (kwargs["dim"] if "dim" in kwargs else args[1] if len(args) > 1 else 0) % result.dim()
    widened = [Value(part.node, part.factor, (*part.full[:axis], 1, *part.full[axis:])) for part in parts]
    _concatenated(recorder, widened, axis, result)


def _concatenated(recorder: Recorder, parts: Sequence[Value], axis: int, result: Tensor) -> None:
    if axis == 0:
        raise recorder.refuse(STEPS_MIXED)
    nodes, factor = _joined(recorder, parts)
    nodes = [recorder.reshaped(node, part.full[1:]) for node, part in zip(nodes, parts, strict=True)]
    recorder.bind(result, recorder.emit("concat", nodes, {"axis": axis - 1}), factor)


def _pad(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value, sizes = _known(recorder, args[0]), list(args[1])
    if (len(args) > 2 and args[2] != "constant") or kwargs.get("value") or any(size < 0 for size in sizes):
        raise recorder.refuse("it pads with other values than 0")
    if not any(sizes):
        return _same(recorder, args, kwargs, result)
    ends = [[0, 0] for _ in recorder.nodes[value.node].shape]
    for i in range(len(sizes) // 2):
        ends[-1 - i] = sizes[2 * i : 2 * i + 2]
    return recorder.bind(result, recorder.emit("pad", [value.node], {"widths": ends}), value.factor)


def _write(recorder: Recorder, target: Tensor, index: Any, source: Tensor) -> None:
    """Records values written into the middle of a constant, the padding of a layer."""
    value = _known(recorder, source)
    spans = [at.indices(size) for at, size in zip(index[1:], target.shape[-len(index) + 1 :], strict=True)]
    inner = [stop - start for start, stop, step in spans if step == 1]
    if index[0] is not Ellipsis or recorder.find(target) is not None or inner != list(source.shape[1 - len(index) :]):
        raise recorder.refuse("it writes into a tensor")
    sizes = target.shape[-len(spans) :]
    ends = [[start, size - stop] for (start, stop, _), size in zip(spans, sizes, strict=True)]
    node = recorder.plain(value)
    widths = [[0, 0]] * (len(recorder.nodes[node].shape) - len(ends)) + ends
    arrays = {"value": recorder.per_step(target, target.shape)}
    recorder.bind(target, recorder.emit("pad", [node], {"widths": widths}, arrays))


FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(("reshape", "view", "view_as", "flatten", "unflatten", "unsqueeze", "squeeze"), _reshape),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("contiguous", "double", "clone", "detach", "to", "dropout"), _same),
    **dict.fromkeys(("chunk", "split"), _split),
    **dict.fromkeys(("add", "radd"), _add),
    **dict.fromkeys(("mul", "rmul"), _multiply),
    **dict.fromkeys(("div", "truediv"), _divide),
    **dict.fromkeys(("cat", "concat"), _cat),
    "transpose": _transpose,
    "permute": _permute,
    "getitem": _getitem,
    "sum": _sum,
    "mean": _mean,
    "stack": _stack,
    "pad": _pad,
}
"""What a graph can express of torch's functions between layers, by their names without underscores."""
