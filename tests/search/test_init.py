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


def test_a_wrong_answer_is_explained_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "recipe": ["spikformer/digit", "spikformer/digits"],
        "what": ["neurons", "timestep"],
        "objectives": ["acc", "accuracy,loss"],
        "trials": ["many", "0", "7"],
        "epochs": ["2.5", "3"],
        "share": ["1.5", "0.25"],
    }
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answers[question.split()[0]].pop(0))
    assert init.main([str(tmp_path / "asked.yml")]) == 0
    shown = capsys.readouterr().out
    for text in (
        "no such recipe or file. Did you mean spikformer/digits?",
        "neurons is not one of",
        "Did you mean acc",
    ):
        assert text in shown
    for text in ("must be a whole number (got 'many')", "must be >= 1 (got 0)", "must be a whole number (got 2.5)"):
        assert text in shown
    assert "must be a share of one GPU, or a whole number of them (got 1.5)" in shown
    space = reader.load(str(tmp_path / "asked.yml"))
    assert (space.searched_keys(), list(space.objectives)) == (["step"], ["accuracy", "loss"])
    assert (space.budget.trials, space.budget.epochs, space.settings.resources.gpu) == (7, 3, 0.25)


def test_groups_without_a_key_of_the_model_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["size", "training"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    arguments = "--base espikeformer/imagenet_t --objectives loss --trials 3 --epochs 3 --gpu 0"
    assert init.main([str(tmp_path / "asked.yml"), *arguments.split()]) == 0
    assert "espikeformer_t has none of these keys as one value" in capsys.readouterr().out
    assert reader.load(str(tmp_path / "asked.yml")).searched_keys() == ["lr", "weight_decay"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["x.yml", "--base", "nothing"], "--base nothing: no such recipe or file. There are: "),
        (["x.yml", "--search", "neurons"], "--search: neurons is not one of neuron, node"),
        (["x.yml", "--objectives", "acc"], "--objectives: acc is not one of accuracy"),
        (["a b.yml"], "the name may hold letters"),
        (["there.yml"], "there.yml: exists; give another name, or --force"),
        (["x.yml", "--objectives", "acc"], "Did you mean accuracy?"),
        (["x.yml", "--objectives", ","], "--objectives: must name at least one of accuracy, loss"),
        (["x.yml", "--trials", "-3"], "--trials: must be >= 1 (got -3)"),
        (["x.yml", "--trials", "many"], "--trials: must be a whole number (got 'many')"),
        (["x.yml", "--trials", "1e12"], "--trials: must be a whole number (got 1000000000000.0)"),
        (["x.yml", "--epochs", "100001"], "--epochs: must be <= 100000 (got 100001)"),
        (["x.yml", "--gpu", "1.5"], "--gpu: must be a share of one GPU, or a whole number of them (got 1.5)"),
        (["x.yml", "--base", "spikformer/digit"], "--base spikformer/digit: no such recipe or file. Did you mean"),
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
