"""Shell completion: every command lists its options."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    f"{path.parent.name}.{path.stem}"
    for package in ("search", "trainers", "results")
    for path in (ROOT / package).glob("*.py")
    if 'if __name__ == "__main__"' in (text := path.read_text()) and "Parser(" in text
)
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("config", "models", "search", "trainers", "results")
    for path in (ROOT / package).rglob("__main__.py")
)
"""Commands whose `__main__` calls `main` of their module `command`."""
argcomplete = pytest.importorskip("argcomplete")


class AskedError(Exception):
    """Raised instead of ending the process."""


def test_the_catalogue_is_a_command() -> None:
    assert "models.catalogue" in PACKAGES


@pytest.mark.parametrize("command", [*MODULES, *PACKAGES])
def test_every_command_offers_completions(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(parser: argparse.ArgumentParser) -> None:
        assert parser.prog == f"python -m {command}"
        raise AskedError

    monkeypatch.setattr(argcomplete, "autocomplete", complete)
    monkeypatch.setenv("_ARGCOMPLETE", "3")
    module = importlib.import_module(f"{command}.command" if command in PACKAGES else command)
    started = ROOT / command.replace(".", "/")
    source = started / "__main__.py" if command in PACKAGES else started.with_suffix(".py")
    assert "PYTHON_ARGCOMPLETE_OK" in source.read_text()[:1024], "where argcomplete looks for it"
    with pytest.raises(AskedError):
        module.main([])


def test_a_shell_gets_the_options_of_a_search(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "argcomplete._check_module", "search.run"], cwd=ROOT, check=True)
    line = "python -m search.run --sys"
    asked = {"_ARGCOMPLETE": "3", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "told"), "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run([sys.executable, "-m", "search.run"], cwd=ROOT, env={**os.environ, **asked}, check=True)
    assert (tmp_path / "told").read_text().split() == ["--system-metrics"]
