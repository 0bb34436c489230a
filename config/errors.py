"""Errors that the user can fix: wrong input and combinations that cannot be built."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_LISTED = 40
"""So many names are listed where one of them is near to what was written."""


class ConfigError(ValueError):
    """The user's input is wrong. The text says where, what, the rule, the value and the way out."""


class InfeasibleError(ConfigError):
    """Every value is allowed, but their combination cannot be built (a width that no head count divides)."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns the sentence for a name that is not registered: the nearest one, then the list."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if near and len(names) > MOST_LISTED:
        return f"unknown {kind} (got {name!r}). Did you mean {near[0]}?"
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {kind} (got {name!r}). Known: {', '.join(names)}.{hint}"
