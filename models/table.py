"""Table of models for the README: `python -m models.table`.

`models/published/results.json` lists the published sizes of each model, with the keys that differ from the preset.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from config import cli
from models.build import create_model
from models.cost.meter import count_parameters
from models.literature import DATASETS, published_sizes, table_lines

COLUMNS = ("model", "paper", "size", "parameters", "data set", "top-1 %", "mJ", "source of the numbers", "here")
NUMERIC = {"parameters", "top-1 %", "mJ"}
RELEASED = frozenset(
    {
        *("spikformer_cifar", "spikingformer_cifar", "sdt_cifar", "tim_dvs", "qkformer_cifar", "maxformer_cifar"),
        *("metaspikformer", "qsd", "swformer_cifar", "msvit_cifar", "sglformer_cifar", "semm_cifar", "stmixer_cifar"),
    }
)
"""Models whose outputs equal those of the released code with the same weights, to 1e-9 in float64."""

WRITTEN_OUT = frozenset(
    {
        *("spikformer_imagenet", "spikformer_dvs", "spikingformer_imagenet", "spikingformer_dvs"),
        *("sdt_imagenet", "sdt_dvs", "qkformer_imagenet", "qkformer_dvs", "maxformer_imagenet", "maxformer_dvs"),
        *("spikingresformer_ti", "espikeformer_t", "swformer_imagenet", "swformer_dvs"),
        *("msvit_imagenet", "sglformer_imagenet", "sglformer_dvs", "semm_imagenet", "stmixer_imagenet"),
    }
)
"""Models whose outputs equal those of a second implementation from the paper, to the same accuracy."""


def rows() -> Iterator[tuple[str, ...]]:
    """Yields the cells of each published size."""
    for size in published_sizes():
        with torch.device("meta"):
            model = create_model({"model": size["model"], **size["keys"]})
        yield (
            f"`{size['model']}`",
            size["paper"].rpartition(", ")[2],
            size["size"],
            f"{count_parameters(model):,}",
            DATASETS[size["dataset"]],
            *("" if size[key] is None else f"{size[key]:.2f}" for key in ("accuracy", "energy_mj")),
            size["source"],
            _status(size["model"], model.published is not None),
        )


def _status(name: str, has_published_keys: bool) -> str:
    """Returns the strongest check against the published model."""
    if name in RELEASED:
        return "outputs of the released code"
    if name in WRITTEN_OUT:
        return "outputs of its description"
    return "counts and keys" if has_published_keys else "ours"


def markdown() -> str:
    """Returns the table, and the papers below it."""
    lines = table_lines(COLUMNS, rows(), NUMERIC)
    papers = {size["model"].split("_")[0]: size["paper"] for size in published_sizes()}
    return "\n".join([*lines, "", "Papers:", "", *(f"- `{family}`: {paper}" for family, paper in papers.items())])


def main() -> int:
    """Prints the table."""
    print(markdown())
    return cli.OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
