"""Simplifies recorded nodes: batch norms become part of the convolutions before them, unread nodes go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.chip.graph import Node
from models.chip.ops import Shape


def folded(nodes: list[Node]) -> list[Node]:
    """Returns the nodes with each scale behind a convolution folded into its weights, where nothing else reads it."""
    by_name = {node.name: node for node in nodes}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    renamed: dict[str, str] = {}
    for node in nodes:
        source = by_name.get(renamed.get(node.inputs[0], node.inputs[0])) if node.op == "scale" else None
        if source is None or source.op != "conv" or readers[node.inputs[0]] != 1:
            continue
        folded = _fold(source, node)
        if folded is not None:
            by_name[source.name] = folded
            renamed[node.name] = source.name
            readers[source.name] = readers[node.name]
    return [
        replace(by_name[node.name], inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in nodes
        if node.name not in renamed
    ]


def _fold(conv: Node, scale: Node) -> Node | None:
    """Returns a convolution with a scale's factor and offset in its weights; None if they differ within a channel."""
    channels: Shape = (len(conv.arrays["weight"]), 1, 1)
    if any(array.shape not in ((), channels) for array in scale.arrays.values()) or scale.shape != conv.shape:
        return None
    factor, offset = (
        np.broadcast_to(scale.arrays.get(name, np.array(default)), channels).reshape(-1)
        for name, default in (("factor", 1.0), ("offset", 0.0))
    )
    bias = conv.arrays.get("bias", np.zeros(channels[0])) * factor + offset
    return replace(conv, arrays={"weight": conv.arrays["weight"] * factor[:, None, None, None], "bias": bias})


def used(nodes: list[Node]) -> list[Node]:
    """Returns the nodes that the readout depends on, or that count something, and the input."""
    wanted: set[str] = set()
    for node in reversed(nodes):
        if node.op in ("readout", "input") or node.layer or node.name in wanted:
            wanted.add(node.name)
            wanted.update(node.inputs)
    return [node for node in nodes if node.name in wanted]
