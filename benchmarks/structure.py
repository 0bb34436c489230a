"""Structure of the source code, read from its imports and definitions: `python -m benchmarks.structure`.

For each package: modules at its top, its rooms (sub-packages) with their sizes, the arrows between them, the floors
(longest chain of imports) and circles of rooms. Then import cycles between modules, imports for type checking and
inside functions included, and the sizes of modules and functions. Exits with 1 if there is a cycle or a circle.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("config", "models", "trainers", "results", "search")

Graph = dict[str, set[str]]


def modules(root: Path = ROOT, packages: Sequence[str] = PACKAGES) -> dict[str, Path]:
    """Returns the file of each module by its dotted name; a package stands for its `__init__`."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def import_graph(known: Mapping[str, Path]) -> Graph:
    """Returns the modules of `known` that each module imports anywhere in its file."""
    return {name: _imported(path, known) - {name} for name, path in known.items()}


def _imported(path: Path, known: Mapping[str, Path]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & known.keys()) or {str(node.module)}
    return found & known.keys()


def room_of(module: str) -> str:
    """Returns the child of a package that a module belongs to: a room, or the module itself."""
    return module.split(".")[1] if "." in module else ""


def room_graph(graph: Graph, package: str) -> Graph:
    """Returns the imports between the rooms and top-level modules of a package."""
    inside = [name for name in graph if name.startswith(f"{package}.")]
    rooms: Graph = {room_of(name): set() for name in inside}
    for name in inside:
        targets = {room_of(other) for other in graph[name] if other.startswith(f"{package}.")}
        rooms[room_of(name)] |= targets - {room_of(name)}
    return rooms


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Returns one cycle of a graph; an empty list if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def floors(graph: Graph) -> dict[str, int]:
    """Returns the floor of each node of an acyclic graph: 1 if it imports no other node."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[other] for other in graph[name]), default=0)
    return found


def sizes(known: Mapping[str, Path]) -> dict[str, list[int]]:
    """Returns the sorted lines of modules and functions, and the parameters of functions."""
    lines, functions, parameters = [], [], []
    for path in known.values():
        text = path.read_text(encoding="utf-8")
        lines.append(text.count("\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(int(node.end_lineno or 0) - node.lineno + 1)
                arguments = node.args
                count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
                parameters.append(count - ([a.arg for a in arguments.args[:1]] in (["self"], ["cls"])))
    return {"module lines": sorted(lines), "function lines": sorted(functions), "parameters": sorted(parameters)}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the structure and returns 1 if there is a cycle."""
    argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__).parse_args(argv)
    known = modules()
    graph = import_graph(known)
    circles = [cycle(graph)]
    for package in PACKAGES:
        rooms = room_graph(graph, package)
        circles.append(cycle(rooms))
        top = [name for name in rooms if f"{package}.{name}" in known and known[f"{package}.{name}"].stem == name]
        arrows = sum(map(len, rooms.values()))
        height = max(floors(rooms).values()) if not circles[-1] else "circular"
        print(f"{package}: {len(top)} modules at its top, {arrows} arrows, {height} floors")
        for room in sorted(rooms.keys() - set(top)):
            print(f"  {room}: {sum(room_of(name) == room and name.startswith(package) for name in known)} modules")
    for circle in filter(None, circles):
        print(f"cycle: {' -> '.join(circle)}")
    print(f"{len(known)} modules, {sum(sizes(known)['module lines'])} lines")
    for name, values in sizes(known).items():
        print(f"{name}: median {values[len(values) // 2]}, p90 {values[len(values) * 9 // 10]}, max {values[-1]}")
    return int(any(circles))


if __name__ == "__main__":
    sys.exit(main())
