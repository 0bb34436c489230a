from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.step_names import SPELLINGS
from results import load
from results.export import main, train_config


def read_back(*paths: Path) -> dict[str, Any]:
    """Reads exported files, with the benchmark's spellings replaced by ours."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= yaml.safe_load(path.read_text(encoding="utf-8"))
    for tables in SPELLINGS.values():
        for key, table in tables.items():
            back = {theirs: ours for ours, theirs in table.items()}
            if key in merged:
                merged[key] = back.get(merged[key], merged[key])
    return merged


def trained(folder: Path, number: int) -> dict[str, Any]:
    config = load(folder).trial(number).config
    return {key: value for key, value in config.items() if value is not None and key != "read_step"}


def test_one_pick_is_the_train_file_of_its_trial(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study_folder), "--pick", "trial:0"]) == 0
    path = study_folder / "configs" / "spikformer" / "cifar10.yml"
    assert read_back(path) == trained(study_folder, 0)
    assert capsys.readouterr().out == f"wrote {path}\ntrain it: python -m trainers.run --config {path}\n"


def test_the_header_names_the_source_of_the_file(study_folder: Path) -> None:
    main([str(study_folder), "--pick", "trial:0"])
    header = (study_folder / "configs" / "spikformer" / "cifar10.yml").read_text().split("\n\n")[0]
    for words in ("study quickstart, trial t0000", "3 of 3 epochs", "seed 42, search seed 7", "after 4 of 4 steps"):
        assert words in header
    for words in ("accuracy 90.1", "spike_rate 0.14", "torch 2.13.0", "python -m trainers.run --config", "sha256"):
        assert words in header


def test_the_same_pick_gives_the_same_bytes(study_folder: Path) -> None:
    digests = set()
    for _ in range(2):
        main([str(study_folder), "--pick", "knee", "--force"])
        (path,) = (study_folder / "configs" / "spikformer").iterdir()
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_several_picks_carry_their_trial_and_read_out(study_folder: Path, tmp_path: Path) -> None:
    assert main([str(study_folder), "--pick", "front", "--out", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out" / "spikformer").iterdir())
    assert names == ["cifar10-t0000-r3.yml", "cifar10-t0000.yml", "cifar10-t0001-r1.yml", "cifar10-t0001.yml"]
    early = read_back(tmp_path / "out" / "spikformer" / "cifar10-t0000-r3.yml")
    assert early == {**trained(study_folder, 0), "read_step": 3}


def test_the_two_file_form_is_the_same_config_in_two_files(study_folder: Path) -> None:
    assert main([str(study_folder), "--pick", "knee", "--two-file"]) == 0
    folder = study_folder / "configs" / "spikformer"
    assert sorted(path.name for path in folder.iterdir()) == ["cifar10.yml", "train.yml"]
    assert "lr" not in yaml.safe_load((folder / "cifar10.yml").read_text())
    assert read_back(folder / "cifar10.yml", folder / "train.yml")["lr"] in (0.1 + 0.2, 1e-3)


def test_several_picks_in_two_file_form_share_their_stems(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study_folder), "--pick", "front", "--two-file"]) == 0
    folder = study_folder / "configs" / "spikformer"
    stems = sorted(path.name.removesuffix(".train.yml") for path in folder.glob("*.train.yml"))
    assert stems == ["cifar10-t0000", "cifar10-t0000-r3", "cifar10-t0001", "cifar10-t0001-r1"]
    pair = f"--model-config {folder}/cifar10-t0000.yml --train-config {folder}/cifar10-t0000.train.yml"
    assert f"train it: python -m trainers.run {pair}" in capsys.readouterr().out


def test_full_data_trains_on_everything(study_folder: Path) -> None:
    main([str(study_folder), "--pick", "trial:0", "--full-data"])
    written = read_back(study_folder / "configs" / "spikformer" / "cifar10.yml")
    assert written == {**trained(study_folder, 0), "val_fraction": 0.0}


def test_an_export_keeps_the_part_of_the_training_data_unless_it_trains_on_all(study_folder: Path) -> None:
    study = load(study_folder)
    part = {"train_images": 5000, "img_size": 16}
    study = replace(study, trials=tuple(replace(trial, config={**trial.config, **part}) for trial in study.trials))
    point = next(point for point in study.front() if point.trial == 0)
    config = train_config(study, point)
    assert config["train_images"] == 5000
    assert train_config(study, point, full_data=True) == {
        key: 0.0 if key == "val_fraction" else value for key, value in config.items() if key != "train_images"
    }


def test_a_read_step_is_written_if_it_is_below_step(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(study_folder), "--pick", "trial:0", "--read-step", "2"])
    assert read_back(study_folder / "configs" / "spikformer" / "cifar10.yml")["read_step"] == 2
    assert capsys.readouterr().err == "warning: the benchmark does not read read_step\n"


def test_nothing_is_said_of_the_benchmark_if_no_value_is_lost_there(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(study_folder), "--pick", "trial:0"])
    assert capsys.readouterr().err == ""
    main([str(study_folder), "--pick", "trial:0", "--two-file", "--force"])
    assert "warning: the benchmark does not read attn_layer, embed_layer, val_fraction" in capsys.readouterr().err


def test_the_same_export_a_second_time_changes_nothing(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main([str(study_folder), "--pick", "front"]) == 0
    assert "exists" not in capsys.readouterr().err
    assert main([str(study_folder), "--pick", "front", "--full-data"]) == 2


def test_an_existing_file_is_not_replaced_and_none_is_written(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = study_folder / "configs" / "spikformer" / "cifar10-t0001.yml"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    assert main([str(study_folder), "--pick", "front"]) == 2
    assert capsys.readouterr().err == (f"{taken}: exists already; give --force to replace it, or another --out\n")
    assert [path.name for path in taken.parent.iterdir()] == [taken.name]
    assert main([str(study_folder), "--pick", "front", "--force"]) == 0
    assert taken.read_text() != "mine"


def test_a_stopped_trial_is_exported_with_a_warning(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study_folder), "--pick", "trial:2"]) == 0
    assert "warning: trial 2 was stopped after 1 of 3 epochs\n" in capsys.readouterr().err


def test_a_warning_is_printed_once_for_any_number_of_picks(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(study_folder), "--pick", "front", "--two-file"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines))
    assert sum("step: 2" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pick", "trial:3"], "trial 3 failed (diverged: loss is nan); choose another"),
        (["--pick", "trial:99"], "there is no trial 99 in quickstart"),
        (["--pick", "trial:4"], "there is no trial 4"),
        (["--pick", "knees"], "Did you mean knee?"),
        (["--pick", "knee", "--at-least", "accuracy=92"], "accuracy >= 92; the best has 90.1"),
        (["--pick", "trial:0", "--read-step", "9"], "trial 0 has no read-out after 9 steps; it has: 1, 2, 3, 4"),
    ],
)
def test_wrong_input_prints_one_sentence_with_exit_code_2(
    study_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main([str(study_folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (study_folder / "configs").exists()


@pytest.mark.parametrize("arguments", [[], ["runs/x"], ["--pick", "knee", "--checkpoints"]])
def test_a_command_line_that_is_wrong_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_study_that_does_not_exist_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "--pick", "knee"]) == 2
    assert "no such study folder" in capsys.readouterr().err


def test_a_file_in_the_way_of_the_exports_exits_with_2(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study_folder / "configs").write_text("a file in the way")
    assert main([str(study_folder), "--pick", "knee"]) == 2
    assert capsys.readouterr().err == f"{study_folder / 'configs' / 'spikformer'}: Not a directory\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries below MLflow
def test_mlflow_gives_the_same_files(two_stores: tuple[Path, str], tmp_path: Path) -> None:
    folder, uri = two_stores
    assert main([str(folder), "--pick", "front", "--out", str(tmp_path / "a")]) == 0
    assert (
        main(["--tracking-uri", uri, "--experiment", "quickstart", "--pick", "front", "--out", str(tmp_path / "b")])
        == 0
    )
    for path in (tmp_path / "a" / "spikformer").iterdir():
        other = (tmp_path / "b" / "spikformer" / path.name).read_text()
        assert path.read_text() == other.replace(f"{tmp_path}/b/", f"{tmp_path}/a/")
