"""Every registered model: where it is built, and the published values of its train-file keys. No torch here.

Adding a model is its file and one entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """How a family spreads one number over its stages; a list in the train file sets each stage by itself."""

    widths: tuple[float, ...] = (1.0,)
    """Width of each stage over embed_dim."""
    depths: tuple[tuple[float, int], ...] = ((1.0, 0),)
    """Blocks of each stage: a share of `depths`, rounded down, plus a number."""
    halvings: tuple[int, ...] = ()
    """How often the map is halved in front of the second stage, the third, ..."""
    convs: int = 0
    """The number of first stages that are made of convolutions and have no attention."""

    @property
    def stages(self) -> int:
        """Returns the number of stages."""
        return len(self.widths)

    def halvings_after(self, stage: int) -> int:
        """Returns how often the map is halved behind a stage."""
        return sum(self.halvings[stage:])


@dataclass(frozen=True)
class Preset:
    """A registered model: where its class is, and the published values of its train-file keys."""

    path: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset({"kd_head", "legacy_batch_leak"})
    """Model keys that have no effect in this family, beyond those that its attention and neuron lack."""
    stem_aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of stems that mean another one in this family's published files."""
    spread: Spread = Spread()


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
_10_384 = {"embed_dim": 384, "num_heads": 6, "depths": 10}
_QKFORMER = {"embed_layer": "SPEDS", "pos_layer": "none", "residual": "sew"}
_MAXFORMER = {"embed_layer": "MaxFormer", "pos_layer": "none", "residual": "ms"}
_STAGED_LACKS = frozenset({"pooling_stat", "legacy_batch_leak"})
_QKFORMER_LACKS = frozenset({"pooling_stat"})
_THREE = Spread((0.25, 0.5, 1.0), ((0.0, 1), (0.0, 1), (1.0, -2)), (1, 1))
_THREE_DEEP = Spread((0.25, 0.5, 1.0), ((0.0, 1), (0.0, 2), (1.0, -3)), (1, 1))
_TWO = Spread((0.5, 1.0), ((0.0, 1), (1.0, -1)), (1,))

_RESFORMER = {
    "embed_layer": "Prologue",
    "attn_layer": "DSSA",
    "pos_layer": "none",
    "residual": "ms",
    "depths": 6,
    "attn_threshold": 1.0,
    "act_function": "atan",
    "alpha": 2.0,
}


def _resformer(
    sizes: Mapping[str, Any],
    widths: tuple[int, ...],
    heads: tuple[int, ...],
    path: str = "models.families.spikingresformer:STANDARD",
) -> Preset:
    shares = tuple(width / widths[-1] for width in widths)
    keys = {**_RESFORMER, **sizes, "embed_dim": widths, "num_heads": heads}
    return Preset(path, keys, _STAGED_LACKS, spread=Spread(shares, _THREE_DEEP.depths, (1, 1)))


_META = {
    **_IMAGENET,
    "embed_layer": "Encode",
    "pos_layer": "none",
    "residual": "ms",
    "num_heads": 8,
    "depths": 8,
    "step": 1,
}
_ESPIKE = {**_META, "attn_layer": "SDSA_v3", "node_type": "NILIFNode", "attn_threshold": 1.0, "attn_scale": "head_dim"}
_ESPIKE_WIDTHS = {
    "t": (24, 48, 96, 128),
    "s": (32, 64, 128, 192),
    "m": (48, 96, 192, 240),
    "l": (64, 128, 256, 360),
}
_FOUR = Spread((0.25, 0.5, 1.0, 1.25), ((0.0, 1), (0.0, 2), (0.75, 0), (0.25, 0)), (1, 1, 0), convs=2)

_SEW_RESNET18 = {
    **_IMAGENET,
    "embed_layer": "Prologue",
    "attn_layer": "identity",
    "pos_layer": "none",
    "residual": "sew",
    "embed_dim": (64, 128, 256, 512),
    "num_heads": 1,
    "depths": (2, 2, 2, 2),
    "patch_size": 1,
}
_SIZES = {"embed_dim", "num_heads", "mlp_ratio", "mlp_drop", "patch_size"}
_SEW_RESNET18_LACKS = _STAGED_LACKS | _SIZES | {"embed_layer", "attn_layer", "pos_layer", "residual", "kd_head"}
_RESNET18 = Spread((0.125, 0.25, 0.5, 1.0), ((0.25, 0),) * 4, convs=4)

MODELS: dict[str, Preset] = {
    "spikformer_cifar": Preset("models.families.spikformer:CIFAR", {**_SPIKFORMER, **_CIFAR, **_4_384}),
    "spikformer_imagenet": Preset("models.families.spikformer:IMAGENET", {**_SPIKFORMER, **_IMAGENET, **_8_512}),
    "spikformer_dvs": Preset("models.families.spikformer:DVS", {**_SPIKFORMER, **_DVS, **_2_256, "attn_scale": 0.25}),
    "spikingformer_cifar": Preset("models.families.spikingformer:CIFAR", {**_SPIKINGFORMER, **_CIFAR, **_4_384}),
    "spikingformer_imagenet": Preset(
        "models.families.spikingformer:IMAGENET", {**_SPIKINGFORMER, **_IMAGENET, **_8_512}
    ),
    "spikingformer_dvs": Preset("models.families.spikingformer:DVS", {**_SPIKINGFORMER, **_DVS, **_2_256, "tau": 1.5}),
    "sdt_cifar": Preset(
        "models.families.sdt:STATIC",
        {**_SDT, **_CIFAR, "embed_dim": 512, "num_heads": 8, "depths": 2},
        stem_aliases=_SDT_STEMS,
    ),
    "sdt_imagenet": Preset("models.families.sdt:STATIC", {**_SDT, **_IMAGENET, **_8_512}, stem_aliases=_SDT_STEMS),
    "sdt_dvs": Preset(
        "models.families.sdt:DVS",
        {**_SDT, **_DVS, **_2_256, "num_heads": 8, "img_size": 64, "patch_size": 4, "step": 10},
        stem_aliases=_SDT_STEMS,
    ),
    "tim_dvs": Preset(
        "models.families.tim:DVS",
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
    "qkformer_cifar": Preset(
        "models.families.qkformer:CIFAR",
        {**_QKFORMER, **_CIFAR, "attn_layer": ("QKTA", "QKTA", "SSA"), "embed_dim": 384, "num_heads": 8, "depths": 4},
        lacks=_QKFORMER_LACKS,
        spread=_THREE,
    ),
    "qkformer_imagenet": Preset(
        "models.families.qkformer:IMAGENET",
        {**_QKFORMER, **_IMAGENET, **_10_384, "attn_layer": ("QKTA", "QKTA", "SSA")},
        lacks=_QKFORMER_LACKS,
        spread=_THREE_DEEP,
    ),
    "qkformer_dvs": Preset(
        "models.families.qkformer:DVS",
        {**_QKFORMER, **_DVS, **_2_256, "attn_layer": ("QKTA", "SSA"), "mlp_ratio": 1.0},
        lacks=_QKFORMER_LACKS,
        spread=_TWO,
    ),
    "maxformer_cifar": Preset(
        "models.families.maxformer:CIFAR",
        {
            **_MAXFORMER,
            **_CIFAR,
            "attn_layer": ("identity", "DWC3", "SSA"),
            "embed_dim": 384,
            "num_heads": 8,
            "depths": 4,
        },
        lacks=_STAGED_LACKS,
        spread=_THREE,
    ),
    "maxformer_imagenet": Preset(
        "models.families.maxformer:IMAGENET",
        {**_MAXFORMER, **_IMAGENET, **_10_384, "attn_layer": ("DWC7", "DWC5", "SSA")},
        lacks=_STAGED_LACKS,
        spread=_THREE_DEEP,
    ),
    "maxformer_dvs": Preset(
        "models.families.maxformer:DVS",
        {**_MAXFORMER, **_DVS, **_2_256, "attn_layer": ("DWC3", "SSA")},
        lacks=_STAGED_LACKS,
        spread=_TWO,
    ),
    "spikingresformer_ti": _resformer(_IMAGENET, (64, 192, 384), (1, 3, 6)),
    "spikingresformer_s": _resformer(_IMAGENET, (64, 256, 512), (1, 4, 8)),
    "spikingresformer_m": _resformer(_IMAGENET, (64, 384, 768), (1, 6, 12)),
    "spikingresformer_l": _resformer(_IMAGENET, (128, 512, 1024), (2, 8, 16)),
    "spikingresformer_cifar": _resformer(_CIFAR, (64, 192, 384), (1, 3, 6)),
    "spikingresformer_dvsg": _resformer(
        {**_DVS, "num_classes": 11, "img_size": 64, "in_channels": 3, "patch_size": 4, "node_type": "PLIFNode"},
        (32, 96, 192),
        (1, 3, 6),
        "models.families.spikingresformer:GESTURE",
    ),
    "metaspikformer": Preset(
        "models.families.metaspikformer:META",
        {**_META, "embed_dim": (96, 192, 384, 480), "attn_layer": "SDSA_v2"},
        lacks=_STAGED_LACKS,
        spread=_FOUR,
    ),
    **{
        f"espikeformer_{size}": Preset(
            "models.families.espikeformer:BASE", {**_ESPIKE, "embed_dim": widths}, lacks=_STAGED_LACKS, spread=_FOUR
        )
        for size, widths in _ESPIKE_WIDTHS.items()
    },
    "sew_resnet18": Preset(
        "models.families.sew_resnet:SEWResNet18", _SEW_RESNET18, _SEW_RESNET18_LACKS, spread=_RESNET18
    ),
}
