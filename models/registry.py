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
    "SPS": "models.stems:SPS",
    "SPS_CML": "models.stems:SPSCML",
    "MS_SPS": "models.stems:MSSPS",
    "SPEDS": "models.stems_two_path:SPEDS",
    "MaxFormer": "models.stems_two_path:MaxFormerStem",
    "Prologue": "models.stems_conv:Prologue",
    "Encode": "models.stems_conv:Encode",
}

ATTENTIONS: dict[str, str] = {
    "SSA": "models.attention:SSA",
    "SDSA": "models.attention:SDSA",
    "TIM": "models.tim:TIM",
    "QKTA": "models.attention_qk:QKTA",
    "QKCA": "models.attention_qk:QKCA",
    "DSSA": "models.attention_dssa:DSSA",
    "SDSA_v2": "models.attention_rep:SDSAv2",
    "SDSA_v3": "models.attention_rep:SDSAv3",
    "DWC3": "models.attention_qk:DWC3",
    "DWC5": "models.attention_qk:DWC5",
    "DWC7": "models.attention_qk:DWC7",
    "identity": "models.attention:Identity",
    "random": "models.attention:RandomSSA",
}

NEURONS: dict[str, str] = {
    "LIFNode": "models.neurons:LIF",
    "IFNode": "models.neurons:IF",
    "PLIFNode": "models.neurons:PLIF",
    "KLIFNode": "models.neurons:KLIF",
    "CLIFNode": "models.neurons:CLIF",
    "GLIFNode": "models.neurons:GLIF",
    "ILIFNode": "models.neurons:ILIF",
    "NILIFNode": "models.neurons:NILIF",
    "PSN": "models.neurons:PSN",
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

ALIASES: dict[str, str] = {
    "spikformer_imgnet": "spikformer_imagenet",
    "std_cifar": "sdt_cifar",
    "std_imagenet": "sdt_imagenet",
    "tim": "tim_dvs",
    "random_ssa": "random",
    "random_sdsa": "random",
    "GLIFTorch": "GLIFNode",
    "ComplementaryLIFNeuron": "CLIFNode",
    "PSNTorch": "PSN",
    "SigmoidGrad": "sigmoid",
    "Sigmoid_Grad": "sigmoid",
    "AtanGrad": "atan",
}
"""The benchmark's spellings of models, attentions, neurons and surrogates, and what they are called here."""

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
