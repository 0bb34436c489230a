"""Paper and formula of a part, read from its docstring.

The first paragraph says what the part computes, and its first parenthesis with a year is the paper; a part without one
has the paper of its module's docstring. Values of a key without a class each are rows of a table in a docstring.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from typing import Any

CITATION = re.compile(r"\s*\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)")
SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`])")


@dataclass(frozen=True)
class Facts:
    """What a docstring says of a part: empty texts where it says nothing."""

    formula: str
    paper: str
    keys: tuple[str, ...] = ()
    """Train-file keys, where a table of a docstring lists them."""


def of_part(part: Any) -> Facts:
    """Returns the facts of a class or function."""
    module = sys.modules[part.__module__].__doc__ or ""
    text = part.__doc__ or module
    return Facts(_without_paper(_definition(text)).removeprefix("Returns "), _paper(text) or _paper(module))


def of_family(module: str) -> Facts:
    """Returns the facts of a model, from the docstring of its module: the first sentence after the title."""
    text = sys.modules[module].__doc__ or ""
    title, *rest = _paragraphs(text) or [""]
    return Facts(SENTENCE_END.split(rest[0] if rest else title)[0], _paper(text))


def of_row(text: str | None, name: str) -> Facts:
    """Returns the facts in the row of a docstring's table that starts with a name.

    Columns `paper` and `keys` are those; the second one is the formula, and the others follow it with their headers.
    """
    row = table(text or "").get(name, {})
    others = [(header, cell) for header, cell in row.items() if header not in ("paper", "keys") and cell]
    shown = [f"{header} = {cell}" if i and header else cell for i, (header, cell) in enumerate(others[1:])]
    keys = tuple(re.findall(r"\w+", row.get("keys", "")))
    return Facts(", ".join(shown), row.get("paper", ""), keys)


def table(text: str) -> dict[str, dict[str, str]]:
    """Returns the rows of the table in a docstring by their first cell, each a cell by its header."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not set(line) <= set("|- :")]
    if not rows:
        return {}
    header, *body = rows
    return {row[0].strip("`"): dict(zip(header, row, strict=False)) for row in body}


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n")]


def _definition(text: str) -> str:
    """Returns the first paragraph, and the next one if only that has a formula."""
    first, *rest = _paragraphs(text) or [""]
    if "`" not in first and rest and "`" in rest[0] and not rest[0].startswith("|"):
        return f"{first} {rest[0]}"
    return first


def _paper(text: str) -> str:
    found = CITATION.search(" ".join(text.split()))
    return found[1].replace('"', "") if found else ""


def _without_paper(text: str) -> str:
    return CITATION.sub("", text, count=1)
