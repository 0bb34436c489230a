"""Names and shapes under which the published code keeps a model's parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern in our key, and what stands in its place in the published one."""


@dataclass(frozen=True)
class PublishedKeys:
    """How the published code calls and shapes what a model holds."""

    rules: tuple[Rule, ...]
    """What the published code calls our keys, applied in order."""
    dead: str = r"(?!)"
    """A pattern: keys in released files that the published forward never reads."""
    ranks: tuple[tuple[str, int], ...] = ()
    """Pairs of a pattern and the number of dimensions that the published weight has, less than ours by ones."""

    def key(self, ours: str) -> str:
        """Returns the published key of one of ours."""
        for pattern, name in self.rules:
            ours = re.sub(pattern, name, ours)
        return ours

    def shape(self, key: str, value: Tensor) -> tuple[int, ...]:
        """Returns the shape under which the published code keeps the value of a published key."""
        rank = next((rank for pattern, rank in self.ranks if re.search(pattern, key)), value.dim())
        ones = value.dim() - rank
        shape = list(value.shape)
        for _ in range(ones):
            shape.remove(1)
        return tuple(shape)


@runtime_checkable
class HasPublishedKeys(Protocol):
    """A model whose published code is known."""

    published: PublishedKeys
