"""Metrics of a trial: names, axis labels, directions and number formats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from config.errors import ConfigError, did_you_mean

Direction = Literal["maximize", "minimize"]


class ResultsError(ConfigError):
    """Wrong input for reading a study. The text names the request, the problem and the remedy."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its axis label with the unit, the better direction, and the unit in short."""

    label: str
    direction: Direction = "minimize"
    unit: str = ""


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Validation accuracy (%)", "maximize", unit="%"),
    "loss": Metric("Validation loss"),
    "spike_rate": Metric("Spike rate (spikes per neuron and step)", unit="spikes/neuron/step"),
    "spikes": Metric("Spikes per image", unit="spikes/image"),
    "synops": Metric("Synaptic operations per image", unit="synops/image"),
    "macs": Metric("Multiply-accumulates per image", unit="MACs/image"),
    "energy_mj": Metric("Energy per image (mJ)", unit="mJ/image"),
    "steps": Metric("Timesteps per image", unit="steps/image"),
    "params_m": Metric("Parameters (millions)", unit="M parameters"),
    "images_per_s": Metric("Speed (images per second)", "maximize", unit="images/s"),
    "peak_mem_gib": Metric("Peak memory (GiB)", unit="GiB"),
}

REQUESTED_METRICS: dict[str, Metric] = {
    "accuracy_int8": Metric("Validation accuracy in 8-bit integers (%)", "maximize", unit="%"),
}
"""Values of the read-outs of full trainings that a key of the train file asks for; no objectives."""

EXTRA_METRICS: dict[str, Metric] = {
    **REQUESTED_METRICS,
    "chance": Metric("Accuracy of a guess (%)", unit="%"),
    "energy_memory_mj": Metric("Energy per image, memory traffic included (mJ)", unit="mJ/image"),
    "energy_ann_mj": Metric("Energy per image of a quantised ANN of the same shape (mJ)", unit="mJ/image"),
}
"""Further values of a read-out; no trial is picked by those that were not requested."""

ALL_METRICS = {**METRICS, **EXTRA_METRICS}


def check_metric(name: str) -> str:
    """Returns the name of a metric. Raises ResultsError with the known names for any other."""
    known = {**METRICS, **REQUESTED_METRICS}
    if name not in known:
        raise ResultsError(f"{name}: unknown metric. Known: {', '.join(known)}.{did_you_mean(name, METRICS)}")
    return name


def product_unit(names: Iterable[str]) -> str:
    """Returns the unit of a product of metrics, such as a hypervolume, from the units of the metrics."""
    return " \u00d7 ".join(ALL_METRICS[name].unit or name for name in names)


def counted(count: int, noun: str) -> str:
    """Returns a number with its noun: `1 trial`, `3 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_metric(name: str, value: float) -> str:
    """Returns a metric with four digits, accuracy in percent: `90.10 %`."""
    return f"{value:.2f} %" if name in ("accuracy", "accuracy_int8") else f"{value:.4g}"


def format_value(value: object) -> str:
    """Returns a value, floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_number(value: float) -> str:
    """Returns a short number: 1.68 M, 0.1786, 96. Prefixes start at 10 k."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(factor, 1e4):
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.4g}"


def format_params(params: dict[str, object]) -> str:
    """Returns searched values as one line: `tau=1.744 step=2`."""
    return " ".join(f"{key}={format_param(value)}" for key, value in params.items())


def format_param(value: object) -> str:
    """Returns a hyperparameter's value, floats with four digits, lists joined by dashes."""
    return "-".join(map(format_param, value)) if isinstance(value, list | tuple) else format_value(value)
