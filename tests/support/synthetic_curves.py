"""Synthetic table of learning curves in closed form, of any size, for tests and for many workers.

A config determines the limit of its accuracy and the speed towards it; the spike rate converges. Both have noise
by seed and epoch. Some configs fall silent or diverge, and wide slow ones overtake late. Nothing is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import Any

from config.document import Document
from search.algorithm.samplers import config_key
from search.simulation.recorded_curves import Curve
from search.simulation.simulator import uniform
from search.space import reader
from search.space.space import Space
from trainers.epoch_metrics import EpochMetrics

CHANCE = 13.0
NOISE = NormalDist()


def make_space(levels: int = 4, epochs: int = 27) -> Space:
    """Returns a space of 3 x (3 + 2) x levels^2 configs in which one option has a conditional key."""
    raw = {
        "study": "synthetic",
        "base": "spikformer/digits",
        "fixed": {"distort": False},
        "objectives": {"accuracy": "maximize", "spike_rate": "minimize"},
        "space": {
            "step": {"choice": [1, 2, 4]},
            "attn_layer": {"choice": {"SSA": {"attn_scale": {"choice": [0.1, 0.25, 0.5]}}, "QKTA": None, "SDSA": None}},
            "tau": {"choice": [round(1.2 + 1.6 * i / (levels - 1), 4) for i in range(levels)]},
            "lr": {"choice": [round(10.0 ** (-3.5 + 2.0 * i / (levels - 1)), 8) for i in range(levels)]},
        },
        "budget": {"trials": 100, "epochs": epochs},
        "scheduler": {"name": "moasha", "grace_epochs": 1, "reduction_factor": 3},
    }
    return reader.read(Document("synthetic", raw))


@dataclass(frozen=True)
class Synthetic:
    """A table like those of `search.simulation.recorded_curves`, but computed."""

    space: Space
    configs: tuple[Mapping[str, Any], ...]
    numbers: Mapping[str, int]
    epochs: int
    seeds: tuple[int, ...] = (1, 2)

    def index(self, values: Mapping[str, Any]) -> int:
        return self.numbers[config_key(values)]

    def curve(self, index: int, seed_position: int) -> Curve:
        return _curve(tuple(sorted(self.configs[index].items())), self.seeds[seed_position], self.epochs)


def make_table(levels: int = 4, epochs: int = 27) -> Synthetic:
    """Returns the table of `make_space` with this number of levels of its numeric keys."""
    space = make_space(levels, epochs)
    choices = {key: choice.options for key, choice in space.keys.items()}  # type: ignore[union-attr]  # all are choices
    configs = []
    for options in product(*choices.values()):  # the conditional key last: curves depend on the order
        values = dict(zip(choices, options, strict=True))
        scales = (0.1, 0.25, 0.5) if values["attn_layer"] == "SSA" else (None,)
        configs += [values if scale is None else {**values, "attn_scale": scale} for scale in scales]
    numbers = {config_key(values): number for number, values in enumerate(configs)}
    return Synthetic(space, tuple(configs), numbers, epochs)


@dataclass
class EndTable:
    """Table of one epoch: for each config its (accuracy, spike rate) by seed; None if the training failed."""

    ends: list[list[tuple[float, float] | None]]
    space: Space = field(default_factory=make_space)
    epochs: int = 1

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(len(self.ends[0])))

    @property
    def configs(self) -> tuple[dict[str, Any], ...]:
        return tuple({"config": index} for index in range(len(self.ends)))

    def index(self, values: Mapping[str, Any]) -> int:
        return int(values["config"])

    def curve(self, index: int, seed_position: int) -> Curve:
        end = self.ends[index][seed_position]
        if end is None:
            return Curve((), (), ("silent", 0.5))
        metrics = {"accuracy": end[0], "spike_rate": end[1]}
        return Curve((EpochMetrics(1, metrics, [{"read_step": 1, "chance": CHANCE, **metrics}], []),), (1.0,), None)


@lru_cache(maxsize=65536)
def _curve(config: tuple[tuple[str, Any], ...], seed: int, epochs: int) -> Curve:
    values = dict(config)
    slow = abs(math.log10(values["lr"]) + 2.3) + 0.3 * (values["step"] == 4)
    ends = 97.0 - 9.0 * (values["tau"] - 2.0 + 0.2 * values["step"]) ** 2 - 6.0 * (math.log10(values["lr"]) + 2.4) ** 2
    ends += 1.5 * math.log2(values["step"])
    ends -= {"SSA": 8.0 * abs(values.get("attn_scale", 0.25) - 0.25), "QKTA": 1.5, "SDSA": 4.0}[values["attn_layer"]]
    ends += _normal(1.0, config, "own") + _normal(0.4, config, seed)
    rate = 0.05 * (1.0 + 0.8 * (3.0 - values["tau"])) * {"SSA": 1.4, "QKTA": 1.0, "SDSA": 0.7}[values["attn_layer"]]
    rate *= math.exp(_normal(0.1, config, "rate"))
    failure = _failure(values, config, seed)
    found = []
    last = math.ceil(failure[1]) - 1 if failure is not None and failure[0] == "diverged" else epochs
    for epoch in range(1, last + 1):
        risen = 1.0 - math.exp(-epoch / (2.0 + 4.0 * slow))
        found.append(
            _epoch(
                epoch,
                values["step"],
                10.0 + (ends - 10.0) * risen + _normal(0.5, config, seed, epoch),
                rate * (1.0 + 0.8 * math.exp(-epoch / 3.0)),
            )
        )
    return Curve(tuple(found), (4.0 + values["step"],) * last, failure)


def _failure(values: Mapping[str, Any], config: object, seed: int) -> tuple[str, float] | None:
    if values["tau"] > 2.5 and uniform("silent", config) < 0.5:
        return "silent", 0.2 + 0.3 * uniform("silent at", config, seed)
    if values["lr"] > 0.02 and uniform("diverged", config, seed) < 0.3:
        return "diverged", 1.0 + 5.0 * uniform("diverged at", config, seed)
    return None


def _normal(spread: float, *key: object) -> float:
    return spread * NOISE.inv_cdf(uniform("normal", *key))


def _epoch(number: int, step: int, accuracy: float, rate: float) -> EpochMetrics:
    read_outs = []
    for t in range(1, step + 1):
        found = {"accuracy": accuracy - 3.0 * (1.0 / t - 1.0 / step), "spike_rate": rate * (0.7 + 0.3 * t / step)}
        found |= {"synops": 1e5 * t * found["spike_rate"], "loss": 3.0 - found["accuracy"] / 40.0}
        read_outs.append({"read_step": t, "chance": CHANCE, **found})
    metrics = {key: value for key, value in read_outs[-1].items() if key not in ("read_step", "chance")}
    return EpochMetrics(number, metrics, read_outs, [])
