"""Catalogue of models and parts: `python -m models.catalogue`, which docs/models.md holds.

Papers, formulas and keys are read from docstrings and registries, costs are counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from config import cli
from config.errors import ConfigError, unknown_name
from models.catalogue.cost import SIZE, cost_of_ssa
from models.catalogue.entries import PARTS, Entry, entries, kinds
from models.catalogue.usage import families
from models.config import ModelConfig
from models.literature import table_lines

TITLES = {
    "model": "Models", "attention": "Attentions", "mlp": "MLPs", "stem": "Stems", "position": "Positions",
    "residual": "Residuals", "head": "Heads", "neuron": "Neurons", "surrogate": "Surrogate gradients",
    "encoding": "Encodings of still images", "exit_rule": "Exit rules", "loss": "Losses",
}  # fmt: skip
MOST_LISTED_AS_MISSING = 4
"""Families that a cell names as missing; with more, it names those that are there."""
OPERATIONS, PARAMETERS = "operations", "parameters"
INTRODUCTION = """# Models and parts

Written by `python -m models.catalogue > docs/models.md`; `--kind attention` prints one section, `--json` prints JSON.
README's table has the published sizes and accuracies of the models.

- **keys**: train-file keys that a part reads, beyond the key that names it and those of its neurons.
- **default in**, **usable in**: families of models. A part is usable in a family if one of its models can be built with
  it at the size below; `--dry-run` and error messages name the rule that forbids another combination.
- **operations**: of an image in all steps, with all inputs on, over the {unit:.1f} million of one SSA. A layer executes
  the share of them that is the spike rate of its input, as `python -m trainers.measure` counts. Parts are counted in a
  Spikformer of one block, an encoding by its first layer; an empty cell is a part that it cannot have.
- **parameters**: of the same layers.

Size: {size}.
"""


def section(kind: str) -> str:
    """Returns the heading and the table of one kind; columns without any cell are left out."""
    found = list(entries(kind))
    columns: dict[str, list[str]] = {
        kind: [f"`{entry.name}`" for entry in found],
        "paper": [entry.paper for entry in found],
        "formula" if kind != "model" else "description": [entry.formula for entry in found],
        "keys": [_keys(entry) for entry in found],
        "published for" if kind == "model" else "default in": [_families(entry.default_in) for entry in found],
        "usable in": [_families(entry.usable_in) for entry in found],
        OPERATIONS: [_operations(entry) for entry in found],
        PARAMETERS: [f"{entry.cost.parameters:,}" if entry.cost else "" for entry in found],
    }
    shown = {header: cells for header, cells in columns.items() if any(cells)}
    rows = zip(*([cell.replace("|", "\\|") for cell in cells] for cells in shown.values()), strict=True)
    key = "" if kind not in PARTS else f"Key `{PARTS[kind].key}`.\n\n"
    return f"## {TITLES[kind]}\n\n{key}" + "\n".join(table_lines(tuple(shown), rows, (OPERATIONS, PARAMETERS)))


def _keys(entry: Entry) -> str:
    if entry.kind != "model":
        return ", ".join(f"`{key}`" for key in entry.keys)
    lacking = [f"`{key}`" for key in ModelConfig.model_fields if key not in entry.keys and key != "model"]
    return f"all but {', '.join(lacking)}" if lacking else "all"


def _families(names: Sequence[str]) -> str:
    """Returns names of families, or those that are missing where these are fewer."""
    missing = [name for name in families() if name not in names]
    if not missing:
        return "all"
    return f"all but {', '.join(missing)}" if len(missing) <= MOST_LISTED_AS_MISSING else ", ".join(names)


def _operations(entry: Entry) -> str:
    return f"{entry.cost.operations / cost_of_ssa().operations:.2f}" if entry.cost else ""


def markdown(chosen: Iterable[str]) -> str:
    """Returns the sections of some kinds."""
    return "\n\n".join(map(section, chosen))


def page() -> str:
    """Returns the whole catalogue, docs/models.md."""
    tokens = SIZE["img_size"] // SIZE["patch_size"]
    size = (
        f"{SIZE['img_size']} x {SIZE['img_size']} pixels, {tokens} x {tokens} tokens of width {SIZE['embed_dim']},"
        f" `depths: {SIZE['depths']}` of a model, T = {SIZE['step']}"
    )
    return INTRODUCTION.format(size=size, unit=cost_of_ssa().operations / 1e6) + "\n" + markdown(kinds())


def as_json(chosen: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the entries of some kinds, with `operations_over_ssa`, `operations` and `parameters` of the cost."""
    found = []
    for entry in (entry for kind in chosen for entry in entries(kind)):
        values = dataclasses.asdict(entry)
        cost = values.pop("cost") or {}
        if entry.cost is not None:
            cost["operations_over_ssa"] = round(entry.cost.operations / cost_of_ssa().operations, 4)
        found.append({**values, **cost})
    return found


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("python -m models.catalogue", description="lists all models and parts")
    parser.add_argument("--kind", metavar="KIND", help=f"one of {', '.join(kinds())}")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")
    cli.add_imports(parser, "registers models or parts")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return cli.run(lambda: _run(_parser().parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    if args.kind is not None and args.kind not in kinds():
        raise ConfigError(f"--kind: {unknown_name('kind', args.kind, kinds())}")
    cli.import_packages(args.imports)
    chosen = kinds() if args.kind is None else (args.kind,)
    if args.json:
        print(json.dumps(as_json(chosen), indent=2))
    else:
        print(page() if args.kind is None else markdown(chosen))
    return cli.OK
