"""A model as a plain graph of operations, executed node by node, step by step, for one image.

Shapes are those of one step of one image, without T and B. Only neurons and the readout have a state. Arrays are
float64 in the graph of a model, and integers in a quantised one, of the same operations. An integer neuron passes the
count of its spikes, 0..D; the unit 1/D of a layer that emits k / D is part of the weights behind it.

| op | output | arrays | attributes |
| --- | --- | --- | --- |
| `input` | the image, or one step of a sequence | | `shape`; `kind`: `image`, `events` or `encoded` |
| `constant` | `value`, at every step | `value` | |
| `conv` | convolution, [..., C, H, W] | `weight` [O, C / g, kh, kw], `bias`? | `stride`, `padding`, `groups` g, `fed` |
| `linear` | `weight @ x + bias` over the last axis | `weight` [O, I], `bias`? [O] | `fed` |
| `matmul` | `a @ b` of two inputs | | `kinds` of both: `spikes`, `signed` or `real` |
| `mask` | `a * b` of two inputs | | `counts`: `passed`, `left`, or `none` |
| `sum` | sum over axes | | `axes`, `keepdims` |
| `max_pool`, `sum_pool` | maximum or sum of windows over the last two axes | | `kernel`, `stride`, `padding` |
| `add` | sum of the inputs | | |
| `scale` | `factor * x + offset` | `factor`, `offset`? | `shift`?: of the product, in integers |
| `reshape` | same values in row-major order | | `shape` |
| `transpose` | | | `axes` |
| `slice` | `x[start:stop:step]` of an axis | | `axis`, `start`, `stop`, `step` |
| `concat` | of all inputs | | `axis` |
| `pad` | zeros, or `value`, around x | `value`? | `widths`: [before, after] of each axis |
| `neuron` | spikes or counts, from the currents | `threshold` | `kind`, `levels` D, and those of the kind |
| `readout` | mean of the first `steps` outputs | `factor`? | `steps` |

`?` marks what may be absent; arrays broadcast against the output. Kernels, strides and paddings are [height, width].
`fed` is `spikes`, where the values of the input are counts of spikes and each takes that many additions of a weight,
`encoded`, where each value but 0 takes one, or `real`, where all take multiplications. 1x1 layers are `conv`, a
classifier is `linear`. The padding of `max_pool` never wins.

**Neurons** (X current, V membrane, H charged membrane, S output; V starts at 0):

| kind | charge | output | reset | attributes |
| --- | --- | --- | --- | --- |
| `lif` | `H = V + (X - V) / tau` | `H >= threshold` | to 0 | `tau` |
| `plif` | `H = V + (X - V) decay` | `H >= threshold` | to 0 | `decay` |
| `if` | `H = V + X` | `H >= threshold` | to 0 | |
| `ternary` | `H = V + X` | +1 if `H >= threshold`, -1 if `H <= -low_threshold` | to 0 | `low_threshold` |
| `ilif` | `H = keep V + X` | `clip(H / threshold, 0, D)` to nearest, half to even | `V = H - S threshold` | `keep` |
| `ielif` | `H = X` | `floor(clip(H / threshold, 0, D) + 1/2)` | V = 0 | |

**In integers** (`threshold` an integer array): every kind charges by `H = round(keep_numerator V / 2^keep_shift) + X`,
halves up, where the gain 1/tau or decay on X is part of threshold and scale; without `keep_numerator` by `H = V + X`.
Ratios `H / threshold` are exact. H saturates at `bits` bits with sign, the output of a weighted node likewise. `scale`
gives `round(factor x / 2^shift) + offset`. An `input` with a `scale` rounds its values, `clip(round(x / scale), lowest,
largest)`. The logits are the readout's input times `factor` [K].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from config.errors import ConfigError
from models.chip.ops import FEDS, MATMUL_KINDS, NEURONS, OPS, Array, Shape

NEEDS = {"lif": {"tau"}, "plif": {"decay"}, "if": set(), "ilif": {"keep"}, "ielif": set(), "ternary": {"low_threshold"}}
"""Attributes of each kind of neuron that a float graph must give."""


@dataclass(frozen=True)
class Node:
    """One operation. `shape` is that of its output at one step of one image."""

    name: str
    op: str
    shape: Shape
    inputs: tuple[str, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Values that JSON can hold."""
    layer: str = ""
    """The dotted name of the model's module whose spikes or operations the node counts, empty if it counts none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", MappingProxyType(dict(self.arrays)))
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))

    @property
    def is_integer(self) -> bool:
        """Returns whether the node has arrays and all are integers."""
        return bool(self.arrays) and all(np.issubdtype(array.dtype, np.integer) for array in self.arrays.values())


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of execution; the last one is the readout."""

    nodes: tuple[Node, ...]
    steps: int
    """T"""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Values that JSON can hold: the model's config, bits, the normalisation of images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        check(self)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def consumers(self) -> dict[str, list[Node]]:
        """Returns the nodes that read each node, in order; a node that reads it twice is there twice."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found


def check(graph: Graph) -> None:
    """Raises ConfigError, with the node's name, unless every node has what its operation needs and its shape."""
    shapes: dict[str, Shape] = {}
    for node in graph.nodes:
        try:
            _check_node(node, shapes)
        except ConfigError as error:
            raise ConfigError(f"{node.name}: {error}") from None
        shapes[node.name] = node.shape
    ends = [node.op for node in graph.nodes if node.op in ("input", "readout")]
    if ends != ["input", "readout"] or (graph.nodes[0].op, graph.nodes[-1].op) != ("input", "readout"):
        raise ConfigError("a graph starts with its only input and ends with its only readout")
    if not 1 <= graph.output.attrs["steps"] <= graph.steps:
        raise ConfigError(f"the readout needs 1..{graph.steps} steps (got {graph.output.attrs['steps']})")


def _check_node(node: Node, shapes: Mapping[str, Shape]) -> None:
    op = OPS.get(node.op)
    if op is None:
        raise ConfigError(f"unknown op {node.op}; known are {', '.join(OPS)}")
    if node.name in shapes:
        raise ConfigError("the name is used twice")
    missing = [name for name in node.inputs if name not in shapes]
    if missing:
        raise ConfigError(f"reads {', '.join(missing)}, which no node before it computes")
    if len(node.inputs) != op.inputs and (op.inputs is not None or not node.inputs):
        raise ConfigError(f"{node.op} needs {op.inputs or 'one or more'} inputs (got {len(node.inputs)})")
    _check_names("arrays", set(node.arrays), op.arrays, op.optional_arrays)
    _check_names("attributes", set(node.attrs), op.attrs, op.optional_attrs)
    _check_values(node)
    found = op.shape([shapes[name] for name in node.inputs], node.arrays, node.attrs)
    if found != node.shape:
        raise ConfigError(f"its output has the shape {list(found)} (got {list(node.shape)})")


def _check_names(what: str, given: set[str], needed: frozenset[str], optional: frozenset[str]) -> None:
    if not needed <= given <= needed | optional:
        rule = f"{sorted(needed)}" + (f", and may have {sorted(optional)}" if optional else "")
        raise ConfigError(f"needs the {what} {rule} (got {sorted(given)})")


def _check_values(node: Node) -> None:
    """Raises ConfigError for values of attributes that no machine knows."""
    attrs = node.attrs
    if attrs.get("fed", "real") not in FEDS:
        raise ConfigError(f"fed must be one of {', '.join(FEDS)} (got {attrs['fed']})")
    if node.op == "matmul" and not (len(attrs["kinds"]) == 2 and set(attrs["kinds"]) <= set(MATMUL_KINDS)):
        raise ConfigError(f"kinds must be two of {', '.join(MATMUL_KINDS)} (got {attrs['kinds']})")
    if node.op == "neuron":
        kind = attrs["kind"]
        if kind not in NEURONS:
            raise ConfigError(f"kind must be one of {', '.join(NEURONS)} (got {kind})")
        lacking = NEEDS[kind] - attrs.keys()
        if lacking and not node.is_integer:
            raise ConfigError(f"neurons of kind {kind} need {', '.join(sorted(lacking))}")
    for name, array in node.arrays.items():
        if array.dtype != np.float64 and not np.issubdtype(array.dtype, np.integer):
            raise ConfigError(f"{name} must be float64 or integers (got {array.dtype})")
