"""Metered forward passes: neurons, spikes, synaptic operations, MACs and energy of a model.

A layer that reads spikes counts one synaptic operation (an accumulate) per spike and weight; a layer that reads real
values counts MACs. `models.cost.counters` has the rule of each kind of layer, `models.cost.energy` the energy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cost import energy
from models.cost.counters import CallCount, CountContext, Counter, counter_of, largest_level, spikes_per_value
from models.device import copy_to
from models.parts.backbone import SpikingModel

EnergyRule = Literal["default", "published"]
"""The rule of `energy_mj`: from `macs` and `synops`, or that of the published tool (docs/measurement.md)."""


@dataclass
class LayerCount:
    """Counts of one layer over all images; `shape` has sizes of one step and image, `sums` one number per step."""

    kind: str
    shape: CallCount
    images: int = 0
    first_step: int = 0
    """The first step in which the layer runs; 1 for a layer that reads its own past."""
    is_once: bool = False
    """Whether it runs once for all steps: layers on a still image, and a head on a mean."""
    sums: dict[str, list[float]] = field(default_factory=dict)

    @property
    def neurons(self) -> int:
        return self.shape.neurons

    def add_pass(self, images: int, steps: int, worked_steps: int) -> None:
        """Adds a pass; the layer ran in the last `worked_steps` of its `steps` steps."""
        self.images += images
        self.is_once = self.shape.is_real and (worked_steps == 1 or self.kind == "Head")
        self.first_step = 0 if self.is_once else steps - worked_steps

    def until(self, quantity: str, read_step: int) -> float:
        return sum(self.sums[quantity][:read_step])

    def steps(self, read_step: int) -> int:
        """Returns the number of runs per image."""
        return 1 if self.is_once else max(0, read_step - self.first_step)

    def macs_until(self, read_step: int) -> float:
        return self.shape.dense * self.steps(read_step) * self.images if self.shape.is_real else 0.0

    def synops(self, read_step: int) -> float:
        """Returns the operations of the operand with the fewest over the first steps."""
        return min((self.until(name, read_step) for name in self.sums if name.startswith("synops")), default=0.0)

    def published(self, read_step: int) -> energy.PublishedLayer:
        """Returns the layer as the published tool counts it, which charges a still image's convolution at each step."""
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

    The counts remain on the device until they are read.
    """

    def __init__(self, model: SpikingModel, rule: EnergyRule = "default") -> None:
        self.model = model
        self.rule = rule
        self.images = 0
        self._levels = largest_level(model)
        per_value = max((spikes_per_value(module) for module in model.modules()), default=1.0)
        self._context = CountContext(per_value, with_squares=rule == "published")
        self._layers: dict[str, LayerCount] = {}
        self._calls: dict[str, list[CallCount]] = {}
        self._rows: dict[tuple[str, str], int] = {}
        self._totals: Tensor | None = None
        self._read: dict[str, LayerCount] | None = None
        self._constants: dict[tuple[tuple[int, ...], tuple[float, ...]], tuple[Tensor, Tensor]] = {}
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
        """Returns `model.forward_steps(x)`, [T, B, K], without gradient, and counts the pass."""
        self._context.images, self._context.input_is_events = x.shape[0], x.dim() == 5
        self._context.input_is_encoded = x.dim() == 4 and self.model.config.encoding != "direct"
        self._calls = {}
        logits = self.model.forward_steps(x)
        self._context.clear()
        self._add_pass(x.shape[0], self.model.config.step)
        return logits

    def _hook(self, name: str, counter: Counter) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            call = counter(self._context, module, inputs, output)
            call.steps = len(output)
            self._calls.setdefault(name, []).append(call)
            if name not in self._layers:
                self._layers[name] = LayerCount(type(module).__name__, call)

        return hook

    def _add_pass(self, images: int, steps: int) -> None:
        """Adds the calls of one forward pass."""
        self.images += images
        rows, sums, factors = [], [], []
        for name, calls in self._calls.items():
            self._layers[name].add_pass(images, steps, sum(call.steps for call in calls))
            for quantity, (_, factor) in calls[0].sums.items():
                rows.append(self._rows.setdefault((name, quantity), len(self._rows)))
                sums.append(_join([call.sums[quantity][0] for call in calls], images, steps))
                factors.append(factor)
        if sums:
            self._accumulate(torch.stack(sums).sum(2, dtype=torch.float64), rows, factors)

    def _accumulate(self, sums: Tensor, rows: list[int], factors: list[float]) -> None:
        self._read = None
        if self._totals is None:
            self._totals = sums.new_zeros(len(self._rows), sums.shape[1])
        key = tuple(rows), tuple(factors)
        if key not in self._constants:  # equal for all batches, and copied to the device once
            scale = torch.tensor(factors, dtype=sums.dtype).unsqueeze(1)
            self._constants[key] = copy_to(sums, torch.tensor(rows)), copy_to(sums, scale)
        index, scale = self._constants[key]
        self._totals.index_add_(0, index, sums * scale)

    @property
    def layers(self) -> dict[str, LayerCount]:
        """Returns the layers with their counts, in the order of their first call."""
        if self._read is not None:
            return self._read
        if self._totals is not None and not self._totals.is_meta:
            values = self._totals.tolist()
            for (name, quantity), row in self._rows.items():
                self._layers[name].sums[quantity] = values[row]
            self._read = self._layers
        return self._layers

    def totals(self, read_step: int) -> dict[str, float]:
        """Returns `spikes`, `spike_rate`, `synops`, `macs`, `energy_mj` per image for a read-out at `read_step`."""
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
        return self._published_energy(self.layers.values(), read_step)

    def _published_energy(self, layers: Iterable[LayerCount], read_step: int) -> float:
        counted = list(layers)
        attention = sum(layer.synops(read_step) for layer in counted if layer.shape.role == "attention") / self.images
        weights = [layer.published(read_step) for layer in counted if layer.shape.role == "weights"]
        return energy.published_energy_mj(weights, attention)

    def references(self, read_step: int) -> dict[str, float]:
        """Returns `energy_memory_mj`, with memory traffic, and `energy_ann_mj`, of a quantised ANN of this shape."""
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
        """Returns a row per layer: `name`, `kind`, and per image its spikes (neurons) or operations (other layers).

        Operations have their energy by the meter's rule.
        """
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
                row["energy_mj"] = (
                    energy.energy_mj(row["macs"], row["synops"])
                    if self.rule == "default"
                    else self._published_energy([layer], read_step)
                )
            rows.append(row)
        return rows


def _join(sums: list[Tensor], images: int, steps: int) -> Tensor:
    """Returns the sums of a layer's calls in a pass, [steps, B]; with fewer steps, these are the last ones."""
    per_image = [x if x.shape[1] == images else x.view(len(x), images, -1).sum(2) for x in sums]
    joined = per_image[0] if len(per_image) == 1 else torch.cat(per_image)
    return F.pad(joined, (0, 0, steps - len(joined), 0)) if len(joined) < steps else joined


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
