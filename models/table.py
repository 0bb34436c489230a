"""Prints the table of models for the README: `python -m models.table`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from models import registry
from models.build import create_model
from models.cost.meter import count_parameters
from models.published.variants import PAPERS, RELEASED, VARIANTS, WRITTEN_OUT, Variant

COLUMNS = ("model", "paper", "size", "parameters", "data set", "top-1 %", "mJ", "source of the numbers", "here")
NUMERIC = {"parameters", "top-1 %", "mJ"}
_PRESET = (Variant("preset", "", None, None, ""),)


def rows() -> Iterator[tuple[str, ...]]:
    """Yields one row a published size of each registered model, and one for a model without."""
    for name in registry.MODELS:
        for variant in VARIANTS.get(name, _PRESET):
            with torch.device("meta"):
                model = create_model({"model": name, **variant.keys})
            yield (
                f"`{name}`",
                _short(PAPERS.get(name.split("_")[0], "")),
                variant.name,
                f"{count_parameters(model):,}",
                variant.dataset,
                "" if variant.accuracy is None else f"{variant.accuracy:.2f}",
                "" if variant.energy_mj is None else f"{variant.energy_mj:.2f}",
                variant.source,
                _status(name, model.published is not None),
            )


def _short(paper: str) -> str:
    """Returns the venue and year of a citation."""
    return paper.rpartition(", ")[2]


def _status(name: str, published: bool) -> str:
    """Returns how far the model was held against what was published, the weaker checks included."""
    if name in RELEASED:
        return "outputs of the released code"
    if name in WRITTEN_OUT:
        return "outputs of its description"
    return "counts and keys" if published else "ours"


def markdown() -> str:
    """Returns the table, and the papers under it."""
    rule = tuple("---:" if column in NUMERIC else "---" for column in COLUMNS)
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, rule, *rows())]
    families = dict.fromkeys(name.split("_")[0] for name in registry.MODELS)
    papers = [f"- `{family}`: {PAPERS[family]}" for family in families if family in PAPERS]
    return "\n".join([*lines, "", "Papers:", "", *papers])


if __name__ == "__main__":
    print(markdown())
