"""Aims of the layout: room sizes, floors, cycles, names and test files of the pure core."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import structure

ROOT = Path(__file__).parents[1]
MODULES = structure.modules()
GRAPH = structure.import_graph(MODULES)
MAX_MODULES_IN_A_ROOM = 16
MAX_FLOORS = 8
OLD_NAMES = re.compile(
    r"purse|hazard|depot|courier|lifeline|roster|own_?table|foretell|foretold|sweeper|unpickled|begin_?anew"
    r"|(?<![a-z])(guide|dice|kin|desk|deaths|draws|outlook|judge|goes_on|whom|whoever|nobody)(?![a-z])",
    re.IGNORECASE,
)
"""Names that only this project used for things that have a name in the field."""


def test_no_module_imports_itself_through_others() -> None:
    assert structure.cycle(GRAPH) == []


@pytest.mark.parametrize("package", structure.PACKAGES)
def test_rooms_import_one_way_and_on_few_floors(package: str) -> None:
    rooms = structure.room_graph(GRAPH, package)
    assert structure.cycle(rooms) == []
    assert max(structure.floors(rooms).values()) <= MAX_FLOORS


def test_rooms_are_small() -> None:
    folders = [path.parent for path in MODULES.values()]
    sizes = {str(folder.relative_to(ROOT)): folders.count(folder) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULES_IN_A_ROOM} == {}


def test_the_top_of_search_holds_commands_and_three_more_modules() -> None:
    top = {path.stem for path in (ROOT / "search").glob("*.py")} - {"__init__"}
    commands = {name for name in top if "def main(" in (ROOT / "search" / f"{name}.py").read_text()}
    assert len(top - commands) <= 3


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("search.algorithm.")])
def test_every_module_of_the_pure_core_has_a_test_file(name: str) -> None:
    package, _, module = name.rpartition(".")
    assert (ROOT / "tests" / Path(*package.split(".")) / f"test_{module}.py").is_file()


def identifiers(path: Path) -> Iterator[str]:
    """Yields the names that a file defines or uses: its own, variables, attributes, parameters and keywords."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        yield from (str(getattr(node, field)) for field in ("id", "attr", "name", "arg") if hasattr(node, field))


@pytest.mark.parametrize("folder", [*structure.PACKAGES, "tests", "benchmarks", "examples"])
def test_the_old_private_names_are_gone(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    found = {name for path in files for name in identifiers(path) if OLD_NAMES.search(name)}
    assert found == set()
