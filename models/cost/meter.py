"""Metered forward passes: neurons, spikes, synaptic operations, MACs and energy of a model.

A layer that reads spikes counts one synaptic operation (an accumulate) per spike and weight; a layer that reads real
values counts MACs. `models.cost.counters` has the rule of each kind of layer, `models.cost.energy` the energy.
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
from models.cost.counters import CallCount, CountContext, Counter, counter_of, largest_level, spikes_per_value
from models.device import copy_to
from models.parts.backbone import SpikingModel

EnergyRule = Literal["default", "published"]
"""The rule of `energy_mj`: from `macs` and `synops`, or that of the published tool (docs/measurement.md)."""


@dataclass(frozen=True)
class LayerTotal:
    """Counts of one layer over all images and the steps that each of them ran."""

    kind: str
    shape: CallCount
    images: int
    steps: float
    """Mean steps of an image."""
    runs: float
    """Mean runs of the layer per image."""
    is_once: bool
    sums: dict[str, float]

    @property
    def spikes(self) -> float:
        return self.sums.get("spikes", 0.0) if self.shape.neurons else 0.0

    @property
    def macs(self) -> float:
        return self.shape.dense * self.runs * self.images if self.shape.is_real else 0.0

    @property
    def synops(self) -> float:
        """Returns the operations of the operand with the fewest."""
        return min((value for name, value in self.sums.items() if name.startswith("synops")), default=0.0)

    def published(self) -> energy.PublishedLayer:
        """Returns the layer as the published tool counts it, which charges a still image's convolution at each step."""
        steps = self.steps if self.is_once and self.kind != "Head" else self.runs
        operations = (self.shape.dense + self.shape.bias) * steps
        if self.shape.is_real:
            return energy.PublishedLayer(operations, None)
        ones = self.sums["input"]
        if ones != self.sums["square"]:  # values are whole numbers, or at most 1
            return energy.PublishedLayer(operations, None)
        return energy.PublishedLayer(operations, ones / (self.images * self.shape.inputs * max(steps, 1)))


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

    def until(self, read_step: int) -> LayerTotal:
        """Returns the counts of the first steps of all images."""
        runs = 1 if self.is_once else max(0, read_step - self.first_step)
        sums = {name: sum(values[:read_step]) for name, values in self.sums.items()}
        return LayerTotal(self.kind, self.shape, self.images, read_step, runs, self.is_once, sums)

    def exited(self, images: int, steps: float, sums: dict[str, float]) -> LayerTotal:
        """Returns the counts of images that exit after `steps` steps in the mean; a head then runs at each step."""
        runs = 1.0 if self.is_once and self.kind != "Head" else max(0.0, steps - self.first_step)
        return LayerTotal(self.kind, self.shape, images, steps, runs, self.is_once, sums)


class Meter:
    """Counts the forward passes made through it, `with Meter(model) as meter: logits = meter.forward_steps(x)`.

    The counts remain on the device until they are read. With `by_image` it keeps those of each image, for
    `exit_totals`.
    """

    def __init__(self, model: SpikingModel, rule: EnergyRule = "default", *, by_image: bool = False) -> None:
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
        self._by_image: list[Tensor] | None = [] if by_image else None
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
            stacked = torch.stack(sums)
            self._accumulate(stacked.sum(2, dtype=torch.float64), rows, factors)
            if self._by_image is not None:
                _, scale = self._constants[tuple(rows), tuple(factors)]
                self._by_image.append(stacked.double() * scale.unsqueeze(2))

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
        return self._per_image([layer.until(read_step) for layer in self.layers.values()], read_step)

    def exit_totals(self, steps: Tensor, index: Tensor, decision_macs: float = 0.0) -> dict[str, float]:
        """Returns `totals` of the images in `index`, of which each ran its number of `steps`, both [N].

        Images are numbered in the order of the passes. A head on real input runs at each step, since each has a
        decision, whose own operations are added to `macs`.
        """
        assert self._by_image is not None, "the counts of each image need by_image=True"
        self._by_image = [torch.cat(self._by_image, 2)]  # once for all exit points
        counts = self._by_image[0][:, :, index].cumsum(1)  # rows, steps, images
        chosen = (steps - 1).view(1, 1, -1).expand(len(counts), 1, -1)
        values = counts.gather(1, chosen).sum((1, 2)).tolist()
        mean_steps = float(steps.double().mean())
        sums: dict[str, dict[str, float]] = {name: {} for name in self._layers}
        for (name, quantity), row in self._rows.items():
            sums[name][quantity] = values[row]
        layers = [layer.exited(len(index), mean_steps, sums[name]) for name, layer in self._layers.items()]
        return self._per_image(layers, mean_steps, decision_macs)

    def _per_image(self, layers: list[LayerTotal], steps: float, more_macs: float = 0.0) -> dict[str, float]:
        images = layers[0].images
        spikes = sum(layer.spikes for layer in layers) / images
        neurons = sum(layer.shape.neurons for layer in layers)
        synops = sum(layer.synops for layer in layers) / images
        macs = sum(layer.macs for layer in layers) / images + more_macs
        more_mj = energy.energy_mj(more_macs, 0.0)
        return {
            "spike_rate": spikes / (neurons * steps * self._levels),
            "spikes": spikes,
            "synops": synops,
            "macs": macs,
            "energy_mj": energy.energy_mj(macs, synops) if self.rule == "default" else _published(layers) + more_mj,
        }

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
            total = layer.until(read_step)
            row: dict[str, Any] = {"name": name, "kind": total.kind}
            if total.shape.role == "neuron":
                spikes = total.spikes / self.images
                rate = spikes / (total.shape.neurons * read_step * self._levels)
                row |= {"neurons": total.shape.neurons, "spikes": spikes, "spike_rate": rate}
            else:
                row["synops"] = total.synops / self.images
                row["macs"] = total.macs / self.images
                row["energy_mj"] = (
                    energy.energy_mj(row["macs"], row["synops"]) if self.rule == "default" else _published([total])
                )
            rows.append(row)
        return rows


def _join(sums: list[Tensor], images: int, steps: int) -> Tensor:
    """Returns the sums of a layer's calls in a pass, [steps, B]; with fewer steps, these are the last ones."""
    per_image = [x if x.shape[1] == images else x.view(len(x), images, -1).sum(2) for x in sums]
    joined = per_image[0] if len(per_image) == 1 else torch.cat(per_image)
    return F.pad(joined, (0, 0, steps - len(joined), 0)) if len(joined) < steps else joined


def _published(layers: list[LayerTotal]) -> float:
    attention = sum(layer.synops for layer in layers if layer.shape.role == "attention") / layers[0].images
    weights = [layer.published() for layer in layers if layer.shape.role == "weights"]
    return energy.published_energy_mj(weights, attention)


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
