"""Commands and Python code of the README and the docs. All are parsed as their programs parse them. Fast ones run on
studies of synthetic results, and searches run with --dry-run. External programs must have the options. Commands that
take minutes run in the slow tests.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from config.errors import ConfigError
from search.space import reader
from search.storage.database import open_storage
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/decisions/*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(python -m [^`]+|make [\w-]+|ray [^`]+|mlflow [^`]+)`")
PROGRAMS = ("python", "make", "ray", "mlflow")
RUN = ("search.status", "search.init", "search.schema", "search.stop", "search.add", "search.sync", "results.export")
"""Modules whose commands take seconds on a small study, and run unchanged."""

STUDIES = {"quickstart": "quickstart.yml", "spikformer_cifar10": "spikformer_cifar.yml"}


@dataclass(frozen=True)
class Command:
    """A command and its page."""

    page: str
    words: tuple[str, ...]
    is_whole: bool
    """Whether it is complete; inline ones may only name a program."""

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"

    @property
    def module(self) -> str:
        return self.words[2] if self.words[0] == "python" else ""

    @property
    def arguments(self) -> list[str]:
        return list(self.words[3:])


def commands() -> Iterator[Command]:
    for page in PAGES:
        text = page.read_text()
        for language, block in FENCED.findall(text):
            for line in block.splitlines() if language in ("", "sh", "bash", "console") else ():
                if line.split(" ")[0] in PROGRAMS:
                    yield Command(page.name, _words(line), True)
        for found in INLINE.findall(FENCED.sub("", text)):
            yield Command(page.name, _words(found.replace("\n", " ")), False)


def _words(line: str) -> tuple[str, ...]:
    words = shlex.split(line, comments=True)
    return tuple(words[: words.index(">")] if ">" in words else words)


COMMANDS = list(dict.fromkeys(commands()))
OURS = [c for c in COMMANDS if c.words[0] == "python"]


def test_the_pages_hold_commands() -> None:
    assert len(OURS) > 30
    assert {"README.md", "tutorial.md", "first-search.md", "adding.md"} <= {c.page for c in COMMANDS if c.is_whole}


@pytest.mark.parametrize("command", OURS, ids=str)
def test_a_command_names_an_existing_module_and_its_options(command: Command) -> None:
    assert importlib.util.find_spec(command.module) is not None
    if command.module.split(".")[0] not in ("search", "trainers", "results", "models"):
        return
    parser = getattr(importlib.import_module(command.module), "_parser", lambda: None)()
    if parser is not None and (command.is_whole or command.arguments):
        known = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in command.arguments if word.startswith("--")} <= known
        if command.is_whole:
            parser.parse_args(command.arguments)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=str)
def test_a_make_target_is_in_the_makefile(command: Command) -> None:
    assert f"\n{command.words[1]}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] in ("ray", "mlflow")], ids=str)
def test_an_external_program_has_the_options(command: Command) -> None:
    assert all(word in help_of(*command.words[:2]) for word in command.words[2:] if word.startswith("--"))


@cache
def help_of(program: str, subcommand: str) -> str:
    path = Path(sys.executable).parent / program
    return subprocess.run([path, subcommand, "--help"], text=True, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of synthetic results, as searches over two shipped spaces would write them."""
    out = tmp_path_factory.mktemp("made") / "runs"
    for name, file in STUDIES.items():
        folder = out / name
        folder.mkdir(parents=True)
        space = reader.load(str(ROOT / "spaces" / file), ["start_with=[]", "budget.trials=14", "scheduler.mode=stop"])
        study = Study(space, folder, open_storage(folder))
        (folder / "space.yml").write_text(space.yaml())
        for number in range(13):
            task = study.next_task()
            assert task is not None
            for epoch in range(1, task.config["epochs"] + 1 if number < 2 else 2):
                study.on_result(task.number, _epoch(epoch, 92.0 + number / 2, 0.1 + number / 50, task.config["step"]))
        study.close()
    return out


def _epoch(number: int, accuracy: float, rate: float, step: int) -> EpochMetrics:
    metrics = {"accuracy": accuracy, "loss": 0.5, "spike_rate": rate, "spikes": 1e3 * rate, "synops": 1e6 * rate}
    metrics |= {"macs": 1e4, "energy_mj": 1e-3 * rate, "params_m": 1.0, "images_per_s": 9.0, "peak_mem_gib": 0.1}
    read_outs = [{"read_step": t, "chance": 13.0, **metrics} for t in range(1, step + 1)]
    return EpochMetrics(number, metrics, read_outs, [])


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the checkout, with those studies in runs/, as the current folder."""
    shutil.copytree(made, tmp_path / "runs")
    shutil.copytree(ROOT / "spaces", tmp_path / "spaces")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [c for c in OURS if c.is_whole and c.module in RUN], ids=str)
def test_a_fast_command_runs(command: Command, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = importlib.import_module(command.module).main(command.arguments)
    error = capsys.readouterr().err
    assert code == 0 or (code == 2 and "no search runs there" in error), error


SEARCHES = [c for c in OURS if c.is_whole and c.module == "search.run" and "--import" not in c.arguments]


def is_quick(command: Command) -> bool:
    path = ROOT / command.arguments[0]
    return not path.exists() or "base: spikformer/digits" in path.read_text()


LOOKS = [
    pytest.param(c, id=str(c), marks=[] if is_quick(c) else [pytest.mark.slow])
    for c in SEARCHES
    if "--finish" not in c.arguments
]


@pytest.mark.parametrize("command", SEARCHES, ids=str)
def test_a_search_names_a_valid_space_and_valid_values(command: Command, workspace: Path) -> None:
    write_if_missing(command.arguments[0])
    run = importlib.import_module("search.run")
    assert run.load_space(run._parser().parse_args(command.arguments)).study


@pytest.mark.parametrize("command", LOOKS)
def test_a_dry_run_of_a_search_runs(command: Command, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_if_missing(command.arguments[0])
    arguments = [*(word for word in command.arguments if word != "--dry-run"), "--dry-run"]
    assert importlib.import_module("search.run").main(arguments) == 0, capsys.readouterr().err
    assert "the search: about" in capsys.readouterr().out


def write_if_missing(space: str) -> None:
    """Writes a space file that an earlier command of the page writes."""
    if not Path(space).exists():
        assert importlib.import_module("search.init").main([space, "--base", "spikformer/digits"]) == 0


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("*.yml")), ids=lambda path: path.stem)
def test_every_shipped_space_names_files_and_flags_that_exist(path: Path) -> None:
    for found in re.findall(r"--set (\S+)", path.read_text()):
        try:
            reader.load(str(path), [found.replace("...", "data")])
        except ConfigError as error:
            if "unknown data set" not in str(error):
                raise


PYTHON = [(p.name, block) for p in PAGES for language, block in FENCED.findall(p.read_text()) if language == "python"]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[f"{page}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_in_the_pages_runs(page: str, block: str, workspace: Path) -> None:
    code = compile(block, page, "exec")
    if "results.load" in block:
        exec(code, {})


@pytest.mark.slow
@pytest.mark.ray
def test_the_tutorial_from_the_first_command_to_the_last(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "spaces", tmp_path / "spaces")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for command in (c for c in OURS if c.page == "tutorial.md" and c.is_whole):
        words = [sys.executable, *command.words[1:]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
        stops_nothing = command.module == "search.stop" and done.returncode in (0, 2)
        assert done.returncode == 0 or stops_nothing, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "configs" / "spikformer" / "digits.yml").exists()
