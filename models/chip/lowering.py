"""Lowers a model to a graph: records a forward pass in float64, and folds batch norms into the layers before them.

Layers that the meter counts, batch norms, neurons and pools become one node each; what happens between them is recorded
by `models.chip.tracing`. Whatever a graph cannot express is refused with the dotted name of the layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from config.errors import ConfigError
from models.attention.tim import TemporalInteraction
from models.chip.graph import Graph, Node
from models.chip.ops import Array
from models.chip.tracing.folding import folded, used
from models.chip.tracing.functions import FUNCTIONS, summed
from models.chip.tracing.recording import IMAGES_MIXED, STEPS_MIXED, Recorder
from models.cost.counters import levels
from models.families.qkformer import OverBatch
from models.neurons.mixture import HDLIF
from models.neurons.nodes import CLIF, EIF, GLIF, IF, ILIF, KLIF, LIF, NILIF, PLIF, PSN
from models.neurons.quantizer import IELIF
from models.neurons.ternary import NEGATIVE_THRESHOLD, Ternary
from models.parts.backbone import SpikingModel
from models.parts.layers import (
    BatchNorm,
    Conv,
    GroupProduct,
    Head,
    MaxPool,
    SharedConv,
    SpikeMask,
    SpikeMatmul,
    SpikeSum,
    used_weight,
)
from models.parts.readouts import SpatioTemporal
from models.parts.tokens import TokenSelection

KINDS = {LIF: "lif", IF: "if", PLIF: "plif", ILIF: "ilif", NILIF: "ilif", IELIF: "ielif", Ternary: "ternary"}
"""The kind of each class of neurons."""
REFUSED: dict[type[nn.Module], str] = {
    TokenSelection: "which tokens it updates depends on the image, and a graph has the same operations for all",
    TemporalInteraction: STEPS_MIXED,
    SpatioTemporal: STEPS_MIXED,
    PSN: STEPS_MIXED,
    HDLIF: STEPS_MIXED,
    OverBatch: IMAGES_MIXED,
    KLIF: "KLIF rectifies and scales its membrane",
    EIF: "EIF charges by an exponential of its membrane",
    CLIF: "CLIF has a second state with sigmoids",
    GLIF: "GLIF mixes gains, leaks and resets of each step",
}
"""Why a module cannot be expressed. Neurons of a graph have a membrane, a leak, a threshold and a reset."""

Layer = Callable[[Recorder, str, Any, tuple[Tensor, ...], Tensor], None]


def lower(model: SpikingModel, image: Tensor | None = None) -> Graph:
    """Returns the graph of a model in evaluation mode, in float64.

    `image` has the size and kind of the images to come, [C, H, W] or, for events, [T, C, H, W]; its values do not
    matter. By default it is a still image of img_size. Raises ConfigError with the name of a layer that a graph cannot
    express.
    """
    model = double(model)
    config = model.config
    if image is None:
        image = torch.zeros(config.in_channels, config.img_size, config.img_size)
    nodes = _record(model, image)
    other = _record(model, torch.arange(image.numel()).view(image.shape) % 3)
    if [node.name for node in nodes] != [node.name for node in other]:
        raise ConfigError("the model: it has other operations for another image")
    for node, again in zip(nodes, other, strict=True):
        if any(not np.array_equal(array, again.arrays[key]) for key, array in node.arrays.items()):
            raise ConfigError(f"{node.name}: it has other values for another image, and a graph has constants")
    meta = {"model": config.model_dump(mode="json")}
    return Graph(tuple(used(folded(nodes))), config.step, meta)


def _record(model: SpikingModel, image: Tensor) -> list[Node]:
    """Returns the nodes of a model's forward pass on an image, before anything is folded."""
    config = model.config
    recorder = Recorder(config.step, FUNCTIONS)
    x = model.as_steps(image.cpu().double().unsqueeze(0))
    kind = "events" if image.dim() == 4 else "image" if config.encoding == "direct" else "encoded"
    recorder.bind(x, recorder.emit("input", [], {"shape": list(x.shape[2:]), "kind": kind}))
    functional.reset_net(model)
    handles = _hooks(recorder, model)
    try:
        with torch.no_grad(), recorder:
            logits = recorder.known(model.step_logits(x))
    finally:
        for handle in handles:
            handle.remove()
        functional.reset_net(model)
    if logits.full[0] != config.step and kind != "image":
        raise recorder.refuse(STEPS_MIXED)
    recorder.path = [""]
    recorder.emit("readout", [recorder.plain(logits)], {"steps": config.read_step})
    return list(recorder.nodes.values())


def double(model: SpikingModel) -> SpikingModel:
    """Returns a copy of a model in float64 on the CPU, in evaluation mode."""
    functional.reset_net(model)
    return copy.deepcopy(model).cpu().double().eval()


def frames(model: SpikingModel, image: Tensor) -> Array:
    """Returns what `execute` reads of an image: [C, H, W], or the steps [T, C, H, W] of events or an encoded image."""
    steps = model.as_steps(image.cpu().double().unsqueeze(0)).squeeze(1)
    is_still = image.dim() == 3 and model.config.encoding == "direct"
    return np.asarray((steps[0] if is_still else steps).numpy())


def _hooks(recorder: Recorder, model: SpikingModel) -> list[Any]:
    """Lets the recorder follow which module is running, and records the layers."""
    handles: list[Any] = []
    for name, module in model.named_modules():
        rule = _rule_of(module)

        def before(module: nn.Module, inputs: Any, *, name: str = name, rule: Layer | None = rule) -> None:
            recorder.path.append(name)
            recorder.inside_layer += rule is not None

        def after(module: nn.Module, inputs: Any, output: Any, *, name: str = name, rule: Layer | None = rule) -> None:
            if rule is not None and recorder.inside_layer == 1:
                rule(recorder, name, module, inputs, output)
            recorder.inside_layer -= rule is not None
            recorder.path.pop()

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    return handles


def _rule_of(module: nn.Module) -> Layer | None:
    """Returns the rule of a layer that is recorded as a whole, or None."""
    if type(module) in REFUSED:
        return _refuse
    if levels(module):
        return _neuron
    return LAYERS.get(type(module))


def _fed(recorder: Recorder, module: Any) -> str:
    kind = recorder.nodes[next(iter(recorder.nodes))].attrs["kind"]
    if module.fed == "input":
        return {"image": "real", "events": "spikes", "encoded": "encoded"}[kind]
    return str(module.fed)


def _weighted(recorder: Recorder, module: Any, factor: float) -> dict[str, Array]:
    """Returns weights and bias of a layer whose input has a factor."""
    arrays = {"weight": _array(used_weight(module)) * (factor * getattr(module, "gain", 1.0))}
    if module.bias is not None:
        arrays["bias"] = _array(module.bias)
    return arrays


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().double().numpy())


def _conv(recorder: Recorder, name: str, module: Conv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    if module.dilation != (1, 1):
        raise recorder.refuse("a dilated convolution")
    attrs = {"stride": list(module.stride), "padding": [int(size) for size in module.padding], "groups": module.groups}
    attrs["fed"] = _fed(recorder, module)
    node = recorder.emit("conv", [value.node], attrs, _weighted(recorder, module, value.factor), name)
    recorder.bind(output, node)


def _shared_conv(recorder: Recorder, name: str, module: SharedConv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    groups = inputs[0].shape[2] // module.in_channels
    shared = _weighted(recorder, module, value.factor)
    arrays = {key: np.tile(array, (groups, *(1,) * (array.ndim - 1))) for key, array in shared.items()}
    attrs = {"stride": [1, 1], "padding": [int(size) for size in module.padding], "groups": groups}
    attrs["fed"] = _fed(recorder, module)
    recorder.bind(output, recorder.emit("conv", [value.node], attrs, arrays, name))


def _group_product(
    recorder: Recorder, name: str, module: GroupProduct, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    weight = _array(used_weight(module)) * value.factor
    attrs = {"stride": [1, 1], "padding": [0, 0], "groups": len(module.weight), "fed": module.fed}
    recorder.bind(output, recorder.emit("conv", [value.node], attrs, {"weight": weight}, name))


def _head(recorder: Recorder, name: str, module: Head, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    arrays = _weighted(recorder, module, value.factor)
    recorder.bind(output, recorder.emit("linear", [value.node], {"fed": _fed(recorder, module)}, arrays, name))


def _norm(recorder: Recorder, name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    gain = _array(module.weight / torch.sqrt(module.running_var + module.eps))
    offset = _array(module.bias) - _array(module.running_mean) * gain
    arrays = {"factor": (gain * value.factor)[:, None, None], "offset": offset[:, None, None]}
    recorder.bind(output, recorder.emit("scale", [value.node], arrays=arrays))


def _neuron(recorder: Recorder, name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    kind = KINDS.get(type(module))
    if kind is None:
        raise recorder.refuse(f"{type(module).__name__} is no known neuron")
    if name in recorder.nodes:
        raise recorder.refuse("its neurons run more than once in a step")
    if len(output) != recorder.steps:
        raise recorder.refuse("its neurons run for a part of the steps only")
    attrs = {"kind": kind, "levels": levels(module), **_constants(kind, module)}
    node = recorder.plain(recorder.operand(inputs[0], tuple(inputs[0].shape)))
    arrays = {"threshold": np.array(float(module.v_threshold))}
    unit = getattr(module, "unit", 1.0 / levels(module))
    recorder.bind(output, recorder.emit("neuron", [node], attrs, arrays, name), unit)


def _refuse(recorder: Recorder, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    raise recorder.refuse(REFUSED[type(module)])


def _constants(kind: str, module: Any) -> dict[str, float]:
    """Returns the attributes of a kind of neurons."""
    if kind == "lif":
        return {"tau": float(module.tau)}
    if kind == "plif":
        return {"decay": float(module.w.sigmoid())}
    if kind == "ilif":
        return {"keep": 1.0 - 1.0 / module.tau}
    return {"low_threshold": NEGATIVE_THRESHOLD} if kind == "ternary" else {}


def _matmul(recorder: Recorder, name: str, module: SpikeMatmul, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    a, b = (recorder.operand(x, tuple(output.shape)) for x in inputs)
    kinds = ["spikes" if kind == "input" else kind for kind in module.kinds]
    recorder.bind(output, recorder.emit("matmul", [a.node, b.node], {"kinds": kinds}, layer=name), a.factor * b.factor)


def _mask(recorder: Recorder, name: str, module: SpikeMask, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    a, b = (recorder.operand(x, tuple(output.shape)) for x in inputs)
    if a.factor != 1.0 and b.factor != 1.0:
        raise recorder.refuse("a product of two shares k / D is no count of spikes (node_type: ILIFNode gives counts)")
    node = recorder.emit("mask", [a.node, b.node], {"counts": module.counts}, layer=name)
    recorder.bind(output, node, a.factor * b.factor)


def _sum(recorder: Recorder, name: str, module: SpikeSum, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    recorder.bind(output, summed(recorder, value, module.axis, keepdims=True, layer=name), value.factor)


def _pair(size: Any) -> list[int]:
    """Returns the last two of a pool's sizes, given as one number, two or three."""
    return [int(size)] * 2 if isinstance(size, int) else [int(part) for part in size[-2:]]


def _max_pool(recorder: Recorder, name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    if value.factor <= 0.0 or module.dilation != 1 or module.ceil_mode:
        raise recorder.refuse("a dilated pool, or one of negated values")
    if not isinstance(module.kernel_size, int) and module.kernel_size[:-2] not in ((), (1,)):
        raise recorder.refuse("a pool over more than two axes")
    attrs = {"kernel": _pair(module.kernel_size), "stride": _pair(module.stride), "padding": _pair(module.padding)}
    recorder.bind(output, recorder.emit("max_pool", [value.node], attrs), value.factor)


def _average(recorder: Recorder, name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    value = recorder.operand(inputs[0], tuple(inputs[0].shape))
    sides = list(zip(inputs[0].shape[-2:], output.shape[-2:], strict=True))
    if any(before % after for before, after in sides):
        raise recorder.refuse("its windows differ in size")
    kernel = [before // after for before, after in sides]
    attrs = {"kernel": kernel, "stride": kernel, "padding": [0, 0]}
    recorder.bind(output, recorder.emit("sum_pool", [value.node], attrs), value.factor / (kernel[0] * kernel[1]))


LAYERS: dict[type[nn.Module], Layer] = {
    Conv: _conv,
    SharedConv: _shared_conv,
    GroupProduct: _group_product,
    Head: _head,
    BatchNorm: _norm,
    SpikeMatmul: _matmul,
    SpikeMask: _mask,
    SpikeSum: _sum,
    MaxPool: _max_pool,
    nn.MaxPool3d: _max_pool,
    nn.AdaptiveAvgPool2d: _average,
}
"""The rule of each layer that is recorded as a whole; neurons have their own."""
