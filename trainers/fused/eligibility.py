"""Eligibility for fused training: configs of one shape, which differ in numbers only; imports no torch."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from models import registry
from trainers.config import TrainConfig
from trainers.datasets import STREAMED

PER_MEMBER_KEYS = frozenset(
    {
        *("tau", "threshold", "attn_threshold", "tim_threshold", "alpha", "attn_scale", "read_step", "energy_rule"),
        *("lr", "min_lr", "warmup_lr", "warmup_epochs", "weight_decay", "clip_grad", "smoothing", "tet"),
        *("spike_penalty", "seed", "log_interval", "output", "initial_checkpoint"),
        *("exit_rule", "exit_threshold"),
        *("model_ema", "model_ema_decay"),
    }
)
"""The keys in which the members of a fused training may differ."""

NEURONS = ("LIFNode", "IFNode")
SURROGATES = ("sigmoid", "atan")


def shape(config: TrainConfig) -> Hashable:
    """Returns the values that must be equal for two trainings to be fused."""
    rest: dict[str, Any] = {key: value for key, value in config.dump().items() if key not in PER_MEMBER_KEYS}
    return repr(sorted(rest.items()))


def obstacle(config: TrainConfig, *, on_gpu: bool = False) -> str | None:
    """Returns the reason why a training cannot be fused, or None. `compile` has an effect on the CPU only."""
    attentions = config.attn_layer if isinstance(config.attn_layer, tuple) else (config.attn_layer,)
    parts = (registry.MODELS[config.model].path, registry.STEMS[config.embed_layer])
    checks = (
        (config.node_type not in NEURONS, f"node_type must be LIFNode or IFNode (got {config.node_type})"),
        (config.act_function not in SURROGATES, f"act_function must be sigmoid or atan (got {config.act_function})"),
        ("DSSA" in attentions, "DSSA's running firing rates cannot be fused (got attn_layer=DSSA)"),
        (config.attn_scale == "learnable", "a learned scale cannot be fused (got attn_scale=learnable)"),
        (
            config.attn_drop > 0 or config.mlp_drop > 0,
            "dropout would share its samples between trials (got attn_drop or mlp_drop > 0)",
        ),
        (config.encoding == "rate", "rate coding would share its noise between trials (got encoding=rate)"),
        (config.quant_bits is not None, f"quantised weights cannot be fused (got quant_bits={config.quant_bits})"),
        (config.opt != "adamw", f"opt must be adamw (got {config.opt})"),
        (config.batch_size == 1, "PyTorch's batch norm is wrong for single images in this layout (got batch_size=1)"),
        (config.compile and not on_gpu, "compiled neurons cannot be fused (got compile=true)"),
        (config.dataset in STREAMED, f"data read from disk is not shared (got dataset={config.dataset})"),
        (
            any(not path.startswith("models.") for path in (*parts, *(registry.ATTENTIONS[a] for a in attentions))),
            "custom parts may not support fusing",
        ),
    )
    return next((sentence for is_so, sentence in checks if is_so), None)
