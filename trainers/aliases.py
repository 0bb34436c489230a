"""The benchmark's spellings (BrainCog/STEP, both its one-file and its two-file days), read as ours."""

from __future__ import annotations

from typing import Any

from models import registry

DATA_SETS: dict[str, str] = {
    "torch/cifar10": "cifar10",
    "torch/cifar100": "cifar100",
    "dvsc10": "cifar10_dvs",
    "cifar10-dvs": "cifar10_dvs",
    "dvsg": "dvs128_gesture",
    "gesture": "dvs128_gesture",
    "NCALTECH101": "n_caltech101",
    "ncaltech101": "n_caltech101",
}
"""Data sets; models, attentions, neurons and surrogates have theirs in `models.registry.ALIASES`."""

NAMED = ("model", "embed_layer", "attn_layer", "node_type", "act_function")
"""Keys whose values the benchmark may name otherwise."""

NO_EFFECT = frozenset(
    {
        "model-ema", "model-ema-decay", "model-ema-force-cpu", "channels-last", "mlp-ratio", "bce-loss",
        "bce-target-thresh", "pretrained", "use_conv_as_linear", "sequence_length", "drop_path", "drop", "sr_ratios",
        "qkv_bias", "log_wandb", "local_rank", "initial_checkpoint",
    }
)  # fmt: skip
"""Keys of the benchmark and its sources that its code never reads, or that its models ignore."""


def own_name(value: Any) -> Any:
    """Returns our name of a model, a part, a neuron or a surrogate, or of each of a list; all else as it is."""
    if isinstance(value, list):
        return [own_name(one) for one in value]
    return registry.ALIASES.get(value, value) if isinstance(value, str) else value


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the same train file with our spelling of its data set, model, parts and neuron."""
    out = {**data, **{key: own_name(data[key]) for key in NAMED if key in data}}
    if isinstance(data.get("dataset"), str):
        out["dataset"] = DATA_SETS.get(data["dataset"], data["dataset"])
    preset = registry.MODELS.get(str(out.get("model")))
    stem = out.get("embed_layer")
    if preset is not None and isinstance(stem, str):
        out["embed_layer"] = preset.stem_aliases.get(stem, stem)
    return out
