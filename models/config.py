"""Model and neuron keys of a train file, with checks of names and sizes. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from config import step_names
from models import registry

T = TypeVar("T")
PATCH_SIZES = (1, 2, 4, 8, 16)


def _registered(kind: str, table: Mapping[str, object]) -> BeforeValidator:
    """Accepts the names of a table, and the benchmark's spellings of them."""

    def check(value: object) -> object:
        name = step_names.ALIASES.get(value, value) if isinstance(value, str) else value
        if not isinstance(name, str) or name not in table:
            raise ValueError(step_names.unknown(kind, value, table))
        return name

    return BeforeValidator(check)


def _power_of_two(value: int) -> int:
    if value not in PATCH_SIZES:
        raise ValueError(f"must be one of 1, 2, 4, 8 or 16 (got {value})")
    return value


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list | tuple) else "one"


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Many = Annotated[tuple[T, ...], Field(min_length=1, max_length=8), BeforeValidator(_as_tuple)]
PerStage = Annotated[Annotated[T, Tag("one")] | Annotated[Many[T], Tag("many")], Discriminator(_one_or_many)]
"""One value, or a list with one value per stage of the family."""

Limits = Annotated[tuple[float, ...], Field(min_length=1, max_length=63), BeforeValidator(_as_tuple)]
Limit = Annotated[Annotated[float, Tag("one")] | Annotated[Limits, Tag("many")], Discriminator(_one_or_many)]
"""One threshold of an exit rule, or a list with one for each step but the last."""

ModelName = Annotated[str, _registered("model", registry.MODELS)]
Stem = Annotated[str, _registered("stem", registry.STEMS)]
Attention = Annotated[str, _registered("attention", registry.ATTENTIONS)]
MLPName = Annotated[str, _registered("MLP", registry.MLPS)]
Neuron = Annotated[str, _registered("neuron", registry.NEURONS)]
ExitRule = Annotated[str, _registered("exit rule", registry.EXIT_RULES)]
Surrogate = Annotated[str, _registered("surrogate", registry.SURROGATES)]
PatchSize = Annotated[int, AfterValidator(_power_of_two)]
Width = Annotated[int, Field(ge=8, le=4096)]
Heads = Annotated[int, Field(ge=1, le=128)]
Depth = Annotated[int, Field(ge=0, le=64)]
Ratio = Annotated[float, Field(gt=0.0, le=16.0)]
Unit = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


def read_none(data: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Returns the data with None for the word `none`, in the keys that may be without a value."""
    return {key: None if value == "none" and _is_optional(model, key) else value for key, value in data.items()}


def _is_optional(model: type[BaseModel], key: str) -> bool:
    return key in model.model_fields and type(None) in get_args(model.model_fields[key].annotation)


class ModelConfig(BaseModel):
    """The model and neuron keys of a train file; missing keys take the published values of the named model."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    model: ModelName = Field(description="registered name of the model")
    variant: Literal["authors", "step"] = Field(
        "authors", description="version of the network where the authors' code and that of the STEP benchmark differ"
    )
    num_classes: int = Field(ge=2, description="classes of the data set")
    img_size: int = Field(ge=4, le=1024, description="height and width of the input in pixels")
    in_channels: int = Field(ge=1, le=64, description="channels of the input (2 for ON/OFF events)")
    step: int = Field(ge=1, le=64, description="timesteps T of the training")
    read_step: int = Field(ge=1, le=64, description="timesteps after which the output is read, at most step")
    encoding: Literal["direct", "rate", "phase", "ttfs"] = Field(
        "direct", description="still images as input: the pixels at every step, or spikes by one of three codes"
    )
    exit_rule: ExitRule | None = Field(
        None, description="rule that ends the run of an image early: confidence, msprt, margin, entropy or agreement"
    )
    exit_threshold: Limit | None = Field(
        None, description="certainty at which an image exits; one number, or a list with one for each step but the last"
    )
    patch_size: PatchSize = Field(description="pixels per token side; the stem pools log2 of it times")
    embed_dim: PerStage[Width] = Field(description="width of the tokens (of the last stage), or a list by stage")
    num_heads: PerStage[Heads] = Field(description="attention heads; must divide the width; one number or a list")
    mlp_ratio: PerStage[Ratio] = Field(description="hidden width of the MLP over the width; one number or a list")
    depths: PerStage[Depth] = Field(description="number of transformer blocks, all together or a list by stage")
    attn_scale: Positive | Literal["learnable", "head_dim"] = Field(
        0.125, description="factor on the attention product; head_dim: 1/sqrt(head width); learnable starts at 0.125"
    )
    attn_drop: Unit = Field(0.0, description="dropout on the attention product in training")
    mlp_drop: Unit = Field(0.0, description="dropout on the MLP's output in training")
    embed_layer: Stem = Field(description="stem that turns pixels into tokens")
    attn_layer: PerStage[Attention] = Field(description="attention of the blocks; one name or a list by stage")
    mlp_layer: MLPName = Field("MLP", description="feed-forward part of the blocks")
    expert_dim: int = Field(96, ge=1, le=4096, description="EMSA: width of Q and K of each expert")
    num_expert: int = Field(4, ge=1, le=64, description="EMSA: number of experts")
    pos_layer: Literal["rpe", "learned", "none"] = Field("rpe", description="position information after the stem")
    head_layer: Literal["mean", "spatio_temporal"] = Field(
        "mean",
        description="what the classifier reads: the mean over tokens, or a convolution over all tokens and steps",
    )
    residual: Literal["sew", "ms"] = Field(
        description="what shortcuts add: spikes after the neurons (sew) or membranes before them (ms)"
    )
    pooling_stat: Annotated[str, Field(pattern="^[01]{4}$")] | None = Field(
        None, description="the stem's four stages that pool, as 0011; overrides patch_size"
    )
    tim_alpha: float = Field(0.5, ge=0.0, le=1.0, description="TIM: share of the past in the query")
    tim_threshold: Positive = Field(0.3, le=100.0, description="TIM: firing threshold of its two neuron layers")
    wavelet_groups: int = Field(
        4, ge=1, le=256, description="FATM: groups of channels that have a matrix each and share two convolutions"
    )
    quant_bits: int | None = Field(
        None,
        ge=2,
        le=16,
        description="bits of all weights in training and evaluation, with a learned step per channel; none = floats",
    )
    token_keep: float = Field(
        1.0, gt=0.0, le=1.0, description="share of the tokens that each block updates; the others pass it unchanged"
    )
    kd_head: bool = Field(False, description="a second head for distillation (Meta-SpikeFormer)")
    legacy_batch_leak: bool = Field(
        False,
        description="QKFormer, MSViT, SGLFormer: run the attention's last neuron over steps x batch, as in the "
        "released code; SEMM on ImageNet: one output for the batch, as in the benchmark; "
        "HDLIFNode: stack samples instead of steps for its gate, as in the benchmark",
    )

    node_type: Neuron = Field("LIFNode", description="neuron of all layers")
    tau: float = Field(
        2.0, gt=1.0, le=100.0, description="membrane time constant in steps (initial value for PLIFNode)"
    )
    threshold: Positive = Field(1.0, le=100.0, description="firing threshold of all neurons except the attention's")
    attn_threshold: Positive = Field(0.5, le=100.0, description="firing threshold of the neuron after the attention")
    act_function: Surrogate = Field("sigmoid", description="surrogate gradient")
    alpha: Positive = Field(4.0, le=1000.0, description="steepness of the surrogate gradient")

    @model_validator(mode="before")
    @classmethod
    def _fill_published(cls, data: Any) -> Any:
        """Adds the published values of the named model for missing keys."""
        if not isinstance(data, Mapping):
            return data
        data = read_none(data, cls)
        data = step_names.with_variant(data)
        name = data.get("model")
        name = step_names.ALIASES.get(name, name) if isinstance(name, str) else None
        if name not in registry.MODELS:
            return data
        preset = registry.MODELS[name]
        merged = {**preset.values(data.get("variant")), **data, **preset.fixed.get(str(data.get("variant")), {})}
        stem = merged.get("embed_layer")
        if isinstance(stem, str):
            merged["embed_layer"] = preset.stem_aliases.get(stem, stem)
        step = merged.get("step")
        merged.setdefault("read_step", step if type(step) is int else 1)
        return merged

    @field_validator("read_step")
    @classmethod
    def _read_within_step(cls, value: int, info: Any) -> int:
        step = info.data.get("step")
        if step is not None and value > step:
            raise ValueError(f"read_step <= step must hold (got read_step={value}, step={step})")
        return value

    @property
    def is_causal(self) -> bool:
        """Returns whether the output at a step depends on the input up to that step only."""
        has_steps = self.head_layer not in registry.ACAUSAL_HEADS and self.token_keep == 1.0
        return has_steps and self.node_type not in registry.ACAUSAL_NEURONS and not self._has_acausal_attention

    @property
    def _has_acausal_attention(self) -> bool:
        return self.variant in registry.MODELS[self.model].acausal_variants

    @property
    def family(self) -> str:
        """Returns the family's short name, as in the recipes (`spikformer` for `spikformer_cifar`)."""
        return str(self.model).split("_")[0]
