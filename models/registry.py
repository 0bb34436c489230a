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
    lacks: frozenset[str] = frozenset()
    """Model keys that have no effect in this family, beyond those that its attention and neuron lack."""
    stem_aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of stems that mean another one in this family's published files."""


_CIFAR = {"img_size": 32, "in_channels": 3, "num_classes": 10, "patch_size": 4, "step": 4, "mlp_ratio": 4.0}
_IMAGENET = {"img_size": 224, "in_channels": 3, "num_classes": 1000, "patch_size": 16, "step": 4, "mlp_ratio": 4.0}
_DVS = {"img_size": 128, "in_channels": 2, "num_classes": 10, "patch_size": 16, "step": 16, "mlp_ratio": 4.0}
_2_256 = {"embed_dim": 256, "num_heads": 16, "depths": 2}
_4_384 = {"embed_dim": 384, "num_heads": 12, "depths": 4}
_8_512 = {"embed_dim": 512, "num_heads": 8, "depths": 8}

_SPIKFORMER = {"embed_layer": "SPS", "attn_layer": "SSA", "residual": "sew"}
_SPIKINGFORMER = {"embed_layer": "SPS", "attn_layer": "SSA", "residual": "ms"}
_SDT = {"embed_layer": "MS_SPS", "attn_layer": "SDSA", "residual": "ms"}
_SDT_STEMS = {"SPS": "MS_SPS"}

MODELS: dict[str, Preset] = {
    "spikformer_cifar": Preset("models.spikformer:CIFAR", {**_SPIKFORMER, **_CIFAR, **_4_384}),
    "spikformer_imagenet": Preset("models.spikformer:IMAGENET", {**_SPIKFORMER, **_IMAGENET, **_8_512}),
    "spikformer_dvs": Preset("models.spikformer:DVS", {**_SPIKFORMER, **_DVS, **_2_256, "attn_scale": 0.25}),
    "spikingformer_cifar": Preset("models.spikingformer:CIFAR", {**_SPIKINGFORMER, **_CIFAR, **_4_384}),
    "spikingformer_imagenet": Preset("models.spikingformer:IMAGENET", {**_SPIKINGFORMER, **_IMAGENET, **_8_512}),
    "spikingformer_dvs": Preset("models.spikingformer:DVS", {**_SPIKINGFORMER, **_DVS, **_2_256, "tau": 1.5}),
    "sdt_cifar": Preset(
        "models.sdt:STATIC",
        {**_SDT, **_CIFAR, "embed_dim": 512, "num_heads": 8, "depths": 2},
        stem_aliases=_SDT_STEMS,
    ),
    "sdt_imagenet": Preset("models.sdt:STATIC", {**_SDT, **_IMAGENET, **_8_512}, stem_aliases=_SDT_STEMS),
    "sdt_dvs": Preset(
        "models.sdt:DVS",
        {**_SDT, **_DVS, **_2_256, "num_heads": 8, "img_size": 64, "patch_size": 4, "step": 10},
        stem_aliases=_SDT_STEMS,
    ),
    "tim_dvs": Preset(
        "models.tim:DVS",
        {
            **_SPIKFORMER,
            **_DVS,
            **_2_256,
            "attn_layer": "TIM",
            "attn_scale": 0.25,
            "attn_threshold": 1.0,
            "img_size": 64,
            "step": 10,
        },
    ),
}

STEMS: dict[str, str] = {
    "SPS": "models.stems:SPS",
    "SPS_CML": "models.stems:SPSCML",
    "MS_SPS": "models.stems:MSSPS",
}

ATTENTIONS: dict[str, str] = {
    "SSA": "models.attention:SSA",
    "SDSA": "models.attention:SDSA",
    "TIM": "models.tim:TIM",
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
}

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
    "NILIFNode": _LEAKY - {"act_function", "alpha"},
    "PSN": _LEAKY - {"tau"},
}
"""The neuron keys that each neuron has; the others have no effect with it."""

_HEADS = frozenset({"num_heads", "attn_drop"})
_SCALED = _HEADS | {"attn_scale", "attn_threshold"}
ATTENTION_KEYS: dict[str, frozenset[str]] = {
    "SSA": _SCALED,
    "SDSA": frozenset({"attn_drop", "attn_threshold"}),
    "TIM": _SCALED | {"tim_alpha", "tim_threshold"},
    "identity": frozenset(),
    "random": _SCALED,
}
"""The model keys that each attention has; of them all, the others have no effect with it."""

ACAUSAL_NEURONS = frozenset({"PSN", "ILIFNode", "NILIFNode"})
"""Neurons with which the output at a step is not what a run of fewer steps would give."""


def load(path: str) -> Any:
    """Returns the object that an import path of the form `module:name` stands for."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
