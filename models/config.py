"""What a train file says about the model and its neurons. No torch here: names and sizes are checked without it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from models import registry


class ConfigError(ValueError):
    """The user's input is wrong. The text says where, what, the rule, the value and the way out."""


class InfeasibleError(ConfigError):
    """Every value is allowed, but their combination cannot be built (a width that no head count divides)."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns the sentence for a name that is not registered: the nearest one, then the list."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {kind} (got {name!r}). Known: {', '.join(names)}.{hint}"


def _known(kind: str, table: Mapping[str, object]) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in table:
            raise ValueError(unknown_name(kind, value, table))
        return value

    return BeforeValidator(check)


ModelName = Annotated[str, _known("model", registry.MODELS)]
Stem = Annotated[str, _known("stem", registry.STEMS)]
Attention = Annotated[str, _known("attention", registry.ATTENTIONS)]
Neuron = Annotated[str, _known("neuron", registry.NEURONS)]
Surrogate = Annotated[str, _known("surrogate", registry.SURROGATES)]
Unit = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class ModelConfig(BaseModel):
    """The model and neuron keys of a train file; missing ones take the published value of the named model."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    model: ModelName = Field(description="registered name of the model")
    num_classes: int = Field(ge=2, description="classes of the data set")
    img_size: int = Field(ge=4, le=1024, description="height and width of the input in pixels")
    in_channels: int = Field(ge=1, le=64, description="channels of the input (2 for ON/OFF events)")
    step: int = Field(ge=1, le=64, description="timesteps T that the network is trained with")
    read_step: int = Field(ge=1, le=64, description="timesteps after which the output is read, at most step")
    patch_size: Literal[1, 2, 4, 8, 16] = Field(description="pixels per token side; the stem pools log2 of it times")
    embed_dim: int = Field(ge=8, le=4096, description="width of the tokens")
    num_heads: int = Field(ge=1, le=128, description="attention heads; must divide embed_dim")
    mlp_ratio: Positive = Field(le=16, description="hidden width of the MLP over embed_dim")
    depths: int = Field(ge=1, le=64, description="number of transformer blocks")
    attn_scale: Positive | Literal["learnable", "head_dim"] = Field(
        description="factor on the attention product; head_dim means 1/sqrt(head width), learnable starts at 0.125"
    )
    attn_drop: Unit = Field(0.0, description="dropout on the attention product, while training")
    mlp_drop: Unit = Field(0.0, description="dropout on the MLP's output, while training")
    embed_layer: Stem = Field(description="stem that turns pixels into tokens")
    attn_layer: Attention = Field(description="attention of the blocks")

    node_type: Neuron = Field("LIFNode", description="neuron of all layers")
    tau: float = Field(2.0, gt=1.0, le=100.0, description="membrane time constant in steps (initial one for PLIFNode)")
    threshold: Positive = Field(1.0, le=100.0, description="firing threshold of all neurons but the attention's")
    attn_threshold: Positive = Field(0.5, le=100.0, description="firing threshold of the neuron behind the attention")
    act_function: Surrogate = Field("sigmoid", description="surrogate gradient")
    alpha: Positive = Field(4.0, le=1000.0, description="steepness of the surrogate gradient")

    @model_validator(mode="before")
    @classmethod
    def _fill_published(cls, data: Any) -> Any:
        """Missing keys take the named model's published values."""
        if not isinstance(data, Mapping) or data.get("model") not in registry.MODELS:
            return data
        merged = {**registry.MODELS[data["model"]].keys, **data}
        if "step" in merged:
            merged.setdefault("read_step", merged["step"])
        return merged

    @field_validator("read_step")
    @classmethod
    def _read_within_step(cls, value: int, info: Any) -> int:
        step = info.data.get("step")
        if step is not None and value > step:
            raise ValueError(f"read_step <= step must hold (got read_step={value}, step={step})")
        return value

    @property
    def family(self) -> str:
        """Returns the family's short name, as in the recipes (`spikformer` for `spikformer_cifar`)."""
        return str(self.model).split("_")[0]


def check_feasible(config: ModelConfig) -> None:
    """Raises InfeasibleError, with the rule and the values, when these sizes cannot be built together."""
    if config.embed_dim % config.num_heads:
        raise InfeasibleError(
            f"num_heads must divide embed_dim (got embed_dim={config.embed_dim}, num_heads={config.num_heads})"
        )
    if config.embed_dim % 8:
        raise InfeasibleError(
            f"embed_dim must be a multiple of 8, the stem starts with an eighth (got {config.embed_dim})"
        )
    if config.img_size < config.patch_size:
        raise InfeasibleError(
            f"patch_size <= img_size must hold (got patch_size={config.patch_size}, img_size={config.img_size})"
        )
