"""The metrics of a trial: their names, axis labels and which way is better."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from config.errors import ConfigError

Direction = Literal["maximize", "minimize"]


class ResultsError(ConfigError):
    """The user's input is wrong. The text says what was asked for, what is wrong with it and the way out."""


@dataclass(frozen=True)
class Metric:
    """One measured quantity, as people read it."""

    label: str
    direction: Direction = "minimize"


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Validation accuracy (%)", "maximize"),
    "loss": Metric("Validation loss"),
    "spike_rate": Metric("Spike rate (spikes per neuron and step)"),
    "spikes": Metric("Spikes per image"),
    "synops": Metric("Synaptic operations per image"),
    "macs": Metric("Multiply-accumulates per image"),
    "energy_mj": Metric("Energy per image (mJ)"),
    "params_m": Metric("Parameters (millions)"),
    "images_per_s": Metric("Speed (images per second)", "maximize"),
    "peak_mem_gib": Metric("Peak memory (GiB)"),
}


BESIDE: dict[str, Metric] = {
    "chance": Metric("Accuracy of a guess (%)"),
    "energy_memory_mj": Metric("Energy per image, memory traffic included (mJ)"),
    "energy_ann_mj": Metric("Energy per image of a quantised ANN of the same shape (mJ)"),
}
"""What a read-out says beside its metrics; no trial is chosen by it."""

SHOWN = {**METRICS, **BESIDE}
"""All that has a label and a better direction."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean x?` for the known name closest to `name`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def check_metric(name: str) -> str:
    """Returns the name of a metric, or raises ResultsError that lists the known ones."""
    if name not in METRICS:
        raise ResultsError(f"{name}: unknown metric. Known: {', '.join(METRICS)}.{nearest(name, METRICS)}")
    return name


def format_metric(name: str, value: float) -> str:
    """Returns a metric as people read it."""
    return f"{value:.2f} %" if name == "accuracy" and name in METRICS else f"{value:.4g}"


def format_value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
