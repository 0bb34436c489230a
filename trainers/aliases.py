"""The benchmark's spellings (BrainCog/STEP, both its one-file and its two-file days), read as ours."""

from __future__ import annotations

from typing import Any

VALUES: dict[str, dict[str, str]] = {
    "dataset": {
        "torch/cifar10": "cifar10",
        "torch/cifar100": "cifar100",
        "dvsc10": "cifar10_dvs",
        "cifar10-dvs": "cifar10_dvs",
        "dvsg": "dvs128_gesture",
        "gesture": "dvs128_gesture",
        "NCALTECH101": "n_caltech101",
        "ncaltech101": "n_caltech101",
    },
    "model": {
        "spikformer_imgnet": "spikformer_imagenet",
        "std_cifar": "sdt_cifar",
        "std_imagenet": "sdt_imagenet",
        "tim": "tim_dvs",
    },
    "act_function": {"SigmoidGrad": "sigmoid", "Sigmoid_Grad": "sigmoid", "AtanGrad": "atan"},
    "node_type": {
        "GLIFTorch": "GLIFNode",
        "ComplementaryLIFNeuron": "CLIFNode",
        "PSNTorch": "PSN",
    },
}

NO_EFFECT = frozenset(
    {
        "model-ema", "model-ema-decay", "model-ema-force-cpu", "channels-last", "mlp-ratio", "bce-loss",
        "bce-target-thresh", "pretrained", "use_conv_as_linear", "sequence_length", "drop_path", "drop", "sr_ratios",
        "qkv_bias", "log_wandb", "local_rank", "initial_checkpoint",
    }
)  # fmt: skip
"""Keys of the benchmark and its sources that its code never reads, or that its models ignore."""


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the same train file with our spelling of every value."""
    out = {
        key: VALUES[key].get(value, value) if key in VALUES and isinstance(value, str) else value
        for key, value in data.items()
    }
    if out.get("embed_layer") == "SPS" and str(out.get("model", "")).startswith("sdt"):
        out["embed_layer"] = "MS_SPS"
    return out
