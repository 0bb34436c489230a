from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import StudyResult, hypervolume
from results.analysis.comparison import common_reference
from results.from_optuna import study_from_optuna
from results.metrics import format_number
from results.report import main
from results.reporting.comparison_page import comparison_page

EVIL = "<script>alert(1)</script>"


Write = Callable[[Path], None]


@pytest.fixture(scope="module")
def studies(make_search: Any) -> dict[str, StudyResult]:
    return {f"s{seed}": study_from_optuna(make_search(25, full=0.5, seed=seed)) for seed in range(2)}


def test_the_page_states_the_common_reference_point_and_each_hypervolume(studies: dict[str, StudyResult]) -> None:
    body = comparison_page(studies, ["runs/a", "runs/b"]).body
    reference = common_reference(studies)
    assert f"accuracy {format_number(reference['accuracy'])}, spike_rate 1" in body
    for study in studies.values():
        assert f'<td class="number">{format_number(hypervolume(study, reference))}</td>' in body
    assert "python -m results.report runs/b" in body


def test_the_page_has_fronts_hypervolumes_and_surfaces(studies: dict[str, StudyResult]) -> None:
    charts = json.loads(comparison_page(studies, ["a", "b"]).data)["charts"]
    assert charts.keys() == {"fronts", "hypervolume", "attainment"}


def test_names_with_tags_stay_text(studies: dict[str, StudyResult]) -> None:
    page = comparison_page({EVIL: studies["s0"], "b": studies["s1"]}, [EVIL, "b"])
    assert EVIL not in page.html()
    assert "<script" not in page.data


def test_different_data_sets_give_a_warning(studies: dict[str, StudyResult]) -> None:

    first = studies["s1"]
    trials = (dataclasses.replace(t, config={**t.config, "dataset": "digits"}) for t in first.trials)
    other = dataclasses.replace(first, trials=tuple(trials))
    assert "different data sets (cifar10, digits)" in comparison_page({"a": first, "b": other}, ["a", "b"]).body
    assert "data sets" not in comparison_page(studies, ["a", "b"]).body


def test_the_command_compares_folders_and_writes_beside_them(
    tmp_path: Path, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_study(tmp_path / name)
    arguments = [str(tmp_path / "a"), str(tmp_path / "b"), "--figures", str(tmp_path / "figures")]
    assert main(arguments) == 0
    names = ["comparison.html", "figures/comparison.png", "figures/comparison.svg"]
    assert capsys.readouterr().out.splitlines() == [f"wrote {tmp_path / name}" for name in names]
    text = (tmp_path / "comparison.html").read_text()
    labels = re.findall(r'<tr><th scope="row">([^<]*)</th>', text)
    assert labels[:2] == [str(tmp_path / "a"), str(tmp_path / "b")], "both are named quickstart"
    assert "All settings are the same." in text
    assert (tmp_path / "figures" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_is_given_once_and_not_with_an_experiment(
    tmp_path: Path, write_study: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path / "a")
    assert main([str(tmp_path / "a"), str(tmp_path / "a")]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--experiment", "x"]) == 2
    assert "give study folders, or a tracking URI" in capsys.readouterr().err
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "no such study folder. There are: a" in capsys.readouterr().err
