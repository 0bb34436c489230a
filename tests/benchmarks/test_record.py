"""Recording of learning curves, and its resumption."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import record, table
from search.simulation import recorded_curves
from search.space import reader
from trainers.diagnostics.health import Activity
from trainers.epoch_metrics import EpochMetrics
from trainers.train import train

SPACE = {
    "study": "tiny",
    "base": "spikformer/digits",
    "fixed": {"distort": False, "pooling_stat": "1100", "embed_dim": 16, "val_fraction": 0.8, "batch_size": 75},
    "objectives": {"accuracy": "maximize", "spike_rate": "minimize"},
    "space": {"threshold": {"choice": [0.5, 50.0]}, "step": {"choice": [1, 2]}},
    "budget": {"trials": 4, "epochs": 2},
}
"""300 training images: four batches per epoch; nets of the higher threshold are silent."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Writes the space file and goes to an empty folder, where the recorder runs in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "_run", lambda path, tasks, folder, workers: record.work(path, tasks, folder))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "space.yml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return "tiny/space.yml"


def fake(config: Any, loaded: Any) -> dict[str, Any]:
    read_outs = [{"read_step": 1, "accuracy": config.threshold + config.seed, "chance": 12.0}]
    epoch = {"metrics": {"accuracy": read_outs[0]["accuracy"]}, "read_outs": read_outs, "rates": {}, "cpu_s": 1.0}
    return {"epochs": [epoch] * 2, "diverged": None, "batches": 4, "looks": [], "routes": {}}


def test_a_recording_is_a_table_of_real_trainings(path: str) -> None:
    assert record.main([path, "--seeds", "1", "--out", "out"]) == 0
    found = recorded_curves.load("out")
    reports: list[EpochMetrics] = []
    values = {"threshold": 0.5, "step": 2}
    train(found.space.train_config(values), reports.append)
    curve = found.curve(found.index(values), 0)
    assert [report.metrics["loss"] for report in curve.epochs] == pytest.approx([r.metrics["loss"] for r in reports])
    assert [len(report.read_outs) for report in curve.epochs] == [2, 2]
    assert min(curve.cpu_s) > 0

    silent = found.curve(found.index({"threshold": 50.0, "step": 1}), 0)
    assert len(silent.epochs) == 2, "the health rules end no recording"
    assert silent.failure == ("silent", pytest.approx(1.0)), "by the fourth batch of four"
    lines = gzip.decompress(Path("out", table.HEALTH).read_bytes()).decode().splitlines()
    assert [check["batch"] for check in json.loads(lines[0])["looks"]] == [1, 2, 3, 4, 6, 8]
    assert found.metadata["found"] == {"silent": 2}


def test_an_interrupted_recording_is_resumed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, int]] = []

    def interrupted(config: Any, loaded: Any) -> dict[str, Any]:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((config.threshold, config.seed))
        return fake(config, loaded)

    monkeypatch.setattr(record, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record.main([path])
    monkeypatch.setattr(record, "record", lambda *given: calls.append(given[0].seed) or fake(*given))
    assert record.main([path]) == 0
    assert len(calls) == 4 * 2
    assert recorded_curves.load("tiny").curve(3, 1).epochs[0].metrics["accuracy"] == 50.0 + 43


def test_the_first_seed_of_all_configs_comes_first() -> None:
    tasks = record.order(30, 2)
    assert sorted(tasks[:30]) == [(config, 0) for config in range(30)]
    assert [config for config, _ in tasks[:30]] != list(range(30))
    assert tasks == record.order(30, 2)


def test_some_configs_alone_are_repeated_with_a_second_seed() -> None:
    tasks = record.order(30, 2, repeated=5)
    assert tasks[:30] == record.order(30, 1)
    assert tasks[30:] == [(config, 1) for config, _ in tasks[:5]]


def test_batches_hold_trainings_of_one_seed_and_shape(path: str) -> None:
    configs = [reader.load(path).train_config(values) for values in table.feasible_grid(reader.load(path))]
    batches = record.batches(configs, record.order(4, 2), 8)
    assert sorted(task for batch in batches for task in batch) == sorted(record.order(4, 2))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]
    assert all(len({(configs[config].step, seed) for config, seed in batch}) == 1 for batch in batches)
    assert [len(batch) for batch in record.batches(configs, record.order(4, 2), 1)] == [1] * 8


def test_trainings_recorded_as_one_are_those_recorded_alone(path: str) -> None:
    space, loaded = reader.load(path), record.Loaded()
    configs = [space.train_config({"threshold": threshold, "step": 2}) for threshold in (0.5, 50.0)]
    for config, fused in zip(configs, record.record_fused(configs, loaded), strict=True):
        alone = record.record(config, loaded)
        losses = [[epoch["metrics"]["loss"] for epoch in found["epochs"]] for found in (fused, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
        assert [look["batch"] for look in fused["looks"]] == [look["batch"] for look in alone["looks"]]
        assert fused["looks"][0]["neurons"].keys() == alone["looks"][0]["neurons"].keys()
        assert (fused["routes"], fused["batches"]) == (alone["routes"], alone["batches"])


def test_a_net_that_diverges_leaves_the_batch(path: str) -> None:
    config = reader.load(path).train_config({"threshold": 0.5, "step": 1})
    wild = config.model_copy(update={"lr": 1e38})
    healthy, diverged = record.record_fused([config, wild], record.Loaded())
    assert (len(healthy["epochs"]), healthy["diverged"]) == (2, None)
    assert len(diverged["epochs"]) < 2
    assert diverged["diverged"] is not None


def test_the_time_left_is_told_once_a_training_is_recorded() -> None:
    assert record.time_left(missing=132, recorded=0, seconds=30.0) == ""
    assert record.time_left(missing=126, recorded=6, seconds=600.0) == ", about 210 min left"


def test_a_partial_recording_is_not_a_table(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = reader.load(path)
    folder = record.prepare(space)
    tasks = record.order(4, 1)
    record.work(path, [tasks[:1]], folder)
    with pytest.raises(ValueError, match="3 of 4 trainings are missing"):
        table.read(folder, tasks)


def test_a_training_claimed_by_a_live_process_is_skipped(tmp_path: Path) -> None:
    Path(tmp_path, "c0000-s0.lock").write_text(str(os.getpid()))
    with record.Claim(tmp_path / "c0000-s0") as target:
        assert target is None
    assert Path(tmp_path, "c0000-s0.lock").exists()


def test_a_training_claimed_by_a_dead_process_is_recorded(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    Path(tmp_path, "c0000-s0.lock").write_text(str(process.pid))
    with record.Claim(tmp_path / "c0000-s0") as target:
        assert target == tmp_path / "c0000-s0.json.gz"
    assert not list(tmp_path.glob("*.lock"))


def test_a_recorded_training_is_skipped(tmp_path: Path) -> None:
    Path(tmp_path, "c0000-s0.json.gz").touch()
    with record.Claim(tmp_path / "c0000-s0") as target:
        assert target is None


def test_a_recording_of_another_space_is_not_overwritten(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    record.prepare(reader.load(path))
    Path(path).write_text(yaml.safe_dump({**SPACE, "seed": 1}, sort_keys=False))
    assert record.main([path]) == 2
    assert "a recording of another tiny" in capsys.readouterr().err


def test_a_net_that_diverged_ends_at_that_epoch(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = reader.load(path).train_config({"threshold": 0.5, "step": 1}).model_copy(update={"lr": 1e30, "opt": "sgd"})
    found = record.record(config, record.Loaded())
    assert found["epochs"] == []
    assert 2 <= found["diverged"] <= 4


def test_dead_nets_are_recorded_to_the_end() -> None:
    recorder = record.HealthRecorder()
    for batch in range(1, 11):
        if recorder.is_due(batch, batches=5):
            recorder.check_batch({"first": Activity(0.0)}, {"head": 0.0}, batch)
            recorder.check({"loss": 1.0}, [{"name": "first", "spike_rate": 0.0}], batch)
    assert [check["batch"] for check in recorder.checks] == [1, 2, 3, 4, 5, 6, 8, 10]
