"""Allowed imports between packages, checked in the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("config", "search", "models", "trainers", "results")
MAY_IMPORT = {
    "config": {"config"},
    "models": {"config", "models"},
    "results": {"config", "results"},
    "trainers": {"config", "models", "trainers"},
    "search": {"config", "models", "trainers", "results", "search"},
}
ROOMS = {
    "space": set(),
    "algorithm": {"space"},
    "storage": {"algorithm", "space"},
    "simulation": {"algorithm", "space"},
    "tracking": set(),
    "display": {"storage", "algorithm"},
    "execution": {"storage", "algorithm", "space"},
    "dry_run": {"execution", "display", "storage", "algorithm", "space"},
    "confirmation": {"execution", "storage", "algorithm", "space"},
}
"""Rooms of `search` that a room may import, beside `search.messages`."""
ONLY_IN = {
    "ray": {"search/execution", "trainers/distributed"},
    "mlflow": {"search/tracking", "trainers/mlflow_store.py", "results/from_mlflow.py"},
    "optuna": {
        *("search/storage", "search/algorithm/samplers.py"),
        *("results/from_optuna.py", "results/analysis/importance.py"),
    },
}
FILES = sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(path: Path, top_only: bool = False) -> Iterator[str]:
    """Yields the modules that a file imports, at its top or anywhere; those for type checkers do not count."""
    tree = ast.parse((ROOT / path).read_text())
    for node in tree.body if top_only else _walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield child
            yield from _walk(child)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    ours = {name.split(".")[0] for name in imported(path)} & set(OURS)
    assert ours <= MAY_IMPORT[path.parts[0]]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[0] == "search" and len(path.parts) == 3], ids=str
)
def test_rooms_of_the_search_import_the_rooms_below_them_only(path: Path) -> None:
    names = {name.split(".")[1] for name in imported(path) if name.startswith("search.")}
    assert names - {path.parts[1], "messages"} <= ROOMS[path.parts[1]]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_engines_are_imported_in_their_adapters_only(path: Path) -> None:
    for engine, allowed in ONLY_IN.items():
        if engine in {name.split(".")[0] for name in imported(path)}:
            assert any(path.is_relative_to(one) for one in allowed)


def test_decisions_open_no_files_read_no_clock_and_build_no_models() -> None:
    impure = {"io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "time", "torch"}
    impure |= {"models", "search.space.feasibility", "search.space.initial_configs", "search.space.reader"}
    for path in (path for path in FILES if path.is_relative_to("search/algorithm")):
        assert impure.isdisjoint(imported(path))
        assert all(getattr(node, "id", None) != "open" for node in ast.walk(ast.parse((ROOT / path).read_text())))


def test_names_are_known_without_torch() -> None:
    code = "import sys, models, models.config, trainers.config, search.space.reader; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_driver_starts_without_modules_that_only_training_needs() -> None:
    heavy = {"torch", "timm", "torchvision", "spikingjelly", "sklearn", "mlflow", "matplotlib"}
    code = f"import sys, search.run, search.storage.study, search.execution.tuner; found = sys.modules.keys() & {heavy}"
    subprocess.run([sys.executable, "-c", f"{code}; assert not found, found"], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("search.storage.lock", {"search.driver", "pydantic", "numpy"}),
        ("search.stop", {"search.driver", "pydantic"}),
        ("results", {"pydantic", "optuna", "mlflow", "matplotlib", "torch", "ray"}),
    ],
)
def test_small_modules_import_little(module: str, unneeded: set[str]) -> None:
    code = f"import sys, {module}; found = sys.modules.keys() & {unneeded}; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_loss_is_propagated_backwards_in_one_place() -> None:
    calls = [str(path) for path in FILES if ".backward()" in (ROOT / path).read_text()]
    assert calls == ["trainers/loop.py"]
