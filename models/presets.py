"""Registered models: import path and published values of the train-file keys. Does not import torch.

A new model is one module and one entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The distribution of one number over the stages of a family; a list in the train file sets each stage instead."""

    widths: tuple[float, ...] = (1.0,)
    """Width of each stage over embed_dim."""
    depths: tuple[tuple[float, int], ...] = ((1.0, 0),)
    """Blocks of each stage: a share of `depths`, rounded down, plus a number."""
    halvings: tuple[int, ...] = ()
    """Halvings of the map before the second stage, the third, ..."""
    convs: int = 0
    """Number of first stages that consist of convolutions, without attention."""
    hidden_multiple: int = 1
    """The hidden width of the MLP is rounded down to a multiple of it."""

    @property
    def stages(self) -> int:
        """Returns the number of stages."""
        return len(self.widths)

    def halvings_after(self, stage: int) -> int:
        """Returns the number of halvings of the map after a stage."""
        return sum(self.halvings[stage:])


@dataclass(frozen=True)
class Preset:
    """A registered model: import path of its builder, and published values of its train-file keys."""

    path: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset({"kd_head", "legacy_batch_leak"})
    """Model keys without effect in this family, beyond those of its attention and neuron."""
    stem_aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of stems with another meaning in this family's published files."""
    spread: Spread = Spread()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By value of the key `variant`: the values that differ from `keys` in another published version of the network."""
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By value of `variant`: the values that this version of the network has whatever a train file says."""
    acausal_variants: frozenset[str] = frozenset()
    """Versions whose layers depend on later steps, whatever the neurons."""

    def __post_init__(self) -> None:
        if not self.variants and not self.fixed:
            object.__setattr__(self, "lacks", self.lacks | {"variant"})

    def values(self, variant: object) -> dict[str, Any]:
        """Returns the published values of the version that `variant` names."""
        return {**self.keys, **(self.variants.get(variant, {}) if isinstance(variant, str) else {})}


SEMM_RATIO = 16 / 3
"""Hidden width of the benchmark's SEMM for ImageNet, whatever its file says: 16 floor(D / 3)."""


def _preset(path: str, *keys: Mapping[str, Any], **fields: Any) -> Preset:
    """Returns a preset of `models.families`; later keys override earlier ones."""
    return Preset(f"models.families.{path}", {key: value for part in keys for key, value in part.items()}, **fields)


def _size(depths: int, embed_dim: int, num_heads: int) -> dict[str, Any]:
    return {"depths": depths, "embed_dim": embed_dim, "num_heads": num_heads}


_CIFAR = {"img_size": 32, "in_channels": 3, "num_classes": 10, "patch_size": 4, "step": 4, "mlp_ratio": 4.0}
_IMAGENET = {"img_size": 224, "in_channels": 3, "num_classes": 1000, "patch_size": 16, "step": 4, "mlp_ratio": 4.0}
_DVS = {"img_size": 128, "in_channels": 2, "num_classes": 10, "patch_size": 16, "step": 16, "mlp_ratio": 4.0}
_DVS64 = {**_DVS, "img_size": 64, "step": 10}
_GESTURE = {**_DVS, "num_classes": 11, "img_size": 64, "in_channels": 3, "patch_size": 4, "node_type": "PLIFNode"}

_SPIKFORMER = {"embed_layer": "SPS", "attn_layer": "SSA", "residual": "sew"}
_SPIKINGFORMER = {"embed_layer": "SPS", "attn_layer": "SSA", "residual": "ms"}
_SDT = {"embed_layer": "MS_SPS", "attn_layer": "SDSA", "residual": "ms"}
_SDT_STEMS = {"SPS": "MS_SPS"}
_TIM = {"attn_layer": "TIM", "attn_scale": 0.25, "attn_threshold": 1.0}
_QKFORMER = {"embed_layer": "SPEDS", "pos_layer": "none", "residual": "sew"}
_MSVIT = {**_QKFORMER, "attn_threshold": 1.0}
_MAXFORMER = {"embed_layer": "MaxFormer", "pos_layer": "none", "residual": "ms"}
_RESFORMER = {
    "embed_layer": "Prologue", "attn_layer": "DSSA", "pos_layer": "none", "residual": "ms", "depths": 6,
    "attn_threshold": 1.0, "act_function": "atan", "alpha": 2.0,
}  # fmt: skip
_META = {
    **_IMAGENET, "step": 1, "depths": 8, "num_heads": 8,
    "embed_layer": "Encode", "pos_layer": "none", "residual": "ms",
}  # fmt: skip
_ESPIKE = {"attn_layer": "SDSA_v3", "node_type": "NILIFNode", "attn_threshold": 1.0, "attn_scale": "head_dim"}
_SWFORMER = {"embed_layer": "MS_SPS", "attn_layer": "FATM", "residual": "ms", "attn_threshold": 1.0}
_SWFORMER_STEP = {"embed_layer": "SPS_ADD", "attn_layer": "FATM_binary", "wavelet_groups": 16}
_SEMM = {"embed_layer": "SPS", "attn_layer": "EMSA", "mlp_layer": "EMSP", "residual": "sew", "attn_threshold": 1.0}
_STMIXER = {
    "embed_layer": "STMixer", "attn_layer": "TokenMix", "pos_layer": "none", "residual": "ms",
    "threshold": 0.5, "attn_threshold": 0.5,
}  # fmt: skip
_SGLFORMER = {
    "embed_layer": "SGLFormer", "attn_layer": ("LocalConv", "LSSA", "SSA"), "pos_layer": "none", "residual": "sew",
    "head_layer": "spatio_temporal",
}  # fmt: skip
_QSD = {
    "attn_layer": "SDSA_v2", "attn_scale": 0.25, "quant_bits": 4,
    "node_type": "IELIFNode", "threshold": 0.25, "attn_threshold": 0.25,
}  # fmt: skip
_SEW_RESNET18 = {
    "embed_layer": "Prologue", "attn_layer": "identity", "pos_layer": "none", "residual": "sew", "num_heads": 1,
    "embed_dim": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "patch_size": 1,
}  # fmt: skip

_STAGED_LACKS = frozenset({"pooling_stat", "legacy_batch_leak"})
_QKFORMER_LACKS = frozenset({"pooling_stat"})
_SGL_LEAKY_LACKS = frozenset({"pooling_stat", "kd_head"})
_SEW_RESNET18_LACKS = _STAGED_LACKS | {
    *("embed_dim", "num_heads", "mlp_ratio", "mlp_drop", "patch_size"),
    *("embed_layer", "attn_layer", "mlp_layer", "pos_layer", "head_layer", "residual", "kd_head"),
}

_TWO = Spread((0.5, 1.0), ((0.0, 1), (1.0, -1)), (1,))
_THREE = Spread((0.25, 0.5, 1.0), ((0.0, 1), (0.0, 1), (1.0, -2)), (1, 1))
_THREE_DEEP = Spread((0.25, 0.5, 1.0), ((0.0, 1), (0.0, 2), (1.0, -3)), (1, 1))
_THREE_WIDE = replace(_THREE, widths=(0.5, 0.5, 1.0))
_THREE_WIDE_DEEP = replace(_THREE_DEEP, widths=(0.5, 0.5, 1.0))
_FOUR = Spread((0.25, 0.5, 1.0, 1.25), ((0.0, 1), (0.0, 2), (0.75, 0), (0.25, 0)), (1, 1, 0), convs=2)
_SGL = Spread((1.0, 1.0, 1.0), ((1.0, 0), (1.0, 0), (2.0, 0)))
_SGL_DEEP = Spread((1.0, 1.0, 1.0), ((0.0, 1), (0.0, 1), (1.0, -2)))
_RESNET18 = Spread((0.125, 0.25, 0.5, 1.0), ((0.25, 0),) * 4, convs=4)


def _sdt(name: str, *keys: Mapping[str, Any]) -> Preset:
    return _preset(f"sdt:{name}", _SDT, *keys, stem_aliases=_SDT_STEMS)


def _qkformer(name: str, attn_layer: tuple[str, ...], spread: Spread, *keys: Mapping[str, Any]) -> Preset:
    attentions = {"attn_layer": attn_layer}
    return _preset(f"qkformer:{name}", _QKFORMER, attentions, *keys, lacks=_QKFORMER_LACKS, spread=spread)


def _msvit(name: str, spread: Spread, *keys: Mapping[str, Any]) -> Preset:
    attentions = {"attn_layer": ("MSSA", "MSSA", "SSA")}
    return _preset(f"msvit:{name}", _MSVIT, attentions, *keys, lacks=_QKFORMER_LACKS, spread=spread)


def _maxformer(name: str, attn_layer: tuple[str, ...], spread: Spread, *keys: Mapping[str, Any]) -> Preset:
    attentions = {"attn_layer": attn_layer}
    return _preset(f"maxformer:{name}", _MAXFORMER, attentions, *keys, lacks=_STAGED_LACKS, spread=spread)


def _resformer(data: Mapping[str, Any], embed_dim: tuple[int, ...], num_heads: tuple[int, ...], name: str) -> Preset:
    sizes = {"embed_dim": embed_dim, "num_heads": num_heads}
    spread = Spread(tuple(width / embed_dim[-1] for width in embed_dim), _THREE_DEEP.depths, _THREE_DEEP.halvings)
    return _preset(
        f"spikingresformer:{name}", _RESFORMER, data, sizes, lacks=_STAGED_LACKS | {"mlp_layer"}, spread=spread
    )


def _sglformer(name: str, *keys: Mapping[str, Any], **fields: Any) -> Preset:
    return _preset(f"sglformer:{name}", _SGLFORMER, *keys, **{"lacks": _STAGED_LACKS, "spread": _SGL, **fields})


def _meta(path: str, *keys: Mapping[str, Any], embed_dim: tuple[int, ...]) -> Preset:
    return _preset(path, _META, *keys, {"embed_dim": embed_dim}, lacks=_STAGED_LACKS, spread=_FOUR)


MODELS: dict[str, Preset] = {
    "spikformer_cifar": _preset("spikformer:CIFAR", _SPIKFORMER, _CIFAR, _size(4, 384, 12)),
    "spikformer_imagenet": _preset("spikformer:IMAGENET", _SPIKFORMER, _IMAGENET, _size(8, 512, 8)),
    "spikformer_dvs": _preset("spikformer:DVS", _SPIKFORMER, _DVS, _size(2, 256, 16), {"attn_scale": 0.25}),
    "spikingformer_cifar": _preset("spikingformer:CIFAR", _SPIKINGFORMER, _CIFAR, _size(4, 384, 12)),
    "spikingformer_imagenet": _preset("spikingformer:IMAGENET", _SPIKINGFORMER, _IMAGENET, _size(8, 512, 8)),
    "spikingformer_dvs": _preset("spikingformer:DVS", _SPIKINGFORMER, _DVS, _size(2, 256, 16), {"tau": 1.5}),
    "sdt_cifar": _sdt("STATIC", _CIFAR, _size(2, 512, 8)),
    "sdt_imagenet": _sdt("STATIC", _IMAGENET, _size(8, 512, 8)),
    "sdt_dvs": _sdt("DVS", _DVS64, _size(2, 256, 8), {"patch_size": 4}),
    "tim_dvs": _preset("tim:DVS", _SPIKFORMER, _TIM, _DVS64, _size(2, 256, 16)),
    "qkformer_cifar": _qkformer("CIFAR", ("QKTA", "QKTA", "SSA"), _THREE, _CIFAR, _size(4, 384, 8)),
    "qkformer_imagenet": _qkformer("IMAGENET", ("QKTA", "QKTA", "SSA"), _THREE_DEEP, _IMAGENET, _size(10, 384, 6)),
    "qkformer_dvs": _qkformer("DVS", ("QKTA", "SSA"), _TWO, _DVS, _size(2, 256, 16), {"mlp_ratio": 1.0}),
    "msvit_cifar": _msvit("CIFAR", _THREE_WIDE, _CIFAR, _size(4, 384, 8)),
    "msvit_imagenet": _msvit("IMAGENET", _THREE_WIDE_DEEP, _IMAGENET, _size(10, 384, 6)),
    "maxformer_cifar": _maxformer("CIFAR", ("identity", "DWC3", "SSA"), _THREE, _CIFAR, _size(4, 384, 8)),
    "maxformer_imagenet": _maxformer("IMAGENET", ("DWC7", "DWC5", "SSA"), _THREE_DEEP, _IMAGENET, _size(10, 384, 6)),
    "maxformer_dvs": _maxformer("DVS", ("DWC3", "SSA"), _TWO, _DVS, _size(2, 256, 16)),
    "spikingresformer_ti": _resformer(_IMAGENET, (64, 192, 384), (1, 3, 6), "STANDARD"),
    "spikingresformer_s": _resformer(_IMAGENET, (64, 256, 512), (1, 4, 8), "STANDARD"),
    "spikingresformer_m": _resformer(_IMAGENET, (64, 384, 768), (1, 6, 12), "STANDARD"),
    "spikingresformer_l": _resformer(_IMAGENET, (128, 512, 1024), (2, 8, 16), "STANDARD"),
    "spikingresformer_cifar": _resformer(_CIFAR, (64, 192, 384), (1, 3, 6), "STANDARD"),
    "spikingresformer_dvsg": _resformer(_GESTURE, (32, 96, 192), (1, 3, 6), "GESTURE"),
    "metaspikformer": _meta("metaspikformer:META", {"attn_layer": "SDSA_v2"}, embed_dim=(96, 192, 384, 480)),
    "qsd": _meta("metaspikformer:QSD", _QSD, embed_dim=(96, 192, 384, 480)),
    "espikeformer_t": _meta("espikeformer:BASE", _ESPIKE, embed_dim=(24, 48, 96, 128)),
    "espikeformer_s": _meta("espikeformer:BASE", _ESPIKE, embed_dim=(32, 64, 128, 192)),
    "espikeformer_m": _meta("espikeformer:BASE", _ESPIKE, embed_dim=(48, 96, 192, 240)),
    "espikeformer_l": _meta("espikeformer:BASE", _ESPIKE, embed_dim=(64, 128, 256, 360)),
    "swformer_cifar": _preset("swformer:CIFAR", _SWFORMER, _CIFAR, _size(4, 384, 8), variants={"step": _SWFORMER_STEP}),
    "swformer_imagenet": _preset(
        "swformer:IMAGENET", _SWFORMER, _IMAGENET, _size(8, 512, 8), {"img_size": 256, "wavelet_groups": 2}
    ),
    "swformer_dvs": _preset("swformer:DVS", _SWFORMER, _DVS, _size(2, 256, 16)),
    "semm_cifar": _preset("semm:cifar", _SEMM, _CIFAR, _size(4, 384, 8), variants={"step": {}}),
    "semm_imagenet": _preset(
        "semm:imagenet",
        _SEMM,
        _IMAGENET,
        _size(8, 512, 8),
        {"mlp_ratio": SEMM_RATIO, "attn_scale": 1.0},
        lacks=frozenset({"kd_head"}),
        spread=Spread(hidden_multiple=16),
        fixed={"step": {"mlp_ratio": SEMM_RATIO}},
    ),
    "stmixer_cifar": _preset("stmixer:STATIC", _STMIXER, _CIFAR, _size(4, 384, 16)),
    "stmixer_imagenet": _preset("stmixer:STATIC", _STMIXER, _IMAGENET, _size(8, 512, 16)),
    "sglformer_cifar": _sglformer(
        "cifar",
        _CIFAR,
        _size(1, 384, 16),
        variants={"step": {}},
        fixed={"step": {"patch_size": 1}},
        acausal_variants=frozenset({"step"}),
    ),
    "sglformer_imagenet": _sglformer(
        "IMAGENET",
        _IMAGENET,
        _size(8, 512, 8),
        {"embed_layer": "SGLFormer_ima2", "head_layer": "mean"},
        lacks=_SGL_LEAKY_LACKS,
        spread=_SGL_DEEP,
    ),
    "sglformer_dvs": _sglformer("DVS", _DVS, _size(1, 256, 16)),
    "sew_resnet18": _preset(
        "sew_resnet:SEWResNet18", _IMAGENET, _SEW_RESNET18, lacks=_SEW_RESNET18_LACKS, spread=_RESNET18
    ),
}
