"""Spellings of the BrainCog/STEP benchmark, in its one-file and two-file eras: read as ours, written by exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from config.errors import unknown_name

Era = Literal["head", "two_file"]

DATASET_ALIASES: dict[str, str] = {
    "torch/cifar10": "cifar10",
    "torch/cifar100": "cifar100",
    "dvsc10": "cifar10_dvs",
    "cifar10-dvs": "cifar10_dvs",
    "dvsg": "dvs128_gesture",
    "gesture": "dvs128_gesture",
    "NCALTECH101": "n_caltech101",
    "ncaltech101": "n_caltech101",
    "nmnist": "n_mnist",
    "scifar": "scifar10",
    "esimnet": "es_imagenet",
    "TinyImageNet": "tiny_imagenet",
    "CUB2002011": "cub200",
    "StanfordCars": "stanford_cars",
    "StanfordDogs": "stanford_dogs",
    "FGVCAircraft": "fgvc_aircraft",
    "Flowers102": "flowers102",
}

ALIASES: dict[str, str] = {
    "spikformer_imgnet": "spikformer_imagenet",
    "std_cifar": "sdt_cifar",
    "std_imagenet": "sdt_imagenet",
    "tim": "tim_dvs",
    "spikf_semm_cifar": "semm_cifar",
    "spikf_semm_imagenet": "semm_imagenet",
    "random_ssa": "random",
    "random_sdsa": "random",
    "GLIFTorch": "GLIFNode",
    "ComplementaryLIFNeuron": "CLIFNode",
    "PSNTorch": "PSN",
    "SigmoidGrad": "sigmoid",
    "Sigmoid_Grad": "sigmoid",
    "AtanGrad": "atan",
}
"""Our names of models, attentions, neurons and surrogates by the benchmark's."""

ALIASED_KEYS = ("model", "embed_layer", "attn_layer", "node_type", "act_function")
"""Keys whose values may be spelt as in ALIASES."""

NO_EFFECT = frozenset(
    {
        "model-ema", "model-ema-decay", "model-ema-force-cpu", "channels-last", "mlp-ratio", "bce-loss",
        "bce-target-thresh", "pretrained", "use_conv_as_linear", "sequence_length", "drop_path", "drop", "sr_ratios",
        "qkv_bias", "log_wandb", "local_rank",
    }
)  # fmt: skip
"""Keys of the benchmark and its sources without effect there: never read, or ignored by its models."""


EFFECTS: dict[str, str] = {
    "sequence_length": "has an effect with the benchmark's stem sequential_embed; here it follows from the data set"
}
"""What the keys of NO_EFFECT do in the benchmark that some of its models read."""

REFUSED: dict[str, dict[str, str]] = {
    "model": {
        "spt": "reads point clouds, which are another project",
        "spikformer_es": "exchanges time and batch before its neurons; spikformer_dvs is the same without this fault",
    },
    "data set": {
        **dict.fromkeys(("ModelNet10", "ModelNet40", "ScanObjectNN"), "holds point clouds, which are another project"),
        **dict.fromkeys(
            ("NCARS", "UCF101DVS", "HMDBDVS", "n_cars", "ucf101_dvs", "hmdb51_dvs"),
            "has a format that neither SpikingJelly nor torchvision reads",
        ),
        "ntidigits": "has a format that neither SpikingJelly nor torchvision reads",
        "nomni": "is for few-shot learning, which is another project",
    },
    "stem": {"SP": "does not exist there either; SPS or, for sequences, sequential_embed is meant"},
}
"""Why names of the benchmark are refused, by what they name."""

IGNORED_SIZES: dict[str, dict[str, int]] = {
    "spikingresformer_cifar": {"embed_dim": 384, "num_heads": 12, "depths": 4},
}
"""Sizes in the benchmark's files that its model of this name ignores; together they fit no model of this family."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DATASETS, _SURROGATES = _words("torch/cifar10 torch/cifar100 imagenet dvsc10"), _words("SigmoidGrad AtanGrad")

NAMES: dict[Era, dict[str, tuple[str, ...]]] = {
    "head": {
        "model": _words("spikformer_cifar spikformer_imagenet sdt_cifar std_imagenet spikingformer_cifar "
                        "qkformer_cifar qkformer_imagenet swformer_cifar sglformer_cifar "
                        "spikf_semm_cifar spikf_semm_imagenet tim"),
        "node_type": _words("LIFNode PLIFNode KLIFNode GLIFTorch ComplementaryLIFNeuron PSNTorch ILIFNode NILIFNode "
                            "EIFNode HDLIFNode"),
        "dataset": _DATASETS,
        "act_function": _SURROGATES,
    },
    "two_file": {
        "model": _words("spikformer_cifar spikformer_imgnet std_cifar spikingformer_cifar qkformer_cifar tim"),
        "node_type": _words("LIFNode"),
        "dataset": _DATASETS,
        "act_function": _SURROGATES,
    },
}  # fmt: skip
"""The benchmark's own names, by era and key."""

SPELLINGS: dict[Era, dict[str, dict[str, str]]] = {
    era: {
        key: {name: alias for alias, name in (ALIASES | DATASET_ALIASES).items() if alias in names}
        for key, names in keys.items()
    }
    for era, keys in NAMES.items()
}
"""The benchmark's names by ours, by era and key."""

ATTENTIONS = {"spikformer": ("SSA", "random_ssa"), "sdt": ("SDSA",), "std": ("SDSA",)}
"""Attentions that both sides have, by families of the benchmark in which the attention can be chosen."""

GROUPS: dict[str, tuple[str, ...]] = {
    "data": _words("data_dir dataset num_classes img_size event_size distort val_fraction split_seed train_images"),
    "data augmentation": _words(
        "mean std crop_pct scale ratio hflip color_jitter interpolation train_interpolation aa epochs mixup "
        "mixup_off_epoch mixup_prob mixup_mode mixup_switch_prob cutmix reprob remode"
    ),
    "model structure": _words(
        "model variant step read_step exit_rule exit_threshold "
        "encoding patch_size in_channels embed_dim num_heads mlp_ratio attn_scale "
        "mlp_drop attn_drop depths embed_layer attn_layer mlp_layer expert_dim num_expert pos_layer head_layer "
        "residual pooling_stat tim_alpha tim_threshold wavelet_groups kd_head legacy_batch_leak token_keep "
        "quant_bits"
    ),
    "node": ("tau", "threshold", "attn_threshold", "act_function", "node_type", "alpha"),
    "training": _words(
        "amp batch_size val_batch_size lr min_lr sched weight_decay cooldown_epochs warmup_epochs warmup_lr opt "
        "initial_checkpoint smoothing clip_grad model_ema model_ema_decay tet spike_penalty energy_rule measure_int8 "
        "compile workers threads seed log_interval output device"
    ),
}
"""The keys of a train file in the benchmark's order; `training` is the second file of the two-file form."""


UNREAD_KEYS = _words(
    "exit_rule exit_threshold "
    "initial_checkpoint head_layer mlp_layer expert_dim num_expert encoding "
    "variant read_step event_size distort val_fraction split_seed train_images attn_threshold pos_layer residual "
    "pooling_stat tim_threshold wavelet_groups kd_head legacy_batch_leak tet spike_penalty compile "
    "threads energy_rule token_keep quant_bits measure_int8"
)
"""Our keys that the benchmark's code does not read."""

NEUTRAL: dict[str, Any] = {
    "variant": "step", "distort": False, "attn_threshold": 0.5, "pos_layer": "rpe", "tim_threshold": 0.3,
    "head_layer": "mean", "kd_head": False, "initial_checkpoint": None, "legacy_batch_leak": False, "tet": None,
    "spike_penalty": 0.0, "train_images": None, "encoding": "direct",
    "exit_rule": None, "exit_threshold": None,
    "token_keep": 1.0, "quant_bits": None, "mlp_layer": "MLP", "expert_dim": 96, "num_expert": 4,
    "measure_int8": False,
}  # fmt: skip
"""Defaults of those keys with which nothing is lost if they are not read."""


def with_variant(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a train file with `variant: step` if only the benchmark has a model of this name."""
    is_its_own = data.get("model") in ("spikf_semm_cifar", "spikf_semm_imagenet")
    return {**({"variant": "step"} if is_its_own else {}), **data}


def canonical_name(value: Any) -> Any:
    """Returns our name of a model, part, neuron or surrogate, or of each in a list; other values unchanged."""
    if isinstance(value, list):
        return [canonical_name(one) for one in value]
    return ALIASES.get(value, value) if isinstance(value, str) else value


def is_of_benchmark(data: Mapping[str, Any]) -> bool:
    """Returns whether a file has a name of a data set, neuron or surrogate as the benchmark alone spells it."""
    values = (data.get(key) for key in ("dataset", "node_type", "act_function"))
    return any(isinstance(value, str) and value in ALIASES | DATASET_ALIASES for value in values)


def effect(key: str) -> str:
    """Returns what a key of NO_EFFECT does in the benchmark."""
    return EFFECTS.get(key, "the benchmark's code never reads this key")


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns the sentence for a name that is not registered; names of the benchmark are refused with the reason."""
    reason = REFUSED.get(kind, {}).get(name) if isinstance(name, str) else None
    return f"the benchmark's {kind} {name} {reason}" if reason else unknown_name(kind, name, known)


def ignored_sizes(data: Mapping[str, Any]) -> dict[str, int]:
    """Returns the model sizes of a file of the benchmark that its model ignores, as does ours, or an empty dict."""
    sizes = IGNORED_SIZES.get(str(data.get("model")), {})
    return sizes if all(data.get(key) == value for key, value in sizes.items()) else {}


def spell(config: Mapping[str, Any], era: Era) -> dict[str, Any]:
    """Returns the config in the benchmark's spellings, without the keys that are None."""
    tables = SPELLINGS[era]
    written = {
        key: tables.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in config.items()
        if value is not None
    }
    model = str(config.get("model", ""))
    if model.startswith("sdt_") and config.get("embed_layer") == "MS_SPS":
        written["embed_layer"] = "SPS"
    if era == "head" and model.startswith("spikformer_") and config.get("attn_layer") == "random":
        written["attn_layer"] = "random_ssa"
    if str(config.get("device", "")).startswith("cuda"):
        written["device"] = int(str(config["device"]).partition(":")[2] or 0)  # the number of a GPU
    return written


def compatibility_warnings(configs: Iterable[Mapping[str, Any]], era: Era) -> list[str]:
    """Returns a line for each key or value of the configs that the benchmark's code does not support."""
    written = [spell(config, era) for config in configs]
    unread_keys = (*UNREAD_KEYS, "embed_layer", "attn_layer") if era == "two_file" else UNREAD_KEYS
    unread = sorted({key for config in written for key in config if key in unread_keys})
    lines = [f"the benchmark does not read {', '.join(unread)}"] if unread else []
    lines += [line for config in written for line in [*_unknown_names(config, era), *_unused_values(config, era)]]
    return list(dict.fromkeys(lines))


def lost_values(configs: Iterable[Mapping[str, Any]], searched: Iterable[str]) -> list[str]:
    """Returns a line for each value of our train files that the benchmark's code at its HEAD would ignore.

    Files that it cannot run, as it has no such model or data set, are for our code alone and give no line.
    """
    written = [one for one in (spell(config, "head") for config in configs) if not any(_missing_names(one, "head"))]
    chosen = {"read_step", "exit_rule", "exit_threshold", *searched}
    unread = {
        key
        for one in written
        for key in UNREAD_KEYS
        if key in one and (key in chosen or one[key] != NEUTRAL.get(key, one[key]))
    }
    lines = [f"the benchmark does not read {', '.join(sorted(unread))}"] if unread else []
    lines += [line for one in written for line in _unused_values(one, "head")]
    return list(dict.fromkeys(lines))


def _unknown_names(written: Mapping[str, Any], era: Era) -> list[str]:
    lines = list(_missing_names(written, era))
    if str(written.get("model")).endswith(("_imagenet", "_imgnet")):
        lines.append(f"model: import {written['model']} in the benchmark's train.py, which does not import it")
    return lines


def _missing_names(written: Mapping[str, Any], era: Era) -> Iterator[str]:
    for key in ("model", "dataset", "node_type"):
        if key in written and written[key] not in NAMES[era][key]:
            yield f"{key}: the benchmark has no {written[key]}"
    family = str(written.get("model")).split("_")[0]
    attention = written.get("attn_layer")
    if era == "head" and attention not in (None, *ATTENTIONS.get(family, (attention,))):
        yield f"attn_layer: the benchmark's {family} has no {attention}"


def _unused_values(written: Mapping[str, Any], era: Era) -> list[str]:
    lines: list[str] = []
    model = str(written.get("model"))
    if model != "tim" and written.get("step") not in (None, 4):
        lines.append(f"step: {written['step']}: the benchmark's models for images work with 4 only")
    if (written.get("act_function"), written.get("alpha")) != ("SigmoidGrad", 4.0) or era == "two_file":
        lines.append("act_function, alpha: the benchmark reads them, but they never reach its neurons")
    if written.get("attn_drop") or written.get("mlp_drop"):
        lines.append("attn_drop, mlp_drop: the benchmark never applies them")
    if model.startswith(("sdt_", "std_")) and written.get("tau") != 2.0:
        lines.append("tau: in the benchmark's SDT it reaches the stem only; blocks and head keep 2.0")
    if model == "swformer_cifar" and written.get("wavelet_groups") != 16:
        lines.append("wavelet_groups: the benchmark's SWformer has 16")
    if written.get("cooldown_epochs"):
        lines.append("epochs: the benchmark trains cooldown_epochs more; here they are part of epochs")
    if isinstance(written.get("attn_scale"), str):
        lines.append(f"attn_scale: {written['attn_scale']}: the benchmark takes a number")
    if not isinstance(written.get("device", 0), int):
        lines.append(f"device: {written['device']}: the benchmark takes the number of a GPU")
    return lines
