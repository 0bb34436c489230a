"""The command `python -m trainers.run`, as users type it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config import interrupts
from trainers import checkpoint, run
from trainers.config import TrainConfig, load
from trainers.console import ConsoleProgress
from trainers.epoch_metrics import EpochMetrics
from trainers.train import train

Tiny = Callable[..., TrainConfig]
Main = Callable[..., int]
ROOT = Path(__file__).parents[2]
TIMES = ("images_per_s", "peak_mem_gib")


@pytest.fixture
def file(tmp_path: Path, tiny_keys: dict[str, Any]) -> Path:
    """A train file of the tiny model."""
    path = tmp_path / "tiny.yml"
    keys = {**tiny_keys, "output": str(tmp_path / "runs")}
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()))
    return path


@pytest.fixture
def main(file: Path) -> Main:
    """Runs the command on the tiny train file, with more arguments; `key=value` ones are set."""

    def call(*arguments: str) -> int:
        given = [part for a in arguments for part in (["--set", a] if "=" in a and a[0] != "-" else [a])]
        return run.main(["--config", str(file), *given])

    return call


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def without_times(table: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in table]


def logged_reads(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / run.TEST_LOG).read_text().splitlines()]


# ---------------------------------------------------------------------------------------------- errors, without torch


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no file": (["--config", "nonexist.yml"], "nonexist.yml: no such file."),
    "wrong value": (["--config", "wrong.yml"], "wrong.yml:2: lr: must be a number (got 'fast')"),
    "unknown key": (["--config", "good.yml", "--set", "lrr=1"], "--set lrr=1: lrr: unknown key. Did you mean lr?"),
    "not key=value": (["--config", "good.yml", "--set", "lr"], "--set lr: must be key=value"),
    "nothing": ([], "give --config FILE, or both --model-config FILE and --train-config FILE"),
    "half a pair": (["--model-config", "good.yml"], "give --config FILE, or both"),
    "too much": (["--config", "a", "--model-config", "b", "--train-config", "c"], "give --config FILE, or both"),
    "infeasible": (
        ["--config", "good.yml", "--set", "embed_dim=40", "--set", "num_heads=3"],
        "--set num_heads=3: num_heads: ",
    ),
    "unknown option": (["--confg", "x"], "--confg x: unknown argument. Did you mean --config?"),
}
SCRIPT = """
import contextlib, io, json, sys
from trainers.run import main
results = {}
for name, (arguments, _) in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stderr(io.StringIO()) as text:
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    results[name] = [code, text.getvalue()]
import time
results["torch"] = sorted({"torch", "numpy", "timm", "torchvision", "ray"} & sys.modules.keys())
results["seconds"] = time.process_time()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The command's output for each user error, all in one process, and the modules that it imported."""
    folder = tmp_path_factory.mktemp("mistakes")
    minimal = "dataset: digits\nlr: {lr}\nmodel: spikformer_cifar\nepochs: 1\n"
    (folder / "wrong.yml").write_text(minimal.format(lr="fast"))
    (folder / "good.yml").write_text(minimal.format(lr="1e-3"))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}", json.dumps(MISTAKES)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", MISTAKES)
def test_a_user_error_prints_one_sentence_with_exit_code_2(mistakes: dict[str, Any], name: str) -> None:
    code, text = mistakes[name]
    assert code == 2
    assert MISTAKES[name][1] in text
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1


def test_user_errors_are_reported_without_loading_torch(mistakes: dict[str, Any]) -> None:
    assert mistakes["torch"] == []
    assert mistakes["seconds"] < 1.0 + 0.05 * len(MISTAKES)


def test_the_command_itself_ends_with_exit_code_2() -> None:
    arguments = [sys.executable, "-m", "trainers.run", "--config", "nonexist.yml"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "nonexist.yml: no such file.\n")


def test_missing_data_ends_with_exit_code_4_and_one_sentence_and_leaves_nothing(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colour = ["dataset=cifar10", "num_classes=10", "in_channels=3", "img_size=32"]
    assert main(*colour, f"data_dir={tmp_path}/data") == 4
    text = capsys.readouterr().err
    assert text.startswith(f"cifar10: {tmp_path}/data/cifar-10-batches-py lacks data_batch_1")
    assert len(text.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_network_that_never_spikes_ends_with_exit_code_3_and_its_class(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("threshold=100", "attn_threshold=100") == 3
    assert capsys.readouterr().err.startswith("training ended: silent: stem.chain.neurons.0 emits fewer than")


def test_an_unknown_optimizer_ends_with_exit_code_2(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("opt=adamww") == 2
    assert capsys.readouterr().err.startswith("--set opt=adamww: opt: unknown optimizer (got 'adamww')")


# ---------------------------------------------------------------------------------------------- a run and its files


def test_a_run_writes_its_train_file_a_row_an_epoch_and_checkpoints(
    main: Main, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    folder = tmp_path / "runs" / "spikformer-tiny"
    assert load(folder / "train.yml") == load(file)
    saved = sorted(path.name for path in (folder / "checkpoints").glob("*.pt"))
    assert saved == ["best.pt", "epoch_0001.pt", "epoch_0002.pt"]
    assert not (folder / run.TEST_LOG).exists(), "the test set is read only when asked for"
    reports: list[EpochMetrics] = []
    train(load(file), reports.append)
    expected = [{"epoch": report.epoch, **report.metrics} for report in reports]
    assert without_times(rows(folder)) == without_times([{k: repr(v) for k, v in row.items()} for row in expected])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"training spikformer_cifar on digits for 2 epochs in {folder}"
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert all(" images/s  " in line and line.endswith(" left") for line in lines[1:3])
    assert lines[-1] == f"checkpoints {folder / 'checkpoints'}"


def test_a_second_run_gets_a_separate_folder(main: Main, tmp_path: Path) -> None:
    for _ in range(3):
        assert main("epochs=1") == 0
    names = ["spikformer-tiny", "spikformer-tiny-2", "spikformer-tiny-3"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names


def test_test_reads_the_test_set_once_and_eval_of_the_checkpoint_gives_the_same(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--test", "epochs=1", "distort=true") == 0
    folder = tmp_path / "runs" / "spikformer-tiny"
    (logged,) = logged_reads(folder)
    assert (logged["weights"], logged["dataset"]) == (str(folder / "checkpoints"), "digits")
    assert {"accuracy", "spike_rate", "synops", "energy_mj"} <= logged.keys()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test set:")]
    assert len(printed) == 1
    newest = folder / "checkpoints" / "epoch_0001.pt"
    assert main("--eval", str(newest), "epochs=1", "distort=true") == 0
    assert capsys.readouterr().out.splitlines() == printed
    (second,) = logged_reads(tmp_path / "runs")
    assert {**second, "time": 0} == {**logged, "time": 0, "weights": str(newest)}
    assert len(logged_reads(folder)) == 1


def test_eval_accepts_exported_weights(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import save_file

    from models import read_weights

    assert main("--test", "epochs=1") == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test set:")]
    saved = tmp_path / "runs" / "spikformer-tiny" / "checkpoints" / "epoch_0001.pt"
    weights = tmp_path / "exported.safetensors"
    save_file(read_weights(saved).tensors, weights)
    assert main("--eval", str(weights), "epochs=1") == 0
    assert capsys.readouterr().out.splitlines() == printed
    weights.write_bytes(weights.read_bytes()[:100])
    assert main("--eval", str(weights), "epochs=1") == 2
    assert "exported.safetensors: damaged weights" in capsys.readouterr().err


def test_one_set_option_accepts_several_values(file: Path, tmp_path: Path) -> None:
    from trainers.run import main

    assert main(["--config", str(file), "--set", "epochs=1", "seed=7", "--set", "lr=0.001"]) == 0
    written = (tmp_path / "runs" / "spikformer-tiny" / "train.yml").read_text()
    assert "seed: 7\n" in written
    assert "lr: 0.001\n" in written


def test_without_a_validation_part_only_the_loss_is_written(main: Main, tmp_path: Path) -> None:
    assert main("val_fraction=0", "epochs=1", "batch_size=500", "--test") == 0
    (row,) = rows(tmp_path / "runs" / "spikformer-tiny")
    assert set(row) == {"epoch", "loss", "params_m", *TIMES}


def test_a_pair_of_files_trains_like_one(main: Main, file: Path, tmp_path: Path) -> None:
    assert main("epochs=1") == 0
    lines = file.read_text().splitlines(keepends=True)
    half = next(i for i, line in enumerate(lines) if line.startswith("val_fraction"))
    (tmp_path / "pair.yml").write_text("".join(lines[:half]))
    (tmp_path / "train.yml").write_text("".join(lines[half:]))
    pair = ["--model-config", str(tmp_path / "pair.yml"), "--train-config", str(tmp_path / "train.yml")]
    assert run.main([*pair, "--set", "epochs=1"]) == 0
    one, two = (rows(tmp_path / "runs" / f"spikformer-{name}") for name in ("tiny", "pair"))
    assert without_times(one) == without_times(two)


def test_a_recipe_is_found_by_its_name(tmp_path: Path, tiny_keys: dict[str, Any]) -> None:
    keys = {**tiny_keys, "epochs": 1, "output": str(tmp_path)}
    assert run.main(["--config", "spikformer/digits", *(f"--set={key}={value}" for key, value in keys.items())]) == 0
    assert (tmp_path / "spikformer-digits" / "metrics.csv").exists()


# ---------------------------------------------------------------------------------------------- resuming


def test_an_interrupted_run_resumes_with_each_epoch_in_one_row(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("epochs=3") == 0
    whole = rows(tmp_path / "runs" / "spikformer-tiny")
    report = ConsoleProgress.on_epoch

    def until_the_first(self: Any, epoch: EpochMetrics) -> None:
        report(self, epoch)
        raise interrupts.Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleProgress, "on_epoch", until_the_first)
        assert main("epochs=3") == 130
    assert "interrupted after epoch 1; the same command with --resume continues" in capsys.readouterr().out
    folder = tmp_path / "runs" / "spikformer-tiny-2"
    assert [row["epoch"] for row in rows(folder)] == ["1"]
    assert main("epochs=3", "--resume") == 0
    assert without_times(rows(folder)) == without_times(whole)
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3"]
    assert main("epochs=3", "--resume", "--test") == 0, "a finished run can be tested later"
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3"]
    assert len(logged_reads(folder)) == 1


def test_without_a_run_there_is_nothing_to_resume(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--resume") == 2
    assert capsys.readouterr().err == f"--resume: there is no run {tmp_path}/runs/spikformer-tiny to resume\n"


@pytest.mark.parametrize("change", ["epochs=4", "embed_dim=32", "opt=sgd", "seed=4", "node_type=IFNode"])
def test_a_run_cannot_resume_with_another_config(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    assert main("epochs=1") == 0
    written = (tmp_path / "runs" / "spikformer-tiny" / "train.yml").read_text()
    assert main("epochs=1", change, "--resume") == 2
    assert f"was started with another {change.split('=')[0]}" in capsys.readouterr().err
    assert (tmp_path / "runs" / "spikformer-tiny" / "train.yml").read_text() == written


def test_a_run_may_resume_with_other_threads_and_devices(main: Main) -> None:
    assert main("epochs=1") == 0
    assert main("epochs=1", "device=cpu", "log_interval=7", "--resume") == 0


def test_a_run_of_an_earlier_version_resumes_without_the_newer_keys(main: Main, tmp_path: Path) -> None:
    assert main("epochs=1") == 0
    path = tmp_path / "runs" / "spikformer-tiny" / "train.yml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(("model_ema", "tet"))))
    assert len(path.read_text().splitlines()) <= len(lines) - 2
    assert main("epochs=1", "--resume") == 0
    assert main("epochs=1", "model_ema=true", "--resume") == 2


# ---------------------------------------------------------------------------------------------- stored files


def test_the_folder_holds_the_read_outs_and_layers_of_the_last_epoch(main: Main, tmp_path: Path) -> None:
    assert main() == 0
    folder = tmp_path / "runs" / "spikformer-tiny"
    steps, layers = (json.loads((folder / name).read_text()) for name in ("steps.json", "layers.json"))
    assert [row["read_step"] for row in steps] == [1, 2]
    assert steps[-1]["accuracy"] == float(rows(folder)[-1]["accuracy"])
    assert {"energy_mj", "energy_memory_mj", "energy_ann_mj"} <= steps[0].keys()
    assert sum(row.get("spikes", 0.0) for row in layers) == pytest.approx(steps[-1]["spikes"])


def test_the_best_epoch_is_stored_besides_the_last_two_also_when_resumed(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ConsoleProgress.on_epoch

    def until_the_second(self: Any, epoch: EpochMetrics) -> None:
        report(self, epoch)
        if epoch.epoch == 2:
            raise interrupts.Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleProgress, "on_epoch", until_the_second)
        assert main("epochs=5", "lr=0.1") == 130
    assert main("epochs=5", "lr=0.1", "--resume") == 0
    folder = tmp_path / "runs" / "spikformer-tiny"
    accuracies = [float(row["accuracy"]) for row in rows(folder)]
    best = checkpoint.load(folder / "checkpoints" / "best.pt")
    assert best["report"]["metrics"]["accuracy"] == max(accuracies)
    assert best["report"]["epoch"] == accuracies.index(max(accuracies)) + 1
    assert [path.name for path in checkpoint.generations(folder / "checkpoints")] == ["epoch_0005.pt", "epoch_0004.pt"]
    assert main("--eval", str(folder / "checkpoints" / "best.pt")) == 0


def test_the_test_figures_are_printed_with_spike_rate_synops_and_energy(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("epochs=1", "--test") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test set:")]
    assert all(f" {name} " in line for name in ("accuracy", "spike_rate", "synops", "energy_mj"))


def test_an_mlflow_run_holds_what_the_folder_holds(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert main("--mlflow", uri) == 0
    assert main("--mlflow", uri, "--resume") == 0
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("trainers.run")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    folder = tmp_path / "runs" / "spikformer-tiny"
    assert (found.info.run_name, found.info.status) == ("spikformer-tiny", "FINISHED")
    assert found.data.params["model"] == "spikformer_cifar"
    assert found.data.metrics["accuracy"] == float(rows(folder)[-1]["accuracy"])
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {
        "train.yml", "metrics.csv", "steps.json", "layers.json",
    }  # fmt: skip


def test_an_unreachable_store_is_reported_in_one_line(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--mlflow", "mssql+nosuch://me:secret@host/db") == 4
    assert capsys.readouterr().err.startswith("--mlflow mssql+nosuch://***@host/db: cannot be used (")


# ---------------------------------------------------------------------------------------------- evaluating


def test_an_unusable_checkpoint_is_reported(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("epochs=1") == 0
    path = tmp_path / "runs" / "spikformer-tiny" / "checkpoints" / "epoch_0001.pt"
    capsys.readouterr()
    assert main("--eval", str(tmp_path / "absent.pt")) == 2
    assert capsys.readouterr().err == f"--eval {tmp_path}/absent.pt: no such file\n"
    assert main("--eval", str(path), "embed_dim=32") == 2
    text = capsys.readouterr().err
    shapes = "stem.chain.convs.0.weight is [2, 1, 3, 3] there and [4, 1, 3, 3] in the model"
    assert text.startswith(f"--eval {path}: holds another model than the config: {shapes}")
    assert len(text.splitlines()) == 1
    path.write_bytes(path.read_bytes()[:-1])
    assert main("--eval", str(path)) == 2
    assert f"{path}: damaged checkpoint (its SHA-256 does not match)" in capsys.readouterr().err
    assert not (tmp_path / "runs" / run.TEST_LOG).exists()
