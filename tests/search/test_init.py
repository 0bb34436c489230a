"""The generated space file: valid, commented, and never written over another."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from search import init, run
from search.space import reader
from trainers.config import DATASETS, RECIPES, load

ALL = ",".join(init.GROUPS)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def is_known(path: Path) -> bool:
    line = next(line for line in path.read_text().splitlines() if line.startswith("dataset: "))
    return line.removeprefix("dataset: ").strip() in DATASETS


@pytest.mark.parametrize(
    "path", [p for p in sorted(RECIPES.glob("*/*.yml")) if is_known(p)], ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_a_space_from_any_recipe_is_valid_and_keeps_its_values(path: Path, tmp_path: Path) -> None:
    name = f"{path.parent.name}/{path.stem}"
    assert init.main([str(tmp_path / "my.yml"), "--base", name, "--search", ALL, "--epochs", "20"]) == 0
    space = reader.load(str(tmp_path / "my.yml"))
    assert space.study == "my"
    assert space.budget.epochs == 20
    assert space.example.model == load(path).model


def test_missing_options_take_their_defaults_and_the_dry_run_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init.main([str(tmp_path / "my.yml")]) == 0
    assert f"python -m search.run {tmp_path / 'my.yml'} --dry-run" in capsys.readouterr().out
    assert run.main([str(tmp_path / "my.yml"), "--dry-run"]) == 0
    assert "start with spikformer/digits: tau=2.0" in capsys.readouterr().out


def test_the_command_asks_for_missing_options_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["spikformer/digits", "timestep", "accuracy,synops", "5", "3", ""])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert init.main([str(tmp_path / "asked.yml")]) == 0
    space = reader.load(str(tmp_path / "asked.yml"))
    assert (space.searched_keys(), list(space.objectives)) == (["step"], ["accuracy", "synops"])
    assert (space.budget.trials, space.budget.epochs) == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["x.yml", "--base", "spikformer/none"], "--base spikformer/none: no such recipe or file. There are: "),
        (["x.yml", "--search", "neurons"], "--search: neurons is not one of neuron, node"),
        (["x.yml", "--objectives", "acc"], "--objectives: acc is not one of accuracy"),
        (["a b.yml"], "the name may hold letters"),
        (["there.yml"], "there.yml: exists; give another name, or --force"),
        (["x.yml", "--trials", "-3"], "--trials: must be a whole number >= 1 (got '-3')"),
    ],
)
def test_an_error_is_reported_in_one_sentence_and_nothing_is_written(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yml").write_text("mine")
    assert init.main(arguments) == 2
    assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.yml"]
    assert (tmp_path / "there.yml").read_text() == "mine"
