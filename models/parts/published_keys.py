"""Parameter names and shapes of the published code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern in our key, and its replacement in the published key."""


NONE = r"(?!)"
"""A pattern of no key."""


@dataclass(frozen=True)
class PublishedKeys:
    """The mapping from our parameter names and shapes to the published ones."""

    rules: tuple[Rule, ...]
    """Replacements, applied in order."""
    dead: str = NONE
    """A pattern of keys in released files that the published forward pass never reads."""
    ranks: tuple[tuple[str, int], ...] = ()
    """Pairs of a pattern and the published number of dimensions, which leaves out some of ours of size 1."""

    def key(self, ours: str) -> str:
        """Returns the published key of one of ours."""
        for pattern, name in self.rules:
            ours = re.sub(pattern, name, ours)
        return ours

    def shape(self, key: str, value: Tensor) -> tuple[int, ...]:
        """Returns the published shape of the value of a published key."""
        rank = next((rank for pattern, rank in self.ranks if re.search(pattern, key)), value.dim())
        shape = list(value.shape)
        for _ in range(value.dim() - rank):
            shape.remove(1)
        return tuple(shape)
