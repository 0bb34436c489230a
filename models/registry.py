"""The names a train file may use, as dicts of import paths. Known without importing torch.

Adding a stem, an attention or a neuron is one file and one line here; models stand in `models.presets`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from models.presets import MODELS as MODELS
from models.presets import Preset as Preset
from models.presets import Spread as Spread

STEMS: dict[str, str] = {
    "SPS": "models.parts.stems:SPS",
    "SPS_CML": "models.parts.stems:SPSCML",
    "MS_SPS": "models.parts.stems:MSSPS",
    "SPEDS": "models.parts.stems_two_path:SPEDS",
    "MaxFormer": "models.parts.stems_two_path:MaxFormerStem",
    "Prologue": "models.parts.stems:Prologue",
    "Encode": "models.parts.stems:Encode",
}

ATTENTIONS: dict[str, str] = {
    "SSA": "models.parts.attention:SSA",
    "SDSA": "models.parts.attention:SDSA",
    "TIM": "models.parts.attention_tim:TIM",
    "QKTA": "models.parts.attention_qk:QKTA",
    "QKCA": "models.parts.attention_qk:QKCA",
    "DSSA": "models.parts.attention_dssa:DSSA",
    "SDSA_v2": "models.parts.attention_rep:SDSAv2",
    "SDSA_v3": "models.parts.attention_rep:SDSAv3",
    "DWC3": "models.parts.attention_qk:DWC3",
    "DWC5": "models.parts.attention_qk:DWC5",
    "DWC7": "models.parts.attention_qk:DWC7",
    "identity": "models.parts.attention:Identity",
    "random": "models.parts.attention:RandomSSA",
}

NEURONS: dict[str, str] = {
    "LIFNode": "models.neurons.nodes:LIF",
    "IFNode": "models.neurons.nodes:IF",
    "PLIFNode": "models.neurons.nodes:PLIF",
    "KLIFNode": "models.neurons.nodes:KLIF",
    "CLIFNode": "models.neurons.nodes:CLIF",
    "GLIFNode": "models.neurons.nodes:GLIF",
    "ILIFNode": "models.neurons.nodes:ILIF",
    "NILIFNode": "models.neurons.nodes:NILIF",
    "PSN": "models.neurons.nodes:PSN",
}

_SURROGATE = "spikingjelly.activation_based.surrogate"
SURROGATES: dict[str, str] = {
    "sigmoid": f"{_SURROGATE}:Sigmoid",
    "atan": f"{_SURROGATE}:ATan",
    "erf": f"{_SURROGATE}:Erf",
    "piecewisequadratic": f"{_SURROGATE}:PiecewiseQuadratic",
    "piecewiseexp": f"{_SURROGATE}:PiecewiseExp",
    "softsign": f"{_SURROGATE}:SoftSign",
    "superspike": f"{_SURROGATE}:SuperSpike",
    "rect": f"{_SURROGATE}:Rect",
    "qpseudospike": f"{_SURROGATE}:QPseudoSpike",
    "nonzerosignlogabs": f"{_SURROGATE}:NonzeroSignLogAbs",
    "logtailedrelu": f"{_SURROGATE}:LogTailedReLU",
    "s2nn": f"{_SURROGATE}:S2NN",
    "fakenumericalgradient": f"{_SURROGATE}:FakeNumericalGradient",
    "leakykrelu": f"{_SURROGATE}:LeakyKReLU",
    "piecewiseleakyrelu": f"{_SURROGATE}:PiecewiseLeakyReLU",
    "squarewavefourierseries": f"{_SURROGATE}:SquarewaveFourierSeries",
}
WITHOUT_ALPHA = frozenset({"leakykrelu", "piecewiseleakyrelu", "squarewavefourierseries"})
"""Surrogates whose shape is fixed, as SpikingJelly has it."""


_LEAKY = frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"})
NEURON_KEYS: dict[str, frozenset[str]] = {
    "LIFNode": _LEAKY,
    "IFNode": _LEAKY - {"tau"},
    "PLIFNode": _LEAKY,
    "KLIFNode": _LEAKY,
    "CLIFNode": _LEAKY,
    "GLIFNode": frozenset({"act_function", "alpha"}),
    "ILIFNode": _LEAKY - {"act_function", "alpha"},
    "NILIFNode": _LEAKY - {"act_function", "alpha"},
    "PSN": _LEAKY - {"tau"},
}
"""The neuron keys that each neuron has; the others have no effect with it."""

ALL_NEURON_KEYS: frozenset[str] = frozenset().union(*NEURON_KEYS.values())

_HEADS = frozenset({"num_heads", "attn_drop"})
_SCALED = _HEADS | {"attn_scale", "attn_threshold"}
ATTENTION_KEYS: dict[str, frozenset[str]] = {
    "SSA": _SCALED,
    "SDSA": frozenset({"attn_drop", "attn_threshold"}),
    "TIM": _SCALED | {"tim_alpha", "tim_threshold"},
    "QKTA": _HEADS | {"attn_threshold"},
    "QKCA": frozenset({"attn_drop", "attn_threshold"}),
    "DSSA": frozenset({"num_heads", "attn_threshold"}),
    "SDSA_v2": _SCALED,
    "SDSA_v3": _SCALED,
    "DWC3": frozenset(),
    "DWC5": frozenset(),
    "DWC7": frozenset(),
    "identity": frozenset(),
    "random": _SCALED,
}
"""The model keys that each attention has; of them all, the others have no effect with it."""

ACAUSAL_NEURONS = frozenset({"PSN", "ILIFNode", "NILIFNode"})
"""Neurons with which the output at a step is not what a run of fewer steps would give."""


def without_effect(model: str, attentions: Iterable[str], node_type: str) -> frozenset[str]:
    """Returns the keys that this model, with these attentions and this neuron, has no use for."""
    used = frozenset().union(*(ATTENTION_KEYS[name] for name in attentions))
    of_attentions = frozenset().union(*ATTENTION_KEYS.values())
    return lacking(model, node_type) | (of_attentions - used)


def lacking(model: str, node_type: str) -> frozenset[str]:
    """Returns the keys that the model's family or the neuron does not have, whatever the attention."""
    return MODELS[model].lacks | (ALL_NEURON_KEYS - NEURON_KEYS[node_type])


def load(path: str) -> Any:
    """Returns the object that an import path of the form `module:name` stands for."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
