from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from results import StudyResult, load
from results.report import main
from results.reporting.latex import escape, front_table

Make = Callable[..., StudyResult]


def cells(table: str) -> list[list[str]]:
    """Returns the cells of each row, the header first."""
    return [line.removesuffix(r" \\").split(" & ") for line in table.splitlines() if line.endswith(r" \\")]


def test_the_table_has_a_row_for_each_point_with_units_in_its_header(make_study: Make) -> None:
    study = make_study([(90.126, 0.2)], [(80.0, 0.05), (85.0, 0.1)], name="my_study")
    header, *rows = cells(front_table({"my_study": study}))
    assert header == ["Trial", "Steps", r"Acc.\ (\%)", "Spike rate", "SynOps (k)", "Energy (mJ)", "Params (M)"]
    assert [row[:5] for row in rows] == [
        ["t0000", "1", "90.13", "0.200", "200"],
        ["t0001", "2", "85.00", "0.100", "200"],
        ["t0001", "1/2", "80.00", "0.050", "50"],
    ]
    assert all(len(row) == len(header) for row in rows)


def test_the_table_is_a_complete_booktabs_environment(make_study: Make) -> None:
    table = front_table({"my_study": make_study([(90.0, 0.2)])})
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}", r"\end{table}", r"my\_study"):
        assert table.count(part) == 1
    columns = re.search(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}", table)
    assert columns
    assert len(columns[1]) == len(cells(table)[0])
    assert table.count("{") == table.count("}")


def test_points_with_fresh_seeds_have_deviation_test_accuracy_and_number_of_seeds(make_study: Make) -> None:
    seeds = [{"trial": 0, "read_step": 1, "seed": s, "accuracy": 89.0 + s, "spike_rate": 0.1} for s in range(3)]
    tested = {"rows": [{**row, "accuracy": row["accuracy"] - 2} for row in seeds]}
    study = make_study([(95.0, 0.1)], confirmed=seeds, tested=tested)
    header, row = cells(front_table({"s": study}))
    assert header[-2:] == [r"Test acc.\ (\%)", "Seeds"]
    assert row[2] == r"$90.00 \pm 1.00$"
    assert row[-2:] == [r"$88.00 \pm 1.00$", "3"]


def test_several_studies_are_separated_in_one_table(make_study: Make) -> None:
    study = make_study([(90.0, 0.2)], [(80.0, 0.1)])
    table = front_table({"a": study, "b": study})
    assert [row[0] for row in cells(table)] == ["Study", "a", "a", "b", "b"]
    assert table.count(r"\midrule") == 2


def test_a_study_without_a_front_gives_a_table_without_rows(make_study: Make) -> None:
    assert len(cells(front_table({"s": make_study()}))) == 1


@pytest.mark.parametrize(
    ("text", "wanted"), [("a_b", r"a\_b"), ("50%&$#", r"50\%\&\$\#"), ("\\{x}", r"\textbackslash{}\{x\}")]
)
def test_names_are_no_commands(text: str, wanted: str) -> None:
    assert escape(text) == wanted


def test_the_command_writes_the_table(study_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "paper" / "front.tex"
    assert main([str(study_folder), "--latex", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    study = load(study_folder)
    assert path.read_text() == front_table({study.name: study})
    assert len(cells(path.read_text())) == 1 + len(dataclasses.replace(study).front())
