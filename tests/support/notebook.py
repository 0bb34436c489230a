"""Runs a notebook without Jupyter: `python -m tests.support.notebook IN.ipynb OUT.ipynb`.

Cells run and show their outputs by IPython's rules: the last expression of a cell is displayed in each format that it
offers (`_repr_html_`, `_repr_png_`, repr) unless a semicolon ends it, and figures of pyplot at the end of the cell.
"""

from __future__ import annotations

import ast
import base64
import builtins
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

Output = dict[str, Any]


class ZMQInteractiveShell:
    """Stands for the shell of Jupyter, by whose name programs know that they run in a notebook."""


def run_notebook(content: dict[str, Any]) -> None:
    """Runs all code cells in one namespace and stores their outputs in the notebook."""
    os.environ["MPLBACKEND"] = "agg"
    shell = ZMQInteractiveShell()
    builtins.get_ipython = lambda: shell  # type: ignore[attr-defined]
    names: dict[str, Any] = {"__name__": "__main__"}
    for position, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            cell["outputs"] = run_cell("".join(cell["source"]), names, f"cell {position}")


def run_cell(source: str, names: dict[str, Any], place: str) -> list[Output]:
    """Runs one cell and returns its outputs."""
    tree, printed = ast.parse(source, place), io.StringIO()
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, place, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), place, "eval"), names)
    outputs: list[Output] = [{"output_type": "stream", "name": "stdout", "text": printed.getvalue()}]
    if value is not None and not source.rstrip().endswith(";"):
        outputs.append({"output_type": "execute_result", "data": mime_bundle(value)})
    return [*(one for one in outputs if one.get("text") != ""), *_pyplot_figures()]


def mime_bundle(value: object) -> dict[str, str]:
    """Returns the value in each format that it offers."""
    found = {"text/plain": repr(value)}
    if hasattr(value, "_repr_png_") and (picture := value._repr_png_()) is not None:
        found["image/png"] = base64.b64encode(picture).decode()
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()) is not None:
        found["text/html"] = html
    return found


def _pyplot_figures() -> list[Output]:
    """Returns the figures that the cell made with pyplot, and closes them."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    from matplotlib import pyplot

    found: list[Output] = []
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png")
        found.append(
            {"output_type": "display_data", "data": {"image/png": base64.b64encode(picture.getvalue()).decode()}}
        )
    pyplot.close("all")
    return found


def main() -> None:
    """Runs the notebook of the first argument and writes it with its outputs to the second."""
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    run_notebook(content)
    Path(sys.argv[2]).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
