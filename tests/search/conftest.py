"""A space of two keys over digits, and a study that gets synthetic epochs instead of trainings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config import strict_yaml
from search.space import reader
from search.space.space import Space
from search.storage.database import open_storage
from search.storage.study import Study
from trainers.epoch_metrics import EpochMetrics

SPACE = """
study: small
base: spikformer/digits
fixed: {distort: false, embed_dim: 16}
objectives: {accuracy: maximize, spike_rate: minimize}
space:
  tau: {uniform: [1.1, 3.0]}
  step: {choice: [1, 2]}
budget: {trials: 12, epochs: 9}
scheduler: {name: moasha, mode: stop, grace_epochs: 1, reduction_factor: 3}
"""

ReadSpace = Callable[..., Space]


@pytest.fixture(scope="session")
def read_space() -> ReadSpace:
    """Reads the small space, with `key=value` overrides put in."""

    return small_space


def small_space(*overrides: str, text: str = SPACE) -> Space:
    """Returns the small space, or another text's, with `key=value` overrides put in."""
    from config.strict_yaml import override

    return reader.read(override(strict_yaml.parse(text, "small.yml"), list(overrides)))


@pytest.fixture
def open_study(tmp_path: Path, read_space: ReadSpace) -> Iterator[Callable[..., Study]]:
    """Opens the small study in the test's folder or in `folder`; may be called repeatedly."""
    opened: list[Study] = []

    def start(*overrides: str, folder: Path = tmp_path) -> Study:
        folder.mkdir(exist_ok=True)
        study = Study(read_space(*overrides), folder, open_storage(folder))
        opened.append(study)
        return study

    yield start
    for study in opened:
        study.close()


@pytest.fixture(scope="session")
def epoch() -> Callable[..., EpochMetrics]:
    """Makes the report of a trial after an epoch, with the same figures at every read-out."""
    return _epoch


def _epoch(number: int, accuracy: float, spike_rate: float, step: int = 1, **others: Any) -> EpochMetrics:
    metrics = {
        "accuracy": accuracy,
        "loss": 1.0 - accuracy / 100,
        "spike_rate": spike_rate,
        "spikes": 1000 * spike_rate,
        "synops": 1e5 * spike_rate,
        "macs": 100.0,
        "energy_mj": 1e-4 * spike_rate,
        "params_m": 0.1,
        "images_per_s": 100.0,
        "peak_mem_gib": 0.5,
        **others,
    }
    read_out = {
        key: metrics[key] for key in ("accuracy", "loss", "spike_rate", "spikes", "synops", "macs", "energy_mj")
    }
    read_outs = [{"read_step": t, "chance": 13.0, **read_out} for t in range(1, step + 1)]
    return EpochMetrics(number, metrics, read_outs, [{"name": "neuron", "spike_rate": spike_rate}])


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs: making one takes seconds, copying it does not."""
    from search.tracking.mlflow_mirror import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    """An MLflow store of this test's own; a study in `tmp_path / runs` has it as its default."""
    path = tmp_path / "runs" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(empty_store, path)
    return path


def run_to_the_end(study: Study, epoch: Callable[..., EpochMetrics], accuracy: Callable[[Any], float]) -> list[int]:
    """Runs the study one trial at a time with synthetic results. Returns the numbers in the order they were run."""
    order = []
    while (task := study.next_task()) is not None:
        order.append(task.number)
        for number in range(1, task.config["epochs"] + 1):
            rate = 0.02 + accuracy(task.config) / 400
            if study.on_result(task.number, epoch(number, accuracy(task.config), rate, task.config["step"])) == "stop":
                break
    return order


def score(config: dict[str, Any]) -> float:
    return 95.0 - 20.0 * (config["tau"] - 1.8) ** 2 - 5.0 * (config["step"] == 1)


@pytest.fixture
def half_done(open_study: Callable[..., Study], epoch: Callable[..., EpochMetrics]) -> Study:
    """A study of twelve trials: three ended, one of them stopped by the user, two failed, one running."""
    study = open_study("scheduler={name: none}")
    for number, accuracy in enumerate([90.0, 95.0, 80.0]):
        task = study.next_task()
        assert task is not None
        for i in range(1, 10):
            if number == 2 and i == 4:
                study.stop(number, "stopped by the user")
            study.on_result(number, epoch(i, accuracy, 0.1 + number / 10, task.config["step"]))
    for _ in range(2):
        task = study.next_task()
        assert task is not None
        study.on_error(task.number, "error", "ValueError: what went wrong\nin line 3")
    study.next_task()
    return study
