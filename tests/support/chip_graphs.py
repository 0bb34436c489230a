"""Small graphs with random weights, of the operations that models are lowered to."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.chip.graph import Graph, Node
from models.chip.ops import OPS, Array, Shape

CLASSES = 5
SIZE = 6


class Builder:
    """Adds nodes, whose shapes follow from their operations."""

    def __init__(self, seed: int, steps: int, grid: int | None = None) -> None:
        self.random = np.random.default_rng(seed)
        self.steps = steps
        self.grid = grid
        """If given, weights are whole numbers in -grid..grid times 1 / 16."""
        self.nodes: list[Node] = []

    def add(self, name: str, op: str, *inputs: str, arrays: dict[str, Array] | None = None, **attrs: Any) -> str:
        """Adds a node and returns its name."""
        shapes = [next(node.shape for node in self.nodes if node.name == one) for one in inputs]
        shape = OPS[op].shape(shapes, arrays or {}, attrs)
        layer = name if op in ("conv", "linear", "matmul", "mask", "neuron") else ""
        self.nodes.append(Node(name, op, shape, inputs, arrays or {}, attrs, layer))
        return name

    def weights(self, *shape: int, bias: float = 0.2) -> dict[str, Array]:
        """Returns the arrays of a layer."""
        if self.grid is not None:
            whole = self.random.integers(-self.grid, self.grid + 1, shape)
            whole.reshape(len(whole), -1)[:, 0] = self.grid
            return {"weight": whole / 16.0, "bias": self.random.integers(-4, 5, shape[0]) / 16.0}
        weight = self.random.normal(0.3, 2.0, shape) * np.prod(shape[1:]) ** -0.5
        return {"weight": weight, "bias": self.random.normal(0.0, bias, shape[0])}

    def conv(self, name: str, source: str, width: int, kernel: int = 1, groups: int = 1, fed: str = "spikes") -> str:
        """Adds a convolution with same padding."""
        channels = next(node.shape[-3] for node in self.nodes if node.name == source)
        arrays = self.weights(width, channels // groups, kernel, kernel)
        padding = [kernel // 2] * 2
        return self.add(name, "conv", source, arrays=arrays, stride=[1, 1], padding=padding, groups=groups, fed=fed)

    def neuron(self, name: str, source: str, kind: str = "lif", threshold: float = 1.0) -> str:
        """Adds neurons."""
        levels = 4 if kind in ("ilif", "ielif") else 1
        leak = {"lif": {"tau": 2.0}, "plif": {"decay": 0.3}, "ilif": {"keep": 0.75}}.get(kind, {})
        return self.add(name, "neuron", source, arrays={"threshold": np.array(threshold)}, kind=kind, levels=levels,
                        **leak)  # fmt: skip

    def graph(self, source: str, width: int) -> Graph:
        """Returns the graph with a mean over the positions of `source` [width, H, W] and a classifier behind it."""
        size = next(node.shape[-1] * node.shape[-2] for node in self.nodes if node.name == source)
        self.add("sum", "sum", source, axes=[1, 2], keepdims=False)
        self.add("mean", "scale", "sum", arrays={"factor": np.array(1.0 / size)})
        self.add("head", "linear", "mean", arrays=self.weights(CLASSES, width), fed="real")
        self.add("logits", "readout", "head", steps=self.steps)
        return Graph(tuple(self.nodes), self.steps, {"model": {"encoding": "direct"}})


def convolutions(seed: int = 0, kind: str = "lif", steps: int = 4, grid: int | None = None) -> Graph:
    """Returns two convolutions with neurons, a pool between them and a residual sum of spikes; no attention."""
    build = Builder(seed, steps, grid)
    build.add("image", "input", shape=[2, SIZE, SIZE], kind="image")
    build.neuron("fire1", build.conv("conv1", "image", 8, 3, fed="real"), kind)
    build.add("pool", "max_pool", "fire1", kernel=[3, 3], stride=[2, 2], padding=[1, 1])
    build.neuron("fire2", build.conv("conv2", "pool", 8, 3, groups=2), kind)
    build.add("shortcut", "add", "pool", "fire2")
    build.neuron("fire3", build.conv("conv3", "shortcut", 8), kind)
    return build.graph("fire3", 8)


def attention(seed: int = 0, kind: str = "lif", steps: int = 4, width: int = 8) -> Graph:
    """Returns a block of spiking self-attention and an MLP whose shortcuts add membranes (`residual: ms`)."""
    build, heads, tokens = Builder(seed, steps), 2, SIZE * SIZE
    build.add("image", "input", shape=[2, SIZE, SIZE], kind="image")
    build.conv("stem", "image", width, 3, fed="real")
    build.neuron("fire", "stem", kind)
    for name in ("q", "k", "v"):
        build.neuron(f"{name}.neuron", build.conv(f"{name}.conv", "fire", width), kind)
        build.add(f"{name}.heads", "reshape", f"{name}.neuron", shape=[heads, width // heads, tokens])
    build.add("q.tokens", "transpose", "q.heads", axes=[0, 2, 1])
    build.add("v.tokens", "transpose", "v.heads", axes=[0, 2, 1])
    build.add("inner", "matmul", "k.heads", "v.tokens", kinds=["spikes", "spikes"])
    build.add("outer", "matmul", "q.tokens", "inner", kinds=["spikes", "real"])
    build.add("scaled", "scale", "outer", arrays={"factor": np.array(0.125)})
    build.neuron("attended", "scaled", kind, 0.5)
    build.add("back", "transpose", "attended", axes=[0, 2, 1])
    build.add("merged", "reshape", "back", shape=[width, SIZE, SIZE])
    build.add("residual1", "add", "stem", build.conv("proj", "merged", width))
    build.neuron("fire4", "residual1", kind)
    build.add("residual2", "add", "residual1", build.conv("fc", "fire4", width))
    build.neuron("fire5", "residual2", kind)
    return build.graph("fire5", width)


def images(count: int, seed: int = 0, shape: Shape = (2, SIZE, SIZE)) -> Array:
    """Returns images of 8-bit pixels in 0..1."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)) / 255.0
