from __future__ import annotations

from pathlib import Path

import pytest

from results import ResultsError, load
from results.folder import study_name


def test_a_misspelt_folder_names_the_nearest(study_folder: Path) -> None:
    with pytest.raises(ResultsError, match=r"quickstat: no such study folder\. Did you mean quickstart\?"):
        load(study_folder.with_name("quickstat"))


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"there is no study\.db in it"):
        load(tmp_path)


def test_the_database_file_is_not_the_folder(study_folder: Path) -> None:
    with pytest.raises(ResultsError, match="is a file; give the folder of a study"):
        load(study_folder / "study.db")


def test_a_renamed_folder_holds_the_study_that_its_space_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    assert study_name(folder) == "other"
    (folder / "space.yml").write_text("study: aa\nbase: spikformer/digits\n")
    assert study_name(folder) == "aa"
    (folder / "space.yml").write_text("study: [aa")
    assert study_name(folder) == "other"
