"""Notebooks: valid Python without outputs; they run from top to bottom and show figures, tables and progress."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PACKAGES = ("config", "search", "spaces", "models", "trainers", "results", "examples", "tests/support")


def code_cells(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_python_and_holds_no_outputs(path: Path) -> None:
    cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
    for position, cell in enumerate(cells):
        compile("".join(cell["source"]), f"{path.name}[{position}]", "exec")
    assert all(not cell.get("outputs") for cell in cells)


def test_a_cell_shows_its_last_expression_in_the_formats_it_offers() -> None:
    class Shown:
        def _repr_html_(self) -> str:
            return "<b>1</b>"

        def __repr__(self) -> str:
            return "Shown"

    names: dict[str, Any] = {"Shown": Shown}
    printed, shown = notebook.run_cell("print('a')\nx = Shown()\nx", names, "cell")
    assert printed == {"output_type": "stream", "name": "stdout", "text": "a\n"}
    assert shown["data"] == {"text/plain": "Shown", "text/html": "<b>1</b>"}
    assert notebook.run_cell("x;", names, "cell") == notebook.run_cell("y = x", names, "cell") == []


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.name)
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The code cells of a notebook after a run in a copy of the checkout."""
    folder = tmp_path_factory.mktemp("notebook")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "tests.support.notebook", str(request.param), "executed.ipynb"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return code_cells(json.loads((folder / "executed.ipynb").read_text(encoding="utf-8")))


def shown(cells: list[dict[str, Any]], kind: str) -> list[str]:
    """Returns all outputs of one format."""
    outputs = [output for cell in cells for output in cell["outputs"]]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.slow
@pytest.mark.ray
def test_a_notebook_shows_its_figures_as_pictures(executed: list[dict[str, Any]]) -> None:
    assert len(shown(executed, "image/png")) == 4
    as_text = [
        data
        for cell in executed
        for output in cell["outputs"]
        if "Figure" in (data := output.get("data", {})).get("text/plain", "") and "image/png" not in data
    ]
    assert as_text == []


@pytest.mark.slow
@pytest.mark.ray
def test_a_notebook_shows_a_study_and_its_trials_as_tables(executed: list[dict[str, Any]]) -> None:
    summary, trials = shown(executed, "text/html")
    assert "study notebook: 8 trials" in summary
    assert trials.count("<tr") >= 8
    assert all(len(text) < 5000 for text in shown(executed, "text/plain"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_notebook_shows_progress_in_one_line(executed: list[dict[str, Any]]) -> None:
    text = executed[0]["outputs"][0]["text"]
    progress = [line for line in text.split("\n") if "\rtrials " in line]
    assert len(progress) == 1
    assert progress[0].count("\r") > 3
    assert "trials 8 of 8: " in progress[0].split("\r")[-1]
    assert len(text.split("\n")) < 40
