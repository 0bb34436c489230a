from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from results import ResultsError, load


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries below MLflow
def test_the_folder_and_mlflow_give_the_same(two_stores: tuple[Path, str]) -> None:
    folder, uri = two_stores
    study = load(folder)
    assert study == load(tracking_uri=uri, experiment="quickstart")
    assert study == load(tracking_uri=uri)  # the only experiment
    with pytest.raises(ResultsError, match=r"no experiment quickstat\. Did you mean quickstart\?"):
        load(tracking_uri=uri, experiment="quickstat")


@pytest.mark.parametrize("arguments", [{}, {"folder": "runs/x", "experiment": "x"}])
def test_a_folder_and_an_experiment_exclude_each_other(arguments: dict[str, Any]) -> None:
    with pytest.raises(ResultsError, match="a study folder"):
        load(**arguments)


def test_a_study_can_move(study_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(study_folder, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere") == load(study_folder)
