"""Changes of a space that a resumed search may make."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import ConfigError
from search.space.space import Space
from search.storage.study import Study
from search.storage.study_metadata import CURRENT_ALGORITHM, task_config
from trainers.config import recipe_path
from trainers.epoch_metrics import EpochMetrics

Open = Callable[..., Study]
Epoch = Callable[..., EpochMetrics]


def test_a_different_space_under_the_same_name_is_refused_with_the_difference(open_study: Open) -> None:
    open_study()
    with pytest.raises(ConfigError, match=r"space.tau \(.*1.1.* -> .*1.2"):
        open_study("space.tau={uniform: [1.2, 3.0]}")


def test_a_different_base_under_the_same_name_is_refused_but_not_a_different_machine(
    open_study: Open, tmp_path: Path
) -> None:
    base = tmp_path / "base.yml"
    text = recipe_path("spikformer/digits").read_text()
    base.write_text(text)
    assert open_study(f"base={base}").next_task()
    base.write_text(text + "\nworkers: 3\n")
    task = open_study(f"base={base}", "fixed.data_dir=elsewhere").next_task()
    assert task is not None
    assert (task.number, task.config["workers"], task.config["data_dir"]) == (0, 3, "elsewhere")
    base.write_text(re.sub(r"(?m)^lr: .*$", "lr: 0.5", text))
    with pytest.raises(ConfigError, match=r"lr \(.* -> 0.5\) in base"):
        open_study(f"base={base}")


@pytest.mark.parametrize("change", ["budget.trials=20", "budget.hours=3", "concurrency=1", "resources={cpu: 2}"])
def test_some_keys_may_change_when_a_search_resumes(open_study: Open, change: str) -> None:
    open_study()
    open_study(change)


def test_a_searched_key_does_not_depend_on_the_machine(open_study: Open, tmp_path: Path) -> None:
    base = tmp_path / "base.yml"
    base.write_text(recipe_path("spikformer/digits").read_text() + "\nworkers: 9\n")
    study = open_study(f"base={base}", "space={workers: {choice: [2, 3]}, tau: {uniform: [1.1, 3.0]}}")
    tasks = [study.next_task() for _ in range(3)]
    assert all(task is not None and task.config["workers"] in (2, 3) for task in tasks)


def test_optuna_knows_the_names_of_the_objectives(open_study: Open) -> None:
    study = open_study()
    assert study.optuna.metric_names == list(study.space.objectives)
    study.close()
    assert open_study().optuna.metric_names == list(study.space.objectives)


def test_the_number_of_seeds_may_grow_but_not_shrink(open_study: Open) -> None:
    open_study("seeds=2")
    assert open_study("seeds=3").space.settings.seeds == 3
    with pytest.raises(ConfigError, match=r"seeds \(3 -> 2\)"):
        open_study("seeds=2")
    with pytest.raises(ConfigError, match=r"seeds \(3 -> None\)"):
        open_study()


def test_a_study_is_marked_with_the_algorithm_that_began_it(open_study: Open, tmp_path: Path) -> None:
    study = open_study()
    assert study.optuna.user_attrs["algorithm"] == CURRENT_ALGORITHM
    study.next_task()
    attrs = study.optuna._storage.get_study_user_attrs(study.optuna._study_id)
    assert attrs["algorithm"] == CURRENT_ALGORITHM
    for name, expected in (("without trials", CURRENT_ALGORITHM), ("with trials", 1)):
        folder = tmp_path / name
        earlier = open_study(folder=folder)
        if name == "with trials":
            earlier.next_task()
        earlier.close()
        with closing(sqlite3.connect(folder / "study.db")) as database, database:
            database.execute("delete from study_user_attributes where key = 'algorithm'")
        for _ in range(2):  # a later start does not change it
            assert open_study(folder=folder).optuna.user_attrs["algorithm"] == expected


def test_a_worker_gets_the_whole_path_of_a_weights_file(read_space: Callable[..., Space]) -> None:
    space = read_space()
    config = task_config({"lr": 0.1, "initial_checkpoint": "w.pt"}, space)
    assert config["initial_checkpoint"] == str(Path.cwd() / "w.pt")
    assert task_config({"lr": 0.1, "initial_checkpoint": None}, space)["initial_checkpoint"] is None
