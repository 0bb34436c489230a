"""Report on an integer graph: a row for each layer with its sizes, ranges and what published cores can hold."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np

from models.chip.cores import APPROXIMATE, CORES, FAITHFUL, PASSIVE, UNSUPPORTED, Sizes
from models.chip.graph import Graph, Node
from models.chip.ops import Array
from models.literature import table_lines

COLUMNS = (
    "layer", "op", "weights", "weight_bits", "lowest", "largest", "synapses", "fan_in", "fan_out", "neurons",
    "threshold_min", "threshold_max", "leak", "membrane_bits", "peak_bits", "saturated", "spikes", "synops", "drift",
    *(core.name for core in CORES),
)  # fmt: skip
"""Of the CSV file."""
SHOWN = (
    "layer", "op", "bits", "range", "synapses", "fan-in", "fan-out", "neurons", "threshold", "leak", "saturated",
    "spikes", "synops", "drift", *(core.name for core in CORES),
)  # fmt: skip
"""Of the page."""
TEXTS = {"layer", "op", "leak"}
BETWEEN = frozenset({"scale", "add", "sum"})
"""Operations between layers, in the CSV file only."""
ABOUT = (
    "Yes: within the published limits. About: with a change that alters spikes. No chip was at hand; memory, routing "
    "and timing are not modelled."
)
MARKS = {FAITHFUL: "yes", APPROXIMATE: "about", UNSUPPORTED: "no"}


@dataclass
class Measured:
    """What was measured on images, all per image, by the name of a layer; empty where nothing was."""

    facts: dict[str, str] = field(default_factory=dict)
    """Lines of the page's head."""
    spikes: dict[str, float] = field(default_factory=dict)
    synops: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)
    """Over all images."""
    peaks: dict[str, float] = field(default_factory=dict)
    drift: dict[str, float] = field(default_factory=dict)
    """Share of neurons x steps whose output is not the float model's, in percent."""


def rows(graph: Graph, measured: Measured) -> list[dict[str, Any]]:
    """Returns a row of each node that has weights, neurons, products or a pool; values that it lacks are absent."""
    found = []
    for node in graph.nodes:
        if node.op in PASSIVE or node.op in ("input", "constant", "readout"):
            continue
        source = graph[node.inputs[0]]
        row = {"layer": node.layer or node.name, "op": _describe(node), **_weights(node, source), **_neurons(node)}
        name = node.layer or node.name
        for key in ("spikes", "drift") if node.op == "neuron" else ("synops",):
            values: Mapping[str, Any] = getattr(measured, key)
            if name in values:
                row[key] = values[name]
        if name in measured.peaks and "bits" in node.attrs:
            row["saturated"] = measured.saturated.get(name, 0)
            row["peak_bits"] = int(measured.peaks[name]).bit_length() + 1
        found.append(row | _cores(node, source, row))
    return found


def _describe(node: Node) -> str:
    if node.op == "conv":
        kernel = " x ".join(str(size) for size in node.arrays["weight"].shape[2:])
        groups = node.attrs["groups"]
        return f"conv {kernel}" + (f", {groups} groups" if groups > 1 else "")
    return str(node.attrs["kind"]) if node.op == "neuron" else node.op


def _weights(node: Node, source: Node) -> dict[str, Any]:
    weight = node.arrays.get("weight")
    if weight is None:
        return {}
    lowest, largest = int(weight.min()), int(weight.max())
    bits = max((-lowest - 1).bit_length() if lowest < 0 else 0, largest.bit_length()) + 1
    per_output = weight[0].size
    row = {"weights": weight.size, "weight_bits": bits, "lowest": lowest, "largest": largest, "fan_in": per_output}
    if node.op == "linear":
        outer = int(np.prod(node.shape[:-1], dtype=int))
        return row | {"synapses": weight.size * outer, "fan_out": len(weight)}
    outputs, groups = len(weight), node.attrs["groups"]
    sides = [_pairs(source.shape[i], weight.shape[i], node, i) for i in (-2, -1)]
    outer = int(np.prod(node.shape[:-3], dtype=int))
    pairs, reach = sides[0].sum() * sides[1].sum(), sides[0].max() * sides[1].max()
    return row | {
        "synapses": int(outer * outputs * weight.shape[1] * pairs),
        "fan_out": int(outputs // groups * reach),
    }


def _pairs(size: int, kernel: int, node: Node, axis: int) -> Array:
    """Returns the number of outputs along an axis that each input feeds."""
    uses = np.zeros(size, int)
    stride, padding = node.attrs["stride"][axis], node.attrs["padding"][axis]
    for start in range(node.shape[axis]):
        first = start * stride - padding
        uses[max(first, 0) : max(first + kernel, 0)] += 1
    return uses


def _neurons(node: Node) -> dict[str, Any]:
    if node.op != "neuron":
        return {}
    threshold, attrs = node.arrays["threshold"], node.attrs
    keep = f"{attrs['keep_numerator']}/2^{attrs['keep_shift']}" if "keep_numerator" in attrs else "none"
    return {
        "neurons": int(np.prod(node.shape, dtype=int)),
        "threshold_min": int(threshold.min()),
        "threshold_max": int(threshold.max()),
        "leak": keep,
        "membrane_bits": attrs["bits"],
    }


def _cores(node: Node, source: Node, row: Mapping[str, Any]) -> dict[str, str]:
    weight = node.arrays.get("weight")
    sizes = Sizes(
        node,
        fan_in=row.get("fan_in", 0),
        distinct=0 if weight is None else max(np.unique(one[one != 0]).size for one in weight),
        weight_bits=row.get("weight_bits", 0),
        membrane_bits=row.get("peak_bits", row.get("membrane_bits", 0)),
        has_leak=row.get("leak", "none") != "none",
        input_size=max(source.shape[1:], default=1),
    )
    verdicts = {core.name: core.verdict(sizes) for core in CORES}
    return {name: status + (f": {reason}" if reason else "") for name, (status, reason) in verdicts.items()}


def csv_text(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as CSV; numbers round-trip."""
    content = StringIO(newline="")
    writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return content.getvalue()


def page(graph: Graph, found: Sequence[Mapping[str, Any]], measured: Measured) -> str:
    """Returns the report as Markdown."""
    meta = graph.meta
    facts = {
        "steps": str(graph.steps),
        "weights": f"{meta['bits']} bits, {sum(row.get('weights', 0) for row in found):,} in all",
        "synapses": f"{sum(row.get('synapses', 0) for row in found):,}, fan-in to "
        f"{max(row.get('fan_in', 0) for row in found):,}, fan-out to {max(row.get('fan_out', 0) for row in found):,}",
        "neurons": f"{sum(row.get('neurons', 0) for row in found):,}, membranes of {meta['membrane_bits']} bits",
        "accumulators": f"{meta['accumulator_bits']} bits",
        **measured.facts,
    }
    lines = ["# Integer network", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    layers = [row for row in found if row["op"] not in BETWEEN]
    lines += [
        "## Layers",
        "",
        *table_lines(SHOWN, map(_cells, layers), set(SHOWN) - TEXTS),
        "",
        "## Cores",
        "",
        ABOUT,
        "",
    ]
    for core in CORES:
        lines += [f"**{core.name}** ({core.source}):", "", *(f"- {line}" for line in _reasons(core.name, found)), ""]
    if meta["notes"]:
        lines += ["## Approximations", "", *(f"- `{name}`: {text}" for name, text in meta["notes"]), ""]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    thresholds = [f"{row[key]:,}" for key in ("threshold_min", "threshold_max") if key in row]
    limits = [str(row[key]) for key in ("lowest", "largest") if key in row]
    shown = {
        "layer": f"`{row['layer']}`",
        "op": row["op"],
        "bits": row.get("weight_bits", row.get("peak_bits", row.get("membrane_bits"))),
        "range": "..".join(limits),
        "fan-in": row.get("fan_in"),
        "fan-out": row.get("fan_out"),
        "threshold": "..".join(dict.fromkeys(thresholds)),
        "drift": f"{row['drift']:.2f} %" if "drift" in row else None,
        **{core.name: MARKS[row[core.name].partition(":")[0]] for core in CORES},
    }
    return [_shown(shown[key] if key in shown else row.get(key)) for key in SHOWN]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _reasons(core: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns each reason of a core with its layers."""
    layers: dict[str, list[str]] = {}
    for row in found:
        status, _, reason = row[core].partition(": ")
        if reason:
            layers.setdefault(f"{status}: {reason}", []).append(f"`{row['layer']}`")
    return [f"{reason}: {', '.join(names)}" for reason, names in layers.items()] or ["all layers within its limits"]
