"""Compares a graph's run with its model, spike by spike, and its counted operations with those of the meter.

A graph in float64 gives the model's spikes and the meter's operations, layer by layer. In a quantised one the
differences are its drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.chip.executor import Executor, Run
from models.chip.graph import Graph
from models.chip.lowering import double, frames
from models.chip.ops import Array
from models.cost.counters import levels
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel


@dataclass
class LayerAgreement:
    """One layer over all compared images."""

    kind: str
    outputs: int = 0
    """Neurons x steps that were compared."""
    spikes: int = 0
    """The model's."""
    spikes_differ: int = 0
    """Of the outputs, those that are not the model's."""
    synops: int = 0
    """The graph's."""
    metered: int = 0
    """The meter's."""
    macs: int = 0
    """The graph's multiplications of a layer that reads real values."""
    metered_macs: int = 0


@dataclass
class Agreement:
    """A graph and its model on the same images."""

    layers: dict[str, LayerAgreement] = field(default_factory=dict)
    """By the dotted name of the module."""
    images: int = 0
    answers_differ: int = 0
    """Images that are classified differently."""
    logits_differ: float = 0.0
    """The largest difference of a logit of the read-out."""
    runs: list[Run] = field(default_factory=list)
    """The graph's runs, without their outputs."""

    @property
    def spikes(self) -> int:
        return sum(layer.spikes for layer in self.layers.values())

    @property
    def spikes_differ(self) -> int:
        return sum(layer.spikes_differ for layer in self.layers.values())

    @property
    def synops(self) -> int:
        return sum(layer.synops for layer in self.layers.values())

    @property
    def synops_differ(self) -> int:
        """Returns the sum over the layers of the differences from the meter's operations."""
        return sum(abs(layer.synops - layer.metered) for layer in self.layers.values())


def compare(model: SpikingModel, graph: Graph, images: Iterable[Tensor]) -> Agreement:
    """Returns how a graph and its model, in float64 and evaluation mode, agree on images, each without a batch axis."""
    exact, executor = double(model), Executor(graph)
    found = Agreement()
    with _Outputs(exact) as outputs:
        for image in images:
            with Meter(exact) as meter:
                logits = meter.forward_steps(image.cpu().double().unsqueeze(0))[:, 0]
            run = executor.run(frames(exact, image), keep=True)
            _add_spikes(found, exact, outputs.values, run)
            _add_operations(found, meter, run)
            readout = logits[: exact.config.read_step].mean(0).numpy()
            found.images += 1
            found.runs.append(replace(run, outputs={}))
            found.answers_differ += int(readout.argmax() != run.readout.argmax())
            found.logits_differ = max(found.logits_differ, float(np.abs(readout - run.readout).max()))
    return found


class _Outputs:
    """The last output of each layer of neurons, by its name."""

    def __init__(self, model: SpikingModel) -> None:
        self.values: dict[str, Tensor] = {}
        self._modules = {name: module for name, module in model.named_modules() if levels(module)}
        self._handles: list[Any] = []

    def __enter__(self) -> _Outputs:
        for name, module in self._modules.items():

            def keep(module: Any, inputs: Any, output: Tensor, *, name: str = name) -> None:
                self.values[name] = output

            self._handles.append(module.register_forward_hook(keep))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def _add_spikes(found: Agreement, model: SpikingModel, outputs: dict[str, Tensor], run: Run) -> None:
    for name, output in outputs.items():
        module = model.get_submodule(name)
        counts = _counts(module, output)
        layer = found.layers.setdefault(name, LayerAgreement(type(module).__name__))
        layer.outputs += counts.size
        layer.spikes += int(np.abs(counts).sum())
        layer.spikes_differ += int(np.count_nonzero(run.outputs[name].reshape(counts.shape) != counts))


def _counts(module: Any, output: Tensor) -> Array:
    """Returns counts of spikes, of a layer that may emit k / D."""
    counts: Array = torch.round(output / getattr(module, "unit", 1.0 / levels(module))).numpy()
    return counts


def _add_operations(found: Agreement, meter: Meter, run: Run) -> None:
    for row in meter.by_layer(meter.model.config.step):
        if "synops" not in row:
            continue
        layer = found.layers.setdefault(row["name"], LayerAgreement(row["kind"]))
        layer.synops += run.layers[row["name"]].synops
        layer.metered += round(row["synops"])
        layer.macs += run.layers[row["name"]].macs
        layer.metered_macs += round(row["macs"])
