"""What was published of each model: paper, sizes, accuracy, energy and where the numbers stand. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAPERS: dict[str, str] = {
    "spikformer": "Zhou et al., Spikformer, ICLR 2023",
    "spikingformer": "Zhou et al., Spikingformer, arXiv 2304.11954",
    "sdt": "Yao et al., Spike-driven Transformer, NeurIPS 2023",
    "tim": "Shen et al., TIM, IJCAI 2024",
    "qkformer": "Zhou et al., QKFormer, NeurIPS 2024",
    "maxformer": "Fang et al., Max-Former, NeurIPS 2025",
    "spikingresformer": "Shi et al., SpikingResformer, CVPR 2024",
    "metaspikformer": "Yao et al., Spike-driven Transformer V2 (Meta-SpikeFormer), ICLR 2024",
    "espikeformer": "Yao et al., Scaling Spike-driven Transformer (V3, E-SpikeFormer), TPAMI 2025",
    "sew": "Fang et al., SEW ResNet (as in SpikingJelly; the baseline that is no transformer), NeurIPS 2021",
}
"""By family."""


@dataclass(frozen=True)
class Variant:
    """One published size of a model: the keys that differ from the preset, and what it reached on which data."""

    name: str
    dataset: str
    accuracy: float | None
    energy_mj: float | None
    source: str
    keys: Mapping[str, Any] = field(default_factory=dict)


def size(name: str, num_heads: int, **keys: Any) -> dict[str, Any]:
    """Returns the keys of a size written as the papers do, blocks-width."""
    depths, embed_dim = (int(part) for part in name.split("-"))
    return {"depths": depths, "embed_dim": embed_dim, "num_heads": num_heads, **keys}


def _cifar(name: str, num_heads: int, cifar10: float, cifar100: float, source: str) -> tuple[Variant, Variant]:
    keys = size(name, num_heads)
    return (
        Variant(name, "CIFAR-10", cifar10, None, source, keys),
        Variant(name, "CIFAR-100", cifar100, None, source, {**keys, "num_classes": 100}),
    )


def _imagenet(name: str, num_heads: int, accuracy: float, energy_mj: float, source: str) -> Variant:
    return Variant(name, "ImageNet", accuracy, energy_mj, source, size(name, num_heads))


_GESTURE = {"num_classes": 11}

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "spikformer_cifar": (
        *_cifar("4-256", 8, 93.94, 75.96, "paper"),
        *_cifar("2-384", 12, 94.80, 76.95, "paper"),
        *_cifar("4-384", 12, 95.51, 78.21, "paper, 400 epochs"),
    ),
    "spikformer_imagenet": (
        _imagenet("8-384", 8, 70.24, 7.734, "paper"),
        _imagenet("6-512", 8, 72.46, 9.417, "paper"),
        _imagenet("8-512", 8, 73.38, 11.577, "paper"),
        _imagenet("10-512", 8, 73.68, 13.899, "paper"),
        _imagenet("8-768", 12, 74.81, 21.477, "paper"),
    ),
    "spikformer_dvs": (
        Variant("2-256", "CIFAR10-DVS", 80.9, None, "paper, T = 16"),
        Variant("2-256", "DVS128 Gesture", 98.3, None, "paper, T = 16", _GESTURE),
    ),
    "spikingformer_cifar": (
        *_cifar("4-256", 8, 94.77, 77.43, "official README"),
        *_cifar("2-384", 12, 95.22, 78.34, "official README"),
        *_cifar("4-384", 12, 95.81, 79.21, "official README, 400 epochs"),
    ),
    "spikingformer_imagenet": (
        _imagenet("8-384", 8, 72.45, 4.69, "official README"),
        _imagenet("8-512", 8, 74.79, 7.46, "official README and log"),
        _imagenet("8-768", 12, 75.85, 13.68, "official README and log"),
    ),
    "spikingformer_dvs": (
        Variant("2-256", "CIFAR10-DVS", 81.3, None, "official README and log, T = 16"),
        Variant("2-256", "DVS128 Gesture", 98.3, None, "official README, T = 16", _GESTURE),
    ),
    "sdt_cifar": (
        Variant("2-256", "CIFAR-10", None, None, "", size("2-256", 8)),
        *_cifar("2-512", 8, 95.6, 78.4, "paper"),
    ),
    "sdt_imagenet": (
        _imagenet("8-384", 8, 72.28, 3.90, "paper"),
        _imagenet("6-512", 8, 74.11, 3.56, "paper"),
        _imagenet("8-512", 8, 74.57, 4.50, "paper"),
        _imagenet("10-512", 8, 74.66, 5.53, "paper"),
        _imagenet("8-768", 8, 76.3, 6.09, "paper"),
    ),
    "sdt_dvs": (
        Variant("2-256", "CIFAR10-DVS", 80.0, None, "paper, T = 16"),
        Variant("2-256", "DVS128 Gesture", 99.3, None, "paper, T = 16", {**_GESTURE, "img_size": 128, "patch_size": 8}),
    ),
    "tim_dvs": (
        Variant("2-256", "CIFAR10-DVS", 81.6, None, "table of the STEP benchmark"),
        Variant("2-256", "N-Caltech101", 79.0, None, "table of the STEP benchmark", {"num_classes": 101}),
    ),
    "qkformer_cifar": _cifar("4-384", 8, 96.18, 81.15, "paper"),
    "qkformer_imagenet": (
        _imagenet("10-384", 6, 78.80, 15.13, "paper; needs legacy_batch_leak"),
        _imagenet("10-512", 8, 82.04, 21.99, "paper; needs legacy_batch_leak"),
        _imagenet("10-768", 12, 84.22, 38.91, "paper; needs legacy_batch_leak"),
    ),
    "qkformer_dvs": (
        Variant("2-256", "CIFAR10-DVS", 84.0, None, "paper, T = 16"),
        Variant("2-256", "DVS128 Gesture", 98.6, None, "paper, T = 16", {**_GESTURE, "mlp_ratio": 4.0}),
    ),
    "maxformer_cifar": _cifar("4-384", 8, 97.04, 82.65, "official log"),
    "maxformer_imagenet": (
        Variant("10-384", "ImageNet", None, None, "", size("10-384", 6)),
        Variant("10-512", "ImageNet", None, None, "", size("10-512", 8)),
        _imagenet("10-768", 12, 82.39, 14.87, "paper"),
    ),
    "maxformer_dvs": (
        Variant("2-256", "CIFAR10-DVS", 84.2, None, "official log"),
        Variant("2-256", "DVS128 Gesture", 98.61, None, "official log", _GESTURE),
    ),
    "spikingresformer_ti": (Variant("Ti", "ImageNet", 74.34, 2.46, "quoted by later papers"),),
    "spikingresformer_s": (Variant("S", "ImageNet", None, None, ""),),
    "spikingresformer_m": (Variant("M", "ImageNet", 77.24, 5.46, "quoted by later papers"),),
    "spikingresformer_l": (Variant("L", "ImageNet", None, None, "abstract: 79.40 at 288 pixels"),),
    "spikingresformer_cifar": (
        Variant("Ti*", "CIFAR-10", 95.69, None, "table of the STEP benchmark"),
        Variant("Ti*", "CIFAR-100", 79.45, None, "table of the STEP benchmark", {"num_classes": 100}),
    ),
    "spikingresformer_dvsg": (Variant("Ti*", "DVS128 Gesture", None, None, ""),),
    "metaspikformer": (
        Variant("15M", "ImageNet", None, None, "", {"embed_dim": [64, 128, 256, 360]}),
        Variant("8-384", "ImageNet", 77.2, 32.8, "quoted by later papers"),
        Variant("8-512", "ImageNet", 80.0, 52.4, "abstract, with distillation", {"embed_dim": [128, 256, 512, 640]}),
        Variant("8-768", "ImageNet", None, None, "", {"embed_dim": [192, 384, 768, 960]}),
    ),
    "espikeformer_t": (Variant("t", "ImageNet", None, None, ""),),
    "espikeformer_s": (Variant("s", "ImageNet", None, None, ""),),
    "espikeformer_m": (Variant("m", "ImageNet", 78.5, None, "abstract"),),
    "espikeformer_l": (Variant("l", "ImageNet", 79.8, 5.9, "abstract; energy quoted by later papers"),),
}
"""By registered model; a model that is not here was never published under a size of its own."""

RELEASED = frozenset(
    {
        "spikformer_cifar",
        "spikingformer_cifar",
        "sdt_cifar",
        "tim_dvs",
        "qkformer_cifar",
        "maxformer_cifar",
        "metaspikformer",
    }
)
"""Models whose outputs equal the released code's on the same weights, to 1e-9 in float64."""

WRITTEN_OUT = frozenset(
    {
        *("spikformer_imagenet", "spikformer_dvs", "spikingformer_imagenet", "spikingformer_dvs"),
        *("sdt_imagenet", "sdt_dvs", "qkformer_imagenet", "qkformer_dvs", "maxformer_imagenet", "maxformer_dvs"),
        *("spikingresformer_ti", "espikeformer_t"),
    }
)
"""Models whose outputs equal those of the network written out from its description, likewise."""
