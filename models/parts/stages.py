"""Stage sizes, computed from the keys of a config. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from models import registry

if TYPE_CHECKING:
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
    """Pixels per token side."""
    shrink: int = 1
    """Tokens per side, over those of the last stage."""
    hidden_multiple: int = 1

    @property
    def head_width(self) -> int:
        """Returns d = C / H."""
        return self.width // self.num_heads

    @property
    def hidden(self) -> int:
        """Returns the hidden width of the MLP."""
        return int(self.width * self.mlp_ratio) // self.hidden_multiple * self.hidden_multiple


def pools(config: ModelConfig, reduction: int) -> tuple[bool, ...]:
    """Returns for each of the four steps of a stem whether it pools: the last log2(reduction), or `pooling_stat`."""
    if config.pooling_stat is not None:
        return tuple(flag == "1" for flag in config.pooling_stat)
    return tuple(i >= 5 - reduction.bit_length() for i in range(4))


def halved(size: int, times: int) -> int:
    """Returns the side of a map after `times` poolings of kernel 3, stride 2, padding 1."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def stages(config: ModelConfig) -> tuple[Stage, ...]:
    """Returns the stages of a feasible config, from lists by stage or from one number and the family's `Spread`."""
    spread = registry.MODELS[config.model].spread
    poolings = sum(pools(config, config.patch_size))
    depths, _ = _split_depths(config)
    return tuple(
        Stage(
            width=_share(config.embed_dim, i, spread.widths[i], 0),
            num_heads=_at(config.num_heads, i),
            depth=_share(depths, i, *spread.depths[i]),
            mlp_ratio=_at(config.mlp_ratio, i),
            attn_layer="identity" if i < spread.convs else _at(config.attn_layer, i),
            grid=halved(config.img_size, max(0, poolings - after)),
            reduction=2 ** max(0, poolings - after),
            shrink=2**after,
            hidden_multiple=spread.hidden_multiple,
        )
        for i, after in enumerate(map(spread.halvings_after, range(spread.stages)))
    )


def stem_stage(config: ModelConfig) -> Stage:
    """Returns the stem's output: the first stage, or one of half its width where the first stage is embedded twice."""
    first = stages(config)[0]
    if not registry.MODELS[config.model].spread.convs:
        return first
    reduction = max(1, first.reduction // 2)
    grid = halved(config.img_size, reduction.bit_length() - 1)
    _, stem_depth = _split_depths(config)
    depth = first.depth if stem_depth is None else stem_depth
    return replace(first, width=first.width // 2, depth=depth, reduction=reduction, grid=grid)


def _at(value: T | tuple[T, ...], stage: int) -> T:
    """Returns the value of a key at a stage, from a list or from one value for all stages."""
    return value[stage if len(value) > 1 else 0] if isinstance(value, tuple) else value


def _share(value: int | tuple[int, ...], stage: int, share: float, plus: int) -> int:
    """Returns the value of a key at a stage, from a list or as a share of one number, rounded down, plus a constant."""
    return _at(value if isinstance(value, tuple) else int(value * share + 1e-9) + plus, stage)


def _split_depths(config: ModelConfig) -> tuple[int | tuple[int, ...], int | None]:
    """Returns the depths of the stages, and the depth of the stem's blocks if a list starts with it."""
    depths = config.depths
    if isinstance(depths, tuple) and len(depths) > max(1, registry.MODELS[config.model].spread.stages):
        return depths[1:], depths[0]
    return depths, None
