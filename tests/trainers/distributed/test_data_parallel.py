"""One training on two workers, on the CPU with gloo: equal to one process, reported and saved by the first worker."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from config.errors import ConfigError
from trainers import loop
from trainers.config import TrainConfig
from trainers.data import image_folders
from trainers.data.sources import DataError
from trainers.diagnostics.health import TrainingFailure
from trainers.distributed.data_parallel import share_rows, train_distributed
from trainers.epoch_metrics import EpochMetrics
from trainers.run import main
from trainers.train import Training, train

Tiny = Callable[..., TrainConfig]
EXACT = ("params_m", "macs")
CLOSE = ("accuracy", "loss", "spike_rate", "spikes", "synops", "energy_mj")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("tet", [None, 0.05])
def test_two_workers_with_synchronised_batch_norm_train_as_one_process_does(
    tet: float | None, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(epochs=2, batch_size=60, hflip=0.5, mixup=0.5, device="cpu", threads=1, tet=tet)
    alone: list[EpochMetrics] = []
    shared: list[EpochMetrics] = []
    train(config, alone.append, tmp_path / "alone")
    train_distributed(config, 2, tmp_path / "shared", shared.append, sync_bn=True)
    assert [report.epoch for report in shared] == [1, 2]
    for one, two in zip(alone, shared, strict=True):
        assert [two.metrics[name] for name in EXACT] == [one.metrics[name] for name in EXACT]
        for name in CLOSE:
            assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-4), (
                name
            )  # weights before a batch norm have gradients of rounding only
    second: list[EpochMetrics] = []
    longer = config.model_copy(update={"epochs": 3})
    train(longer, second.append, tmp_path / "shared")  # checkpoints of one resume in the other
    assert [report.epoch for report in second] == [2, 3]


@pytest.mark.slow
@pytest.mark.ray
def test_the_command_writes_the_same_files_and_resumes(
    tiny_keys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yml"
    keys = {**tiny_keys, "epochs": 3, "batch_size": 60, "device": "cpu"}
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()))

    def trained(name: str, *options: str) -> Path:
        assert main(["--config", str(path), "--set", f"output={tmp_path / name}", *options]) == 0
        (folder,) = (tmp_path / name).iterdir()
        return folder

    alone, shared = trained("alone"), trained("shared", "--gpus", "2", "--sync-bn")
    assert capsys.readouterr().out.count("epoch 3/3") == 2
    assert files(shared) == files(alone)
    for epoch in ("epoch_0003.pt", "epoch_0003.sha256"):
        (shared / "checkpoints" / epoch).unlink()
    before = last_row(shared)
    trained("shared", "--gpus", "2", "--sync-bn", "--resume")
    for name in (*EXACT, *CLOSE):
        assert float(last_row(shared)[name]) == pytest.approx(float(last_row(alone)[name]), rel=1e-4), name
        assert last_row(shared)[name] == before[name], name


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def last_row(folder: Path) -> dict[str, str]:
    with (folder / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))[-1]


@pytest.mark.slow
@pytest.mark.ray
def test_a_failed_health_check_in_a_worker_fails_the_training(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match=r"fewer than 0\.001 spikes"):
        train_distributed(
            tiny(epochs=4, threshold=100.0, batch_size=60, device="cpu"), 2, tmp_path, lambda report: None
        )


def test_each_worker_trains_on_its_rows_of_the_whole_batch(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    for rows in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        training = Training(tiny(hflip=0.5, batch_size=60))
        training.learner.rows = rows
        collected: list[torch.Tensor] = []
        training.learner.model.register_forward_pre_hook(
            lambda module, inputs, collected=collected: collected.append(inputs[0])
        )
        training.start_epoch(0)
        loop.train_epoch(training.learner, training.data, training.config)
        batches.append(collected[0])
    whole, even, odd = batches
    assert torch.equal(whole[0::2], even)
    assert torch.equal(whole[1::2], odd)


@pytest.mark.parametrize(("mixup", "batch", "decoded"), [(0.0, 6, 6), (0.5, 8, 8), (0.5, 6, 12)])
def test_workers_decode_the_images_of_their_rows_only(
    tiny: Tiny,
    write_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mixup: float,
    batch: int,
    decoded: int,
) -> None:
    """Six rows cannot be shared in pairs of mixed rows: then a worker decodes the partners of its rows too."""
    write_images(tmp_path)
    keys = {"dataset": "imagefolder", "num_classes": 3, "in_channels": 3, "img_size": 16, "patch_size": 4, "workers": 0}
    keys |= {"data_dir": str(tmp_path), "mixup": mixup, "batch_size": batch, "val_fraction": 0.34, "reprob": 0.5}
    config = tiny(**keys, embed_dim=16, num_heads=1)
    decode, files = image_folders.decode, list[Path]()

    def counted(path: Path, background: Any) -> Any:
        files.append(path)
        return decode(path, background)

    def inputs(rank: int | None) -> tuple[torch.Tensor, Any]:
        """Returns the input of the first step, and the rows."""
        training, seen = Training(config), list[torch.Tensor]()
        if rank is not None:
            share_rows(training, rank, 2)
        training.learner.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        training.start_epoch(0)
        files.clear()
        monkeypatch.setattr(image_folders, "decode", counted)
        loop.train_epoch(training.learner, training.data, config)
        monkeypatch.setattr(image_folders, "decode", decode)
        return seen[0], training.learner.rows

    whole, _ = inputs(None)
    total, counts, taken = len(files), list[int](), list[int]()
    for rank in (0, 1):
        own, rows = inputs(rank)
        counts.append(len(files))
        taken += torch.arange(batch)[rows].tolist()
        assert torch.equal(own, whole[rows])
    assert sorted(taken) == list(range(batch))
    assert sum(counts) == total * decoded // batch
    assert counts[0] == counts[1]


def test_too_many_gpus_are_reported_in_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["--config", "spikformer/digits", "--set", f"output={tmp_path}", "--gpus", "64"]
    assert main(asked) == 4
    assert "--gpus 64: this machine has" in capsys.readouterr().err


def test_a_batch_that_workers_cannot_share_evenly_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="divisible by the number of GPUs \\(got 50, 3\\)"):
        train_distributed(tiny(batch_size=50, device="cpu"), 3, tmp_path, lambda report: None)


def test_too_few_gpus_are_reported_before_anything_starts(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--gpus 2: this machine has"):
        train_distributed(tiny(), 2 if torch.cuda.device_count() < 2 else 64, tmp_path, lambda report: None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--gpus", "0"], "--gpus must be >= 1 (got 0)"), (["--sync-bn"], "--sync-bn goes with --gpus N")],
)
def test_wrong_arguments_are_reported_in_one_sentence(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "spikformer/digits", *arguments]) == 2
    assert text in capsys.readouterr().err
