"""Counts spikes and operations of a model while it runs: neurons, spikes, synaptic operations, MACs, energy.

A layer fed spikes counts one synaptic operation (an accumulate) for each spike and each weight it meets; a layer fed
real values counts MACs. `models.cost.counters` says how each kind of layer is counted, `models.cost.energy` what it
costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cost import energy
from models.cost.counters import Counted, Counter, Tally, counter_of, largest_level, spikes_per_value
from models.parts.backbone import SpikingModel

EnergyRule = Literal["default", "published"]
"""How `energy_mj` is found: from `macs` and `synops`, or as the published tool does (docs/measurement.md)."""


@dataclass
class LayerCount:
    """What one layer is and did, over all images; sizes are of one step and image, `sums` hold one number a step."""

    kind: str
    shape: Counted
    images: int = 0
    first_step: int = 0
    """The first step that it works in; a layer fed its own past begins at the second."""
    is_once: bool = False
    """Whether it is computed once, whatever the steps: the layers on a still image, and a head on a mean."""
    sums: dict[str, list[float]] = field(default_factory=dict)

    @property
    def neurons(self) -> int:
        return self.shape.neurons

    @property
    def macs(self) -> float:
        """Returns MACs of one step and image."""
        return self.shape.dense if self.shape.is_real else 0.0

    def until(self, what: str, read_step: int) -> float:
        return sum(self.sums[what][:read_step])

    def steps(self, read_step: int) -> int:
        """Returns how often it is computed for an image."""
        return 1 if self.is_once else max(0, read_step - self.first_step)

    def macs_until(self, read_step: int) -> float:
        return self.macs * self.steps(read_step) * self.images

    def synops(self, read_step: int) -> float:
        """Returns the operations of the operand that has the fewest over the steps that are read."""
        return min((self.until(name, read_step) for name in self.sums if name.startswith("synops")), default=0.0)

    def published(self, read_step: int) -> energy.PublishedLayer:
        """Returns the layer as the published tool counts it: a still image is convolved anew at each step."""
        steps = read_step if self.is_once and self.kind != "Head" else self.steps(read_step)
        operations = (self.shape.dense + self.shape.bias) * steps
        if self.shape.is_real:
            return energy.PublishedLayer(operations, None)
        ones = self.until("input", read_step)
        if ones != self.until("square", read_step):  # values are whole numbers, or at most 1
            return energy.PublishedLayer(operations, None)
        return energy.PublishedLayer(operations, ones / (self.images * self.shape.inputs * max(steps, 1)))


class Meter:
    """Counts the forward passes made through it, `with Meter(model) as meter: logits = meter.forward_steps(x)`.

    The counts stay on the device until they are asked for.
    """

    def __init__(self, model: SpikingModel, rule: EnergyRule = "default") -> None:
        self.model = model
        self.rule = rule
        self.images = 0
        self._levels = largest_level(model)
        per_value = max((spikes_per_value(module) for module in model.modules()), default=1.0)
        self._tally = Tally(per_value, with_squares=rule == "published")
        self._layers: dict[str, LayerCount] = {}
        self._calls: list[tuple[str, Counted, int]] = []
        self._rows: dict[tuple[str, str], int] = {}
        self._totals: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> Meter:
        for name, module in self.model.named_modules():
            counter = counter_of(module)
            if counter is not None:
                self._handles.append(module.register_forward_hook(self._hook(name, counter)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def forward_steps(self, x: Tensor) -> Tensor:
        """Returns `model.forward_steps(x)`, [T, B, K], without gradient, and counts what it does."""
        self._tally.images, self._tally.input_is_events = x.shape[0], x.dim() == 5
        self._calls = []
        logits = self.model.forward_steps(x)
        self._tally.forget()
        self._add(x.shape[0], self.model.config.step)
        return logits

    def _hook(self, name: str, counter: Counter) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._calls.append((name, counter(self._tally, module, inputs, output), output.shape[0]))
            if name not in self._layers:
                self._layers[name] = LayerCount(type(module).__name__, self._calls[-1][1])

        return hook

    def _add(self, images: int, steps: int) -> None:
        """Adds a pass of so many images; a layer that is called step by step works in the last steps."""
        self.images += images
        taken = dict.fromkeys(self._layers, 0)
        for name, _, its_steps in self._calls:
            taken[name] += its_steps
        for name, its_steps in taken.items():
            layer = self._layers[name]
            layer.images += images if its_steps else 0
            layer.is_once = layer.shape.is_real and (its_steps == 1 or layer.kind == "Head")
            layer.first_step = 0 if layer.is_once else steps - its_steps
        begins = {name: steps - its_steps for name, its_steps in taken.items()}
        rows, sums, factors = [], [], []
        for name, counted, its_steps in self._calls:
            for what, total, factor in counted.sums:
                of_image = total if total.shape[1] == images else total.view(its_steps, images, -1).sum(2)
                end = steps - begins[name] - its_steps
                sums.append(F.pad(of_image, (0, 0, begins[name], end)) if its_steps < steps else of_image)
                rows.append(self._rows.setdefault((name, what), len(self._rows)))
                factors.append(factor)
            begins[name] += its_steps
        if sums:
            self._accumulate(torch.stack(sums).sum(2, dtype=torch.float64), rows, factors)

    def _accumulate(self, found: Tensor, rows: list[int], factors: list[float]) -> None:
        if self._totals is None:
            self._totals = found.new_zeros(len(self._rows), found.shape[1])
        found = found * found.new_tensor(factors).unsqueeze(1)
        self._totals.index_add_(0, torch.tensor(rows, device=found.device), found)

    @property
    def layers(self) -> dict[str, LayerCount]:
        """Returns the layers in the order of their first call, with what they did so far."""
        if self._totals is not None and not self._totals.is_meta:
            found = self._totals.tolist()
            for (name, what), row in self._rows.items():
                self._layers[name].sums[what] = found[row]
        return self._layers

    def totals(self, read_step: int) -> dict[str, float]:
        """Returns `spikes`, `spike_rate`, `synops`, `macs`, `energy_mj` per image, read after `read_step` steps."""
        layers = self.layers.values()
        spikes = sum(layer.until("spikes", read_step) for layer in layers if layer.neurons) / self.images
        neurons = sum(layer.neurons for layer in layers)
        synops = sum(layer.synops(read_step) for layer in layers) / self.images
        macs = sum(layer.macs_until(read_step) for layer in layers) / self.images
        return {
            "spike_rate": spikes / (neurons * read_step * self._levels),
            "spikes": spikes,
            "synops": synops,
            "macs": macs,
            "energy_mj": energy.energy_mj(macs, synops) if self.rule == "default" else self._published(read_step),
        }

    def _published(self, read_step: int) -> float:
        layers = self.layers.values()
        attention = sum(layer.synops(read_step) for layer in layers if layer.shape.role == "attention") / self.images
        weights = [layer.published(read_step) for layer in layers if layer.shape.role == "weights"]
        return energy.published_energy_mj(weights, attention)

    def references(self, read_step: int) -> dict[str, float]:
        """Returns `energy_memory_mj`, the energy with memory traffic, and `energy_ann_mj`, a quantised ANN's."""
        shapes = [layer.shape for layer in self.layers.values()]
        totals = self.totals(read_step)
        work = energy.Work(
            steps=read_step,
            macs=totals["macs"],
            synops=totals["synops"],
            neurons=sum(shape.neurons for shape in shapes),
            levels=self._levels,
            weights=sum(shape.weights for shape in shapes),
            dense=sum(shape.dense for shape in shapes if shape.role == "weights" and not shape.is_real),
            dense_attention=sum(shape.dense for shape in shapes if shape.role == "attention"),
        )
        return {
            "energy_memory_mj": energy.memory_energy_mj(work),
            "energy_ann_mj": energy.quantised_ann_energy_mj(work),
        }

    def by_layer(self, read_step: int) -> list[dict[str, Any]]:
        """Returns one row a layer: `name`, `kind`, and per image its spikes (neurons) or its operations (the rest)."""
        rows: list[dict[str, Any]] = []
        for name, layer in self.layers.items():
            row: dict[str, Any] = {"name": name, "kind": layer.kind}
            if layer.shape.role == "neuron":
                spikes = layer.until("spikes", read_step) / self.images
                rate = spikes / (layer.neurons * read_step * self._levels)
                row |= {"neurons": layer.neurons, "spikes": spikes, "spike_rate": rate}
            else:
                row["synops"] = layer.synops(read_step) / self.images
                row["macs"] = layer.macs_until(read_step) / self.images
            rows.append(row)
        return rows


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
