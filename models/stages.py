"""From the keys of a config to the sizes of its stages. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from models.config import ModelConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """The blocks of one width: `depth` blocks of `attn_layer` on `grid` x `grid` tokens."""

    width: int
    num_heads: int
    depth: int
    mlp_ratio: float
    attn_layer: str
    grid: int
    reduction: int
    """Pixels a token side."""

    @property
    def head_width(self) -> int:
        """Returns d = C / H."""
        return self.width // self.num_heads

    @property
    def hidden(self) -> int:
        """Returns the hidden width of the MLP."""
        return int(self.width * self.mlp_ratio)


def pools(config: ModelConfig, reduction: int) -> tuple[bool, ...]:
    """Returns which of the four steps of a stem pool: the last log2(reduction), or as `pooling_stat` says."""
    if config.pooling_stat is not None:
        return tuple(flag == "1" for flag in config.pooling_stat)
    return tuple(i >= 5 - reduction.bit_length() for i in range(4))


def halved(size: int, times: int) -> int:
    """Returns the side of a map after `times` poolings of kernel 3, stride 2, padding 1."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def stages(config: ModelConfig) -> tuple[Stage, ...]:
    """Returns the stages of a feasible config; an isotropic family has one."""
    width, heads, ratio = one(config.embed_dim), one(config.num_heads), one(config.mlp_ratio)
    poolings = sum(pools(config, config.patch_size))
    grid = halved(config.img_size, poolings)
    return (Stage(width, heads, one(config.depths), ratio, one(config.attn_layer), grid, 2**poolings),)


def one(value: T | tuple[T, ...]) -> T:
    """Returns the value of a family with one stage; a list of one counts as its value."""
    if not isinstance(value, tuple):
        return value
    (single,) = value
    return single
