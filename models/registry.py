"""Names allowed in a train file, as dicts of import paths. Does not import torch.

A new stem, attention or neuron is one module and one line here; models are in `models.presets`.
"""

from __future__ import annotations

import importlib
from typing import Any

from models.presets import MODELS as MODELS
from models.presets import Preset as Preset
from models.presets import Spread as Spread

STEMS: dict[str, str] = {
    "SPS": "models.parts.stems:SPS",
    "SPS_CML": "models.parts.stems:SPSCML",
    "SPS_ADD": "models.parts.stems:SPSAdd",
    "MS_SPS": "models.parts.stems:MSSPS",
    "SPEDS": "models.parts.stems_two_path:SPEDS",
    "MaxFormer": "models.parts.stems_two_path:MaxFormerStem",
    "STMixer": "models.parts.stems_two_path:STMixerStem",
    "SGLFormer": "models.parts.stems:SGLStem",
    "SGLFormer_ima": "models.parts.stems:SGLStemIma",
    "SGLFormer_ima2": "models.parts.stems:SGLStemIma2",
    "sequential_embed": "models.parts.stems_sequence:SequentialEmbed",
    "conv2_embed": "models.parts.stems:ShortSPS",
    "vit_embed": "models.parts.stems:PatchEmbed",
    "Prologue": "models.parts.stems:Prologue",
    "Encode": "models.parts.stems:Encode",
}

ATTENTIONS: dict[str, str] = {
    "SSA": "models.attention.ssa:SSA",
    "SDSA": "models.attention.ssa:SDSA",
    "TIM": "models.attention.tim:TIM",
    "QKTA": "models.attention.qk:QKTA",
    "QKCA": "models.attention.qk:QKCA",
    "MSSA": "models.attention.multiscale:MSSA",
    "MSSA_pointwise": "models.attention.multiscale:MSSAPointwise",
    "DSSA": "models.attention.dssa:DSSA",
    "SDSA_v2": "models.attention.rep:SDSAv2",
    "SDSA_v3": "models.attention.rep:SDSAv3",
    "FATM": "models.attention.wavelet:FATM",
    "FATM_binary": "models.attention.wavelet:FATMBinary",
    "DWC3": "models.attention.qk:DWC3",
    "DWC5": "models.attention.qk:DWC5",
    "DWC7": "models.attention.qk:DWC7",
    "EMSA": "models.attention.experts:EMSA",
    "TokenMix": "models.attention.token_mix:TokenMix",
    "LSSA": "models.attention.local:LSSA",
    "LocalConv": "models.attention.local:LocalConv",
    "identity": "models.attention.ssa:Identity",
    "random": "models.attention.ssa:RandomSSA",
}

MLPS: dict[str, str] = {
    "MLP": "models.parts.blocks:MLP",
    "EMSP": "models.attention.experts:EMSP",
}

NEURONS: dict[str, str] = {
    "LIFNode": "models.neurons.nodes:LIF",
    "IFNode": "models.neurons.nodes:IF",
    "PLIFNode": "models.neurons.nodes:PLIF",
    "KLIFNode": "models.neurons.nodes:KLIF",
    "EIFNode": "models.neurons.nodes:EIF",
    "HDLIFNode": "models.neurons.mixture:HDLIF",
    "CLIFNode": "models.neurons.nodes:CLIF",
    "GLIFNode": "models.neurons.nodes:GLIF",
    "ILIFNode": "models.neurons.nodes:ILIF",
    "NILIFNode": "models.neurons.nodes:NILIF",
    "IELIFNode": "models.neurons.quantizer:IELIF",
    "PSN": "models.neurons.nodes:PSN",
}

_SURROGATES = (
    *("Sigmoid", "ATan", "Erf", "PiecewiseQuadratic", "PiecewiseExp", "SoftSign", "SuperSpike", "Rect"),
    *("QPseudoSpike", "NonzeroSignLogAbs", "LogTailedReLU", "S2NN", "FakeNumericalGradient", "LeakyKReLU"),
    *("PiecewiseLeakyReLU", "SquarewaveFourierSeries"),
)
SURROGATES: dict[str, str] = {name.lower(): f"spikingjelly.activation_based.surrogate:{name}" for name in _SURROGATES}
SURROGATES["dspike"] = "models.neurons.dspike:DSpike"
WITHOUT_ALPHA = frozenset({"leakykrelu", "piecewiseleakyrelu", "squarewavefourierseries"})
"""Surrogates of fixed shape in SpikingJelly."""

EXIT_RULES: dict[str, str] = {
    "confidence": "models.exits.rules:CONFIDENCE",
    "msprt": "models.exits.rules:MSPRT",
    "margin": "models.exits.rules:MARGIN",
    "entropy": "models.exits.rules:ENTROPY",
    "agreement": "models.exits.rules:AGREEMENT",
}

_LEAKY = frozenset({"tau", "threshold", "attn_threshold", "act_function", "alpha"})
NEURON_KEYS: dict[str, frozenset[str]] = {
    "LIFNode": _LEAKY,
    "IFNode": _LEAKY - {"tau"},
    "PLIFNode": _LEAKY,
    "KLIFNode": _LEAKY,
    "EIFNode": _LEAKY,
    "HDLIFNode": _LEAKY,
    "CLIFNode": _LEAKY,
    "GLIFNode": frozenset({"act_function", "alpha"}),
    "ILIFNode": _LEAKY - {"act_function", "alpha"},
    "NILIFNode": _LEAKY - {"act_function", "alpha"},
    "IELIFNode": frozenset({"threshold", "attn_threshold"}),
    "PSN": _LEAKY - {"tau"},
}
"""The neuron keys that have an effect with each neuron."""

ALL_NEURON_KEYS: frozenset[str] = frozenset().union(*NEURON_KEYS.values())

_HEADS = frozenset({"num_heads", "attn_drop"})
_SCALED = _HEADS | {"attn_scale", "attn_threshold"}
ATTENTION_KEYS: dict[str, frozenset[str]] = {
    "SSA": _SCALED,
    "SDSA": frozenset({"attn_drop", "attn_threshold"}),
    "TIM": _SCALED | {"tim_alpha", "tim_threshold"},
    **dict.fromkeys(("QKTA", "MSSA", "MSSA_pointwise"), _HEADS | {"attn_threshold"}),
    "QKCA": frozenset({"attn_drop", "attn_threshold"}),
    "DSSA": frozenset({"num_heads", "attn_threshold"}),
    "SDSA_v2": _SCALED,
    "SDSA_v3": _SCALED,
    "TokenMix": _HEADS | {"attn_threshold"},
    "EMSA": (_SCALED - {"num_heads"}) | {"expert_dim", "num_expert"},
    "LSSA": _SCALED,
    "random": _SCALED,
    **dict.fromkeys(("FATM", "FATM_binary"), frozenset({"attn_threshold", "wavelet_groups"})),
    **dict.fromkeys(("DWC3", "DWC5", "DWC7", "LocalConv", "identity"), frozenset[str]()),
}
"""The attention keys that have an effect with each attention."""

ACAUSAL_NEURONS = frozenset({"PSN", "ILIFNode", "NILIFNode", "HDLIFNode"})
"""Neurons whose output at a step differs from that of a run with fewer steps."""

ACAUSAL_HEADS = frozenset({"spatio_temporal"})
"""Heads that read all steps at once, so that there is no output of a single step."""

ALL_STEPS_NEURONS = frozenset({"PSN", "HDLIFNode"})
"""Neurons that need the currents of all steps in one call."""

FAMILY_KEYS_OF_NEURONS: dict[str, frozenset[str]] = {"HDLIFNode": frozenset({"legacy_batch_leak"})}
"""Model keys that a neuron reads in every family."""


TOKEN_WISE_FAMILIES = frozenset({"spikformer", "spikingformer", "sdt", "tim", "qkformer", "maxformer"})
TOKEN_WISE_ATTENTIONS = frozenset({"SSA", "SDSA", "QKTA", "QKCA", "identity", "random"})
"""Families and attentions whose blocks have only 1x1 layers, and so run on any subset of the tokens."""


def lacking(model: str, node_type: str) -> frozenset[str]:
    """Returns the keys without effect for the model's family or the neuron, for any attention."""
    family = MODELS[model].lacks - FAMILY_KEYS_OF_NEURONS.get(node_type, frozenset())
    return family | (ALL_NEURON_KEYS - NEURON_KEYS[node_type])


def load(path: str) -> Any:
    """Returns the object at an import path of the form `module:name`."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
