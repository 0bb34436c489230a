"""Feasibility rules: combinations of parts and sizes that cannot be built. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from config.errors import InfeasibleError
from models import registry
from models.config import ModelConfig
from models.parts.stages import pools, stages, stem_stage

Rule = Callable[[ModelConfig], str | None]
"""Returns the violated rule with its values in a sentence, or None."""

WAVELETS = ("FATM", "FATM_binary")
SEQUENTIAL = ("spikformer", "spikingformer", "sdt", "semm")
SEQUENTIAL_ATTENTIONS = frozenset({"SSA", "SDSA", "EMSA", "random"})
"""The families and attentions that take the 64 tokens of a sequence."""

PER_STAGE = ("embed_dim", "num_heads", "mlp_ratio", "depths", "attn_layer")


def check_feasible(config: ModelConfig) -> None:
    """Raises InfeasibleError, with the rule and the values, if these parts and sizes cannot be built together."""
    for rule in _rules(config):
        problem = rule(config)
        if problem is not None:
            raise InfeasibleError(problem)


def _rules(config: ModelConfig) -> Iterator[Rule]:
    """Yields the rules in order; the later ones require valid lists."""
    yield _lists
    yield from (_stages, _sizes, _read_early, _batch_leak, _steepness, _exits, _token_keep)
    attentions = (stage.attn_layer for stage in stages(config))
    names = {config.model, config.embed_layer, config.mlp_layer, config.node_type, *attentions}
    yield from (RULES[name] for name in sorted(names) if name in RULES)


def _lists(config: ModelConfig) -> str | None:
    """Requires one value for each stage in a list."""
    spread = registry.MODELS[config.model].spread
    count = spread.stages
    for key in PER_STAGE:
        value = getattr(config, key)
        lengths = {1, count}
        if key == "depths" and 0 < spread.convs < count:
            lengths.add(count + 1)  # the depth of the stem's own blocks first
        if isinstance(value, tuple) and len(value) not in lengths:
            wanted = f"a list of {count}, one for each stage of" if count > 1 else "one value for the single stage of"
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
    if config.read_step == config.step or config.is_causal:
        return None
    part, cause = _acausal_part(config)
    return f"read_step must equal step, {part} (got read_step={config.read_step}, step={config.step}, {cause})"


def _acausal_part(config: ModelConfig) -> tuple[str, str]:
    """Returns what makes the outputs of a model depend on later steps, and the key with its value."""
    if config.node_type in registry.ACAUSAL_NEURONS:
        return f"{config.node_type} depends on later steps", f"node_type={config.node_type}"
    if config.head_layer in registry.ACAUSAL_HEADS:
        return "the head reads all steps at once", f"head_layer={config.head_layer}"
    if config.token_keep < 1.0:
        return "the tokens are chosen by all steps", f"token_keep={config.token_keep}"
    return f"this version of {config.model} depends on later steps", f"variant={config.variant}"


def _token_keep(config: ModelConfig) -> str | None:
    """Requires blocks that run on a part of the tokens."""
    if config.token_keep == 1.0:
        return None
    got = f"got token_keep={config.token_keep}"
    if config.family not in registry.TOKEN_WISE_FAMILIES:
        names = ", ".join(sorted(registry.TOKEN_WISE_FAMILIES))
        return f"token_keep < 1 needs blocks of 1x1 layers, as those of {names} ({got}, model={config.model})"
    for stage in stages(config):
        dilated = config.model == "sdt_dvs" and stage.attn_layer == "SDSA"
        if dilated or stage.attn_layer not in registry.TOKEN_WISE_ATTENTIONS:
            mixes = f"{stage.attn_layer} of {config.model} reads the neighbours of a token"
            return (
                f"token_keep < 1 needs an attention without positions, {mixes} ({got}, attn_layer={stage.attn_layer})"
            )
    if config.mlp_layer != "MLP":
        return (
            f"token_keep < 1 needs an MLP without positions, {config.mlp_layer} reads the neighbours of a token ({got})"
        )
    if config.legacy_batch_leak:
        return f"legacy_batch_leak carries membranes between the same tokens of two images, set it to false ({got})"
    return None


def _batch_leak(config: ModelConfig) -> str | None:
    has_own_leak = "legacy_batch_leak" not in registry.MODELS[config.model].lacks
    if has_own_leak and config.legacy_batch_leak and config.node_type in ("PSN", "GLIFNode", "HDLIFNode"):
        return (
            f"legacy_batch_leak runs neurons over steps x batch, {config.node_type} has parameters of each step"
            f" (got legacy_batch_leak=true, node_type={config.node_type})"
        )
    return None


def _steepness(config: ModelConfig) -> str | None:
    if config.act_function == "qpseudospike" and config.alpha <= 1.0:
        return f"alpha > 1 must hold for qpseudospike, whose gradient divides by alpha - 1 (got alpha={config.alpha:g})"
    return None


def exit_obstacle(config: ModelConfig) -> str | None:
    """Returns why no image can exit early in this model, or None."""
    if not config.is_causal:
        part, cause = _acausal_part(config)
        return f"{part} (got {cause})"
    if config.legacy_batch_leak:
        return "an image's output depends on the rest of its batch (got legacy_batch_leak=true)"
    return None


def _exits(config: ModelConfig) -> str | None:
    if config.exit_threshold is None:
        return None
    if config.exit_rule is None:
        return f"exit_threshold needs an exit_rule (got exit_threshold={config.exit_threshold}, exit_rule=none)"
    if (obstacle := exit_obstacle(config)) is not None:
        return f"exit_threshold must be none, {obstacle}"
    if config.read_step < config.step:
        return f"read_step must equal step with exit_threshold (got read_step={config.read_step}, step={config.step})"
    if isinstance(config.exit_threshold, tuple) and len(config.exit_threshold) != config.step - 1:
        count = len(config.exit_threshold)
        return f"exit_threshold must be one number, or step - 1 of them (got {count}, step={config.step})"
    return None


def _stem_width(config: ModelConfig, share: int, part: str) -> str | None:
    width = stem_stage(config).width
    if width % share:
        return (
            f"the stem {config.embed_layer} starts with {part} of its width, which must be a multiple of {share}"
            f" (got {width}, embed_dim={config.embed_dim})"
        )
    return None


def _sgl_stem(config: ModelConfig) -> str | None:
    width = stem_stage(config).width
    if width < 6:
        return f"the stem SGLFormer starts with a sixth of its width, which must be at least 6 (got {width})"
    return None


def _four_stage_stem(config: ModelConfig) -> str | None:
    return _stem_width(config, 8, "an eighth")


def _sequential(config: ModelConfig) -> str | None:
    names = {stage.attn_layer for stage in stages(config)}
    if config.family not in SEQUENTIAL or len(stages(config)) > 1 or not names <= SEQUENTIAL_ATTENTIONS:
        return (
            f"sequential_embed is for models of {', '.join(SEQUENTIAL)} with attn_layer"
            f" {' or '.join(sorted(SEQUENTIAL_ATTENTIONS))} (got model={config.model}, attn_layer={config.attn_layer})"
        )
    if config.pos_layer != "rpe":
        return f"sequential_embed has a position of its own, pos_layer must be rpe (got {config.pos_layer})"
    return _stem_width(config, 8, "an eighth")


def _two_convolutions(config: ModelConfig) -> str | None:
    reduction = stem_stage(config).reduction
    if any(pools(config, reduction)[:2]):
        return (
            "the stem conv2_embed pools twice: it must reduce the image by at most 4, and pooling_stat must start with"
            f" 00 (got {reduction}, patch_size={config.patch_size}, pooling_stat={config.pooling_stat})"
        )
    return _stem_width(config, 4, "a quarter")


def _two_path_stem(config: ModelConfig) -> str | None:
    share = 8 if stem_stage(config).reduction > 4 else 2
    return _stem_width(config, share, f"1/{share}")


def _tim(config: ModelConfig) -> str | None:
    node = config.node_type
    if node in registry.ALL_STEPS_NEURONS:
        return (
            f"TIM feeds its neurons step by step, {node} needs all steps at once (got attn_layer=TIM, node_type={node})"
        )
    if config.step < 2:
        return f"TIM mixes a step with the one before it: step >= 2 must hold (got step={config.step})"
    return None


def _wavelet(config: ModelConfig) -> str | None:
    for stage in stages(config):
        if stage.attn_layer not in WAVELETS:
            continue
        if stage.width % config.wavelet_groups:
            return (
                f"wavelet_groups must divide embed_dim (got embed_dim={stage.width},"
                f" wavelet_groups={config.wavelet_groups})"
            )
        if stage.grid & (stage.grid - 1):
            return (
                f"{stage.attn_layer} needs a map whose side, img_size / patch_size in the last stage, is a power of two"
                f" (got {stage.grid}, img_size={config.img_size}, patch_size={config.patch_size})"
            )
    return None


def _sdt_events(config: ModelConfig) -> str | None:
    stage = stages(config)[0]
    if stage.attn_layer == "SDSA" and stage.width % stage.num_heads:
        return (
            f"num_heads must divide embed_dim, sdt_dvs spreads K and V within heads"
            f" (got embed_dim={stage.width}, num_heads={stage.num_heads})"
        )
    return None


def _local(config: ModelConfig) -> str | None:
    for stage in stages(config):
        if stage.attn_layer == "LSSA" and stage.grid % 2:
            return (
                f"LSSA takes every second row and column: the side of its map must be even (got {stage.grid},"
                f" img_size={config.img_size}, patch_size={config.patch_size})"
            )
    return None


def _halved_mlp(config: ModelConfig) -> str | None:
    for stage in stages(config):
        if stage.hidden % 2:
            return (
                f"EMSP halves its hidden layer: mlp_ratio x embed_dim must be even (got {stage.hidden},"
                f" mlp_ratio={stage.mlp_ratio}, embed_dim={stage.width})"
            )
    return None


def _semm(config: ModelConfig) -> str | None:
    if config.variant == "step" and config.step != 4:
        return (
            f"the experts of the benchmark's {config.model} run over 4 steps: step must be 4 (got step={config.step})"
        )
    return None


def _sglformer(config: ModelConfig) -> str | None:
    widths = {stage.width for stage in stages(config)}
    if len(widths) > 1:
        return f"the parts of {config.model} must have one width (got embed_dim={config.embed_dim})"
    if config.variant == "step" and config.img_size < 8:
        return f"the benchmark's head reads 64 tokens: img_size >= 8 must hold (got img_size={config.img_size})"
    return None


def _sew_resnet(config: ModelConfig) -> str | None:
    if not all(stage.depth for stage in stages(config)):
        return f"every stage of {config.model} must have a block (got depths={config.depths})"
    return None


RULES: dict[str, Rule] = {
    **dict.fromkeys(("SPS", "SPS_CML", "SPS_ADD", "MS_SPS"), _four_stage_stem),
    **dict.fromkeys(("SPEDS", "MaxFormer"), _two_path_stem),
    "sequential_embed": _sequential,
    "conv2_embed": _two_convolutions,
    **dict.fromkeys(("SGLFormer_ima", "SGLFormer_ima2", "STMixer"), _four_stage_stem),
    "SGLFormer": _sgl_stem,
    **dict.fromkeys(("sglformer_cifar", "sglformer_imagenet", "sglformer_dvs"), _sglformer),
    "semm_cifar": _semm,
    "EMSP": _halved_mlp,
    "LSSA": _local,
    "TIM": _tim,
    **dict.fromkeys(WAVELETS, _wavelet),
    "sdt_dvs": _sdt_events,
    "sew_resnet18": _sew_resnet,
}
"""The rules of a model, stem or attention, by its name."""
