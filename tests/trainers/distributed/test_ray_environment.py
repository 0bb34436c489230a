"""Paths with which a local Ray starts: of the interpreter, and of temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.cli import ENVIRONMENT, CommandError
from trainers.distributed import ray_environment

ROOT = Path(__file__).parents[3]
ACTOR = """
import ray, sys
from trainers.distributed import ray_environment

@ray.remote(num_cpus=0, runtime_env={"env_vars": {"A": "1"}})  # as Tune's actors have it
class Actor:
    def executable(self):
        return sys.executable

ray_environment.start(num_cpus=1, object_store_memory=80 * 2**20)
print("worker", ray.get(Actor.remote().executable.remote(), timeout=60))
"""


@pytest.fixture
def strange_folder() -> Iterator[Path]:
    """A short path with a space, brackets and a quote."""
    with tempfile.TemporaryDirectory(prefix="it's a (b) [1] ", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.ray
def test_a_worker_starts_if_the_paths_of_python_and_of_temporary_files_hold_spaces_and_brackets(
    strange_folder: Path,
) -> None:
    (strange_folder / "venv").symlink_to(sys.prefix, target_is_directory=True)
    python = strange_folder / "venv" / Path(sys.executable).relative_to(sys.prefix)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(strange_folder)}
    environment.pop("RAY_TMPDIR", None)
    done = subprocess.run(
        [python, "-c", ACTOR], env=environment, cwd=strange_folder, text=True, capture_output=True, check=False
    )
    assert f"worker {python}\n" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/python3", {}),
        ("/a b/python", {"py_executable": "'/a b/python'"}),
        ("/a[1]/python", {"py_executable": "'/a[1]/python'"}),
        ("/it's/$HOME/python", {"py_executable": "'/it'\"'\"'s/$HOME/python'"}),
    ],
)
def test_an_interpreter_is_named_in_quotes_only_where_a_shell_needs_them(
    path: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", path)
    assert ray_environment.interpreter() == expected


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_too_long_a_folder_for_rays_sockets_is_refused_with_the_way_out(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/" + 59 * "x")
    with pytest.raises(CommandError, match=rf"^{variable}: must be a path of at most \d+ bytes.*RAY_TMPDIR=/tmp") as e:
        ray_environment.check_temporary_folder()
    assert e.value.code == ENVIRONMENT
    longest = int(str(e.value).split("at most ")[1].split()[0])
    monkeypatch.setenv(variable, "/" + (longest - 1) * "x")
    ray_environment.check_temporary_folder()
    monkeypatch.setenv(variable, "/" + (longest // 2) * "é" + "xx")  # bytes count, not characters
    with pytest.raises(CommandError):
        ray_environment.check_temporary_folder()


def test_a_short_folder_for_ray_may_stand_beside_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/" + 200 * "x")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    ray_environment.check_temporary_folder()
