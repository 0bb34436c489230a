"""The benchmark's spellings (BrainCog/STEP, both its one-file and its two-file days), read as ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

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
"""Data sets; models, attentions, neurons and surrogates have theirs in `models.ALIASES`."""

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


def canonical_name(value: Any) -> Any:
    """Returns our name of a model, a part, a neuron or a surrogate, or of each of a list; all else as it is."""
    if isinstance(value, list):
        return [canonical_name(one) for one in value]
    return ALIASES.get(value, value) if isinstance(value, str) else value


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


Era = Literal["head", "two_file"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DATASETS = {"cifar10": "torch/cifar10", "cifar100": "torch/cifar100", "cifar10_dvs": "dvsc10"}


_SURROGATES = {"sigmoid": "SigmoidGrad", "atan": "AtanGrad"}


_NEURONS = {"GLIFNode": "GLIFTorch", "CLIFNode": "ComplementaryLIFNeuron", "PSN": "PSNTorch"}


SPELLINGS: dict[Era, dict[str, dict[str, str]]] = {
    "head": {
        "dataset": _DATASETS,
        "act_function": _SURROGATES,
        "node_type": _NEURONS,
        "model": {"sdt_imagenet": "std_imagenet", "tim_dvs": "tim"},
    },
    "two_file": {
        "dataset": _DATASETS,
        "act_function": _SURROGATES,
        "model": {"sdt_cifar": "std_cifar", "spikformer_imagenet": "spikformer_imgnet", "tim_dvs": "tim"},
    },
}


MODELS: dict[Era, frozenset[str]] = {
    "head": frozenset(
        _words(
            "spikformer_cifar spikformer_imagenet sdt_cifar std_imagenet spikingformer_cifar qkformer_cifar "
            "qkformer_imagenet tim"
        )
    ),
    "two_file": frozenset(
        _words("spikformer_cifar spikformer_imgnet std_cifar spikingformer_cifar qkformer_cifar tim")
    ),
}


ATTENTIONS = {"spikformer": ("SSA", "random_ssa"), "sdt": ("SDSA",), "std": ("SDSA",)}
"""Of the families whose parts the benchmark lets one choose, the attentions that both sides have."""


DATASETS = frozenset({"torch/cifar10", "torch/cifar100", "imagenet", "dvsc10"})


NODES: dict[Era, frozenset[str]] = {
    "head": frozenset(_words("LIFNode PLIFNode KLIFNode GLIFTorch ComplementaryLIFNeuron PSNTorch ILIFNode NILIFNode")),
    "two_file": frozenset({"LIFNode"}),
}


GROUPS: dict[str, tuple[str, ...]] = {
    "data": _words("data_dir dataset num_classes img_size event_size distort val_fraction split_seed"),
    "data augmentation": _words(
        "mean std crop_pct scale ratio hflip color_jitter interpolation train_interpolation aa epochs mixup "
        "mixup_off_epoch mixup_prob mixup_mode mixup_switch_prob cutmix reprob remode"
    ),
    "model structure": _words(
        "model step read_step patch_size in_channels embed_dim num_heads mlp_ratio attn_scale mlp_drop attn_drop "
        "depths embed_layer attn_layer pos_layer residual pooling_stat tim_alpha tim_threshold kd_head "
        "legacy_batch_leak"
    ),
    "node": ("tau", "threshold", "attn_threshold", "act_function", "node_type", "alpha"),
    "training": _words(
        "amp batch_size val_batch_size lr min_lr sched weight_decay cooldown_epochs warmup_epochs warmup_lr opt "
        "smoothing clip_grad spike_penalty energy_rule compile workers threads seed log_interval output device"
    ),
}
"""The keys of a train file in the benchmark's order; in the two-file form `training` is the second file."""


OURS = frozenset(
    _words(
        "read_step event_size distort val_fraction split_seed attn_threshold pos_layer residual pooling_stat "
        "tim_threshold kd_head legacy_batch_leak spike_penalty compile threads energy_rule"
    )
)
"""Keys that the benchmark's code reads nowhere."""


def spell(config: Mapping[str, Any], era: Era) -> dict[str, Any]:
    """Returns the config in the benchmark's words, without the keys that are None."""
    tables = SPELLINGS[era]
    written = {
        key: tables.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in config.items()
        if value is not None
    }
    if str(config.get("model", "")).startswith("sdt_") and config.get("embed_layer") == "MS_SPS":
        written["embed_layer"] = "SPS"
    if (
        era == "head"
        and str(config.get("model", "")).startswith("spikformer_")
        and config.get("attn_layer") == "random"
    ):
        written["attn_layer"] = "random_ssa"
    if str(config.get("device", "")).startswith("cuda"):
        written["device"] = int(str(config["device"]).partition(":")[2] or 0)  # the number of a GPU
    return written


def notes(configs: Iterable[Mapping[str, Any]], era: Era) -> list[str]:
    """Returns a line for each value of the configs that the benchmark's own code would not honour."""
    written = [spell(config, era) for config in configs]
    beyond = OURS | {"embed_layer", "attn_layer"} if era == "two_file" else OURS
    unread = sorted({key for config in written for key in config if key in beyond})
    lines = [f"the benchmark does not read {', '.join(unread)}"] if unread else []
    lines += [line for config in written for line in [*_unknown_names(config, era), *_unused_values(config, era)]]
    return list(dict.fromkeys(lines))


def _unknown_names(written: Mapping[str, Any], era: Era) -> list[str]:
    known = {"model": MODELS[era], "dataset": DATASETS, "node_type": NODES[era]}
    lines = [
        f"{key}: the benchmark has no {written[key]}"
        for key, names in known.items()
        if key in written and written[key] not in names
    ]
    family = str(written.get("model")).split("_")[0]
    attention = written.get("attn_layer")
    if era == "head" and attention not in (None, *ATTENTIONS.get(family, (attention,))):
        lines.append(f"attn_layer: the benchmark's {family} has no {attention}")
    if str(written.get("model")).endswith(("_imagenet", "_imgnet")):
        lines.append(f"model: import {written['model']} in the benchmark's train.py, which leaves it out")
    return lines


def _unused_values(written: Mapping[str, Any], era: Era) -> list[str]:
    lines: list[str] = []
    model = str(written.get("model"))
    if model != "tim" and written.get("step") not in (None, 4):
        lines.append(f"step: {written['step']}: the benchmark's models for images run right with 4 only")
    if (written.get("act_function"), written.get("alpha")) != ("SigmoidGrad", 4.0) or era == "two_file":
        lines.append("act_function, alpha: the benchmark reads them, but they never reach its neurons")
    if written.get("attn_drop") or written.get("mlp_drop"):
        lines.append("attn_drop, mlp_drop: the benchmark never applies them")
    if model.startswith(("sdt_", "std_")) and written.get("tau") != 2.0:
        lines.append("tau: in the benchmark's SDT it reaches the stem only; blocks and head keep 2.0")
    if written.get("cooldown_epochs"):
        lines.append("epochs: the benchmark trains cooldown_epochs more; here they are part of epochs")
    if isinstance(written.get("attn_scale"), str):
        lines.append(f"attn_scale: {written['attn_scale']}: the benchmark takes a number")
    if not isinstance(written.get("device", 0), int):
        lines.append(f"device: {written['device']}: the benchmark takes the number of a GPU")
    return lines
