"""User errors and their messages: tests/bad_input.yml, and here the cases that YAML cannot hold.

Every case exits with 2 within a second, changes no file, and prints exactly the text of the table.
"""

from __future__ import annotations

import importlib
import io
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SECONDS = 1.0
"""Maximum CPU time of an error after imports."""

SPACE = """\
study: small
base: spikformer/digits
fixed: {distort: false}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 3.0]}
budget: {trials: 5, epochs: 4}
"""
TRAIN = "dataset: digits\nmodel: spikformer_cifar\nepochs: 3\n"
CASES: dict[str, list[dict[str, str]]] = yaml.safe_load((ROOT / "tests" / "bad_input.yml").read_text(encoding="utf-8"))

# ------------------------------------------------------------------------------------------- any YAML file

FILES: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "x.yml:1: is empty"),
    "only comments": (b"# nothing\n", "x.yml:1: is empty"),
    "a list": (b"- a\n- b\n", "x.yml:1: must consist of `key: value` lines (got a list)"),
    "one word": (b"words\n", "x.yml:1: must consist of `key: value` lines (got one value)"),
    "equals signs": (b"lr = 3\n", "x.yml:1: must consist of `key: value` lines (got one value)"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "x.yml:1: not UTF-8 text (byte 0). Save it as UTF-8"),
    "Latin-1": ("a: 1\nb: é\n".encode("latin-1"), "x.yml:2: not UTF-8 text (byte 8). Save it as UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "x.yml:1: not UTF-8 text (byte 0). Save it as UTF-8"),
    "UTF-16 without a mark": (
        "a: 1\n".encode("utf-16-le"),
        "x.yml:1: contains a NUL byte. Save the file as UTF-8 text",
    ),
    "a NUL byte": (b"a: 1\nb: \0\n", "x.yml:2: contains a NUL byte. Save the file as UTF-8 text"),
    "a bell": (b"a: 1\nb: \x07\n", "x.yml:2: contains a character that YAML does not allow (code 7)"),
    "too large": (b"#" * 60_000, "x.yml: larger than 50000 bytes (got 60000); is it the right file?"),
    "a tab": (b"a:\n\tb: 1\n", "x.yml:2: not YAML: tabs are not allowed as indentation; use spaces"),
    "two documents": (
        b"a: 1\n---\nb: 2\n",
        "x.yml:2: not YAML: a second document starts here (---); one file holds one",
    ),
    "text after the end": (
        b"a: 1\n...\nb: 2\n",
        "x.yml:3: not YAML: wrong indentation, or text after the end...",
    ),
    "no space after the colon": (
        b"a: 1\nb:2\n",
        "x.yml:3: not YAML: must be `key: value`; the `: ` is missing here...",
    ),
    "two colons": (b"a: b: c\n", "x.yml:1: not YAML: unexpected `: `, or wrong indentation. Text that contains..."),
    "wrong indentation": (
        b"a:\n    b: 1\n  c: 2\n",
        "x.yml:3: not YAML: wrong indentation: keys of one level start...",
    ),
    "an open bracket": (
        b"a: [1, 2\nb: 3\n",
        "x.yml:2: not YAML: a comma is missing, or the bracket that opens in line 1 is not...",
    ),
    "an open quote": (b"a: 'x\nb: 3\n", "x.yml:3: not YAML: the quote that opens in line 1 is not closed"),
    "an escape": (
        b'a: "C:\\data"\n',
        "x.yml:1: not YAML: a backslash in double quotes starts an escape; use single...",
    ),
    "an at sign": (b"a: @x\n", "x.yml:1: not YAML: a value may not start with @ without quotes"),
    "a per cent sign": (b"a: %x\n", "x.yml:1: not YAML: a value may not start with % without quotes"),
    "a python tag": (
        b"a: !!python/object/apply:os.system [id]\n",
        "x.yml:1: tags are not allowed (got tag:yaml.org,...",
    ),
    "a tag of the core": (
        b"a: !!str 3\n",
        "x.yml:1: tags are not allowed (got tag:yaml.org,2002:str). Remove it; quoted...",
    ),
    "an anchor": (b"a: &x 1\nb: *x\n", "x.yml:1: anchors and aliases are not allowed; write the value out"),
    "an alias": (b"a: 1\nb: *x\n", "x.yml:2: anchors and aliases are not allowed; write the value out"),
    "a bomb": (
        b"a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "x.yml:1: anchors and aliases are not allowed; write the...",
    ),
    "deep lists": (b"a: " + b"[" * 2000, "x.yml:1: nested deeper than 32"),
    "deep mappings": (b"a: " + b"{b: " * 2000, "x.yml:1: nested deeper than 32"),
    "a list as a key": (b"? [a]\n: 1\n", "x.yml:1: a key must be a plain word..."),
}

# ------------------------------------------------------------------------------------------- train files

TRAIN_FILES: dict[str, tuple[str, str]] = {
    "no model": (
        "dataset: digits\nepochs: 3\n",
        "x.yml:1: model: missing; write for instance `model: spikformer_cifar`",
    ),
    "no data set": (
        "model: spikformer_cifar\nepochs: 3\n",
        "x.yml:1: dataset: missing; write for instance `dataset: digits`",
    ),
    "no epochs": (
        "dataset: digits\nmodel: spikformer_cifar\n",
        "x.yml:1: epochs: missing; write for instance `epochs: 20`",
    ),
    "unknown names": (
        "dataset: digit\nmodel: spikformer_cifer\nepochs: 0\n",
        "x.yml:1: dataset: unknown data set (got 'digit'). Known: cifar10, cifar100, cifar10_dvs, cub200, digits, "
        "digits_dvs, dvs128_gesture, es_imagenet, fashion_mnist, fgvc_aircraft, flowers102, hardvs, imagefolder, "
        "imagenet, mnist, n_caltech101, n_mnist, psmnist, scifar10, shd, smnist, stanford_cars, stanford_dogs, "
        "tiny_imagenet. Did you mean digits?\n"
        "x.yml:2: model: unknown model (got 'spikformer_cifer'). Known: ...",
    ),
    "a space file": (SPACE, "x.yml:5: is a space file, which is searched (python -m search.run), not a train file"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a folder with valid files and damaged studies the current one."""
    (tmp_path / "good.yml").write_text(SPACE)
    (tmp_path / "train.yml").write_text(TRAIN)
    (tmp_path / "twice.yml").write_text("lr: 1\nlr: 2\nstepp: 3\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "garbage", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "garbage" / "study.db").write_bytes(b"no database" * 500)
    with sqlite3.connect(tmp_path / "runs" / "other" / "study.db") as database:
        database.execute("CREATE TABLE numbers (n INTEGER)")
    database.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


RunCommand = Callable[..., tuple[int, str]]


def timed(main: Callable[[list[str]], int], arguments: Sequence[str]) -> tuple[Any, float]:
    """Returns the exit code of a command and its CPU seconds."""
    started = time.process_time()
    try:
        code: Any = main(list(arguments))
    except SystemExit as exit:
        code = exit.code
    return code, time.process_time() - started


@pytest.fixture
def run_command(here: Path, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Runs a command in this process; returns its exit code and its errors. Fails if it is slow or changes a file."""

    def run(module: str, *arguments: str) -> tuple[int, str]:
        main = importlib.import_module(module).main
        before = {path: path.lstat().st_mtime_ns for path in here.rglob("*") if "__pycache__" not in path.parts}
        code, seconds = timed(main, arguments)
        if seconds >= SECONDS:  # the first call may import a module, or be interrupted by a garbage collection
            capsys.readouterr()
            code, seconds = timed(main, arguments)
        assert seconds < SECONDS
        assert {p: p.lstat().st_mtime_ns for p in here.rglob("*") if "__pycache__" not in p.parts} == before
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err.rstrip("\n")

    return run


def check(result: tuple[int, str], expected: str) -> None:
    code, printed = result
    assert "Traceback" not in printed
    if expected.endswith("..."):
        assert printed[: len(expected) - 3] == expected[:-3]
    else:
        assert printed == expected
    assert code == 2


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    """Imports what commands import at first use, so that it does not count; the processes below measure it."""
    for name in (
        "optuna",
        "sqlalchemy",
        "torch",
        "trainers.data.sources",
        "search.display.dashboard",
        "search.simulation.study_curves",
        "rich.live",
    ):
        importlib.import_module(name)


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize(
    "command", [("search.run", "x.yml"), ("trainers.run", "--config", "x.yml")], ids=["space", "train"]
)
def test_a_file_that_is_not_strict_yaml(
    run_command: RunCommand, command: tuple[str, ...], content: tuple[bytes, str]
) -> None:
    Path("x.yml").write_bytes(content[0])
    check(run_command(*command), content[1])


def cases(part: str, *keys: str) -> list[object]:
    """Returns the rows of a part of the table, each with a readable id."""
    rows = CASES[part]
    return [pytest.param(*(row[key] for key in keys), id=f"{i}-{row[keys[-2]]:.50}") for i, row in enumerate(rows)]


@pytest.mark.parametrize(("lines", "expected"), cases("train", "lines", "says"))
def test_a_train_file_with_a_wrong_line(run_command: RunCommand, lines: str, expected: str) -> None:
    Path("x.yml").write_text(f"{TRAIN}{lines}\n")
    check(run_command("trainers.run", "--config", "x.yml"), expected)


def test_twenty_of_many_errors_are_listed_and_the_others_counted(run_command: RunCommand) -> None:
    Path("x.yml").write_text(TRAIN + "".join(f"key{i}: 1\n" for i in range(25)))
    _, printed = run_command("trainers.run", "--config", "x.yml")
    assert [line.split(" ")[1] for line in printed.splitlines()] == [*(f"key{i}:" for i in range(20)), "and"]
    assert printed.endswith("x.yml: and 5 more")


@pytest.mark.parametrize(("text", "expected"), TRAIN_FILES.values(), ids=TRAIN_FILES)
def test_a_file_that_is_not_a_train_file(run_command: RunCommand, text: str, expected: str) -> None:
    Path("x.yml").write_text(text)
    check(run_command("trainers.run", "--config", "x.yml"), expected)


@pytest.mark.parametrize(("old", "new", "expected"), cases("space", "for", "put", "says"))
def test_a_wrong_space_file(run_command: RunCommand, old: str, new: str, expected: str) -> None:
    assert old == "all" or old in SPACE
    text = TRAIN if new == "a train file" else new
    Path("x.yml").write_text(text if old == "all" else SPACE.replace(old, text, 1))
    check(run_command("search.run", "x.yml"), expected)


@pytest.mark.parametrize(("line", "expected"), cases("commands", "type", "says"))
def test_a_wrong_command_line(run_command: RunCommand, line: str, expected: str) -> None:
    check(run_command(*line.split(" ")), expected)


def test_the_table_has_at_least_250_cases() -> None:
    assert 2 * len(FILES) + len(TRAIN_FILES) + sum(map(len, CASES.values())) >= 250


QUICK = [
    "search.run x.yml",
    "search.run x.yml --trials 0",
    "search.stop runs/none",
    "search.add runs/none x.yml",
    "trainers.run --config x.yml",
    "trainers.run --config train.yml --resume",
    "trainers.run --config train.yml --eval none.pt",
]


@pytest.mark.parametrize("line", QUICK)
def test_an_error_is_reported_before_slow_imports(here: Path, line: str) -> None:
    Path("x.yml").write_text(SPACE.replace("1.1", "0.5"))
    module, *arguments = line.split(" ")
    code = (
        f"import sys, time; from {module} import main; code = main({arguments!r})\n"
        "assert not {'torch', 'ray', 'mlflow', 'optuna'} & sys.modules.keys(), sorted(sys.modules)\n"
        f"assert time.process_time() < {SECONDS}\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
                          text=True, capture_output=True)  # fmt: skip
    assert done.returncode == 2, done.stderr
