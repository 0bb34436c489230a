"""What does not fit together, in sentences, before anything is built. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from config.errors import InfeasibleError
from models import feasibility, registry
from models.config import ModelConfig
from models.parts.stages import stages, stem_stage

if TYPE_CHECKING:
    from models.config import ModelConfig

Rule = Callable[["ModelConfig"], str | None]
PER_STAGE = ("embed_dim", "num_heads", "mlp_ratio", "depths", "attn_layer")


def problem(config: ModelConfig) -> str | None:
    """Returns why the config cannot be built, the rule and its values, or None where it can."""
    names = {config.model, config.embed_layer, config.node_type, config.residual, config.pos_layer}
    sentence = _lists(config)
    if sentence is not None:
        return sentence
    names |= {stage.attn_layer for stage in stages(config)}
    rules = [_stages, _sizes, _read_early, _batch_leak, *(RULES[name] for name in sorted(names) if name in RULES)]
    return next((sentence for rule in rules if (sentence := rule(config)) is not None), None)


def _lists(config: ModelConfig) -> str | None:
    """A list has one value for each stage."""
    spread = registry.MODELS[config.model].spread
    count = spread.stages
    for key in PER_STAGE:
        value = getattr(config, key)
        with_stem = (
            count + 1 if key == "depths" and 0 < spread.convs < count else count
        )  # the stem's own blocks in front
        if isinstance(value, tuple) and len(value) not in (1, count, with_stem):
            wanted = f"a list of {count}, one for each stage of" if count > 1 else "one value, there is one stage in"
            return f"{key} must be {wanted} {config.model} (got {list(value)})"
    return None


def _stages(config: ModelConfig) -> str | None:
    for stage in stages(config):
        if stage.depth < 0:
            return f"depths is too small for the stages of {config.model} (got depths={config.depths})"
        if stage.width < 1:
            return f"embed_dim is too small for the stages of {config.model} (got embed_dim={config.embed_dim})"
        uses_heads = "num_heads" in registry.ATTENTION_KEYS[stage.attn_layer]
        if uses_heads and stage.width % stage.num_heads:
            return f"num_heads must divide embed_dim (got embed_dim={stage.width}, num_heads={stage.num_heads})"
        if stage.hidden < 1:
            return f"mlp_ratio x embed_dim must be 1 or more (got mlp_ratio={stage.mlp_ratio}, embed_dim={stage.width})"
    return None


def _sizes(config: ModelConfig) -> str | None:
    if not any(stage.depth for stage in stages(config)):
        return f"a transformer must have at least one block (got depths={config.depths})"
    if config.pooling_stat is not None and len(stages(config)) > 1:
        return f"pooling_stat is for families of one stage, {config.model} has {len(stages(config))}: use patch_size"
    halvings = registry.MODELS[config.model].spread.halvings_after(0)
    if config.patch_size < 2**halvings:
        return (
            f"patch_size >= {2**halvings} must hold, {config.model} halves the map {halvings} times between its stages"
            f" (got patch_size={config.patch_size})"
        )
    if config.pooling_stat is None and config.img_size < config.patch_size:
        return f"patch_size <= img_size must hold (got patch_size={config.patch_size}, img_size={config.img_size})"
    return None


def _read_early(config: ModelConfig) -> str | None:
    if config.read_step < config.step and config.node_type in registry.ACAUSAL_NEURONS:
        return (
            f"read_step must equal step, {config.node_type} looks at later steps"
            f" (got read_step={config.read_step}, step={config.step}, node_type={config.node_type})"
        )
    return None


def _batch_leak(config: ModelConfig) -> str | None:
    if config.legacy_batch_leak and config.node_type in ("PSN", "GLIFNode"):
        return (
            f"legacy_batch_leak runs neurons over steps x batch, {config.node_type} has parameters of each step"
            f" (got legacy_batch_leak=true, node_type={config.node_type})"
        )
    return None


def _four_stage_stem(config: ModelConfig) -> str | None:
    width = stem_stage(config).width
    if width % 8:
        return (
            f"the stem {config.embed_layer} starts with an eighth of its width, which must be a multiple of 8"
            f" (got {width}, embed_dim={config.embed_dim})"
        )
    return None


def _two_path_stem(config: ModelConfig) -> str | None:
    made = stem_stage(config)
    share = 8 if made.reduction > 4 else 2
    if made.width % share:
        return (
            f"the stem {config.embed_layer} starts with 1/{share} of its width, which must be a multiple of {share}"
            f" (got {made.width}, embed_dim={config.embed_dim})"
        )
    return None


def _tim(config: ModelConfig) -> str | None:
    if config.node_type == "PSN":
        return "TIM feeds its neurons step by step, PSN needs all steps at once (got attn_layer=TIM, node_type=PSN)"
    if config.step < 2:
        return f"TIM mixes a step with the one before it: step >= 2 must hold (got step={config.step})"
    return None


def _sdt_events(config: ModelConfig) -> str | None:
    stage = stages(config)[0]
    if stage.attn_layer == "SDSA" and stage.width % stage.num_heads:
        return (
            f"num_heads must divide embed_dim, sdt_dvs spreads K and V within heads"
            f" (got embed_dim={stage.width}, num_heads={stage.num_heads})"
        )
    return None


def _sew_resnet(config: ModelConfig) -> str | None:
    if not all(stage.depth for stage in stages(config)):
        return f"every stage of {config.model} must have a block (got depths={config.depths})"
    return None


RULES: dict[str, Rule] = {
    "SPS": _four_stage_stem,
    "SPS_CML": _four_stage_stem,
    "MS_SPS": _four_stage_stem,
    "SPEDS": _two_path_stem,
    "MaxFormer": _two_path_stem,
    "TIM": _tim,
    "sdt_dvs": _sdt_events,
    "sew_resnet18": _sew_resnet,
}
"""The rule of a model or a part, asked where its name stands in the config."""


def check_feasible(config: ModelConfig) -> None:
    """Raises InfeasibleError, with the rule and the values, when these parts and sizes cannot be built together."""
    sentence = feasibility.problem(config)
    if sentence is not None:
        raise InfeasibleError(sentence)
