"""The names a train file may use, as dicts of import paths. Known without importing torch.

Adding a model, a stem, an attention or a neuron is one file and one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A registered model: where its class is, and the published values of its train-file keys."""

    path: str
    keys: Mapping[str, Any] = field(default_factory=dict)


_SPIKFORMER = {"embed_layer": "SPS", "attn_layer": "SSA", "mlp_ratio": 4.0, "attn_scale": 0.125, "step": 4}

MODELS: dict[str, Preset] = {
    "spikformer_cifar": Preset(
        "models.spikformer:Spikformer",
        {
            **_SPIKFORMER,
            "img_size": 32,
            "in_channels": 3,
            "num_classes": 10,
            "patch_size": 4,
            "embed_dim": 384,
            "num_heads": 12,
            "depths": 4,
        },
    ),
}

STEMS: dict[str, str] = {"SPS": "models.stems:SPS"}

ATTENTIONS: dict[str, str] = {"SSA": "models.attention:SSA"}

NEURONS: dict[str, str] = {
    "LIFNode": "models.neurons:LIF",
    "IFNode": "models.neurons:IF",
    "PLIFNode": "models.neurons:PLIF",
}

SURROGATES: dict[str, str] = {
    "sigmoid": "spikingjelly.activation_based.surrogate:Sigmoid",
    "atan": "spikingjelly.activation_based.surrogate:ATan",
    "erf": "spikingjelly.activation_based.surrogate:Erf",
    "piecewisequadratic": "spikingjelly.activation_based.surrogate:PiecewiseQuadratic",
    "piecewiseexp": "spikingjelly.activation_based.surrogate:PiecewiseExp",
    "softsign": "spikingjelly.activation_based.surrogate:SoftSign",
    "superspike": "spikingjelly.activation_based.surrogate:SuperSpike",
    "rect": "spikingjelly.activation_based.surrogate:Rect",
}

NEURON_KEYS: dict[str, frozenset[str]] = {
    "LIFNode": frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"}),
    "IFNode": frozenset({"threshold", "attn_threshold", "act_function", "alpha"}),
    "PLIFNode": frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"}),
}
"""The neuron keys that each neuron has; the others have no effect with it."""

ALL_NEURON_KEYS: frozenset[str] = frozenset().union(*NEURON_KEYS.values())


def load(path: str) -> Any:
    """Returns the object that an import path of the form `module:name` stands for."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
