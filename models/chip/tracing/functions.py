"""What a graph can express of torch's functions between layers: moves of values, sums, factors and joins.

Tensors are [T, B, ...] of one image. Whatever mixes steps or images is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.chip.tracing.recording import IMAGES_MIXED, STEPS_MIXED, Function, Recorder, Value


def _reshape(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = recorder.known(args[0])
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
    value = recorder.known(args[0])
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
    value = recorder.known(args[0])
    axis = (kwargs["dim"] if "dim" in kwargs else args[2] if len(args) > 2 else 0) % len(value.full)
    start = 0
    for part in result:
        _cut(recorder, value, part, axis, range(start, start + part.shape[axis]))
        start += part.shape[axis]


def _getitem(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    value = recorder.known(args[0])
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
    value = recorder.known(args[0])
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
            value = recorder.known(x)
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
    value = recorder.known(args[0])
    axes = args[1] if len(args) > 1 else kwargs.get("dim")
    if axes is None:
        raise recorder.refuse(STEPS_MIXED)
    node = summed(recorder, value, axes, keepdims=result.dim() == len(value.full))
    recorder.bind(result, node, value.factor)


def _mean(recorder: Recorder, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
    _sum(recorder, args, kwargs, result)
    value, source = recorder.known(result), recorder.known(args[0])
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
    value, sizes = recorder.known(args[0]), list(args[1])
    if (len(args) > 2 and args[2] != "constant") or kwargs.get("value") or any(size < 0 for size in sizes):
        raise recorder.refuse("it pads with other values than 0")
    if not any(sizes):
        return _same(recorder, args, kwargs, result)
    ends = [[0, 0] for _ in recorder.nodes[value.node].shape]
    for i in range(len(sizes) // 2):
        ends[-1 - i] = sizes[2 * i : 2 * i + 2]
    return recorder.bind(result, recorder.emit("pad", [value.node], {"widths": ends}), value.factor)


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
