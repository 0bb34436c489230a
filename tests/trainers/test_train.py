from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.parts.backbone import SpikingModel
from trainers import checkpoint, optim
from trainers import train as train_module
from trainers.config import TrainConfig
from trainers.diagnostics.health import TrainingFailure
from trainers.epoch_metrics import EpochMetrics
from trainers.train import measure_test, prepare, train

Tiny = Callable[..., TrainConfig]
TIMES = ("images_per_s", "peak_mem_gib")


class Stopped(Exception):
    """Raised by a caller to end a training."""


def bits(model: SpikingModel) -> str:
    """Returns a digest of everything that the model holds."""
    state = model.state_dict()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()


def plain(report: EpochMetrics) -> dict[str, Any]:
    """Returns the report of an epoch, without values that depend on the clock."""
    metrics = {key: value for key, value in report.metrics.items() if key not in TIMES}
    return {**vars(report), "metrics": metrics}


def trained(config: TrainConfig, folder: Path | None = None) -> tuple[str, list[dict[str, Any]]]:
    received: list[dict[str, Any]] = []
    return bits(train(config, lambda report: received.append(plain(report)), folder)), received


# ---------------------------------------------------------------------------------------------- learning


def test_training_lowers_the_loss_and_learns_digits(tiny: Tiny) -> None:
    received = trained(tiny(epochs=5, embed_dim=32, batch_size=20))[1]
    assert received[-1]["metrics"]["loss"] < received[0]["metrics"]["loss"] - 0.3
    assert received[-1]["metrics"]["accuracy"] > 40.0
    assert received[-1]["metrics"]["accuracy"] > received[-1]["read_outs"][0]["chance"]


def test_each_epoch_reports_the_agreed_metrics_for_every_read_out_and_layer(tiny: Tiny) -> None:
    reports: list[EpochMetrics] = []
    train(tiny(), reports.append)
    assert [report.epoch for report in reports] == [1, 2]
    report = reports[-1]
    assert set(report.metrics) == {
        "accuracy", "loss", "spike_rate", "spikes", "synops", "macs", "energy_mj", "params_m", *TIMES,
    }  # fmt: skip
    assert [row["read_step"] for row in report.read_outs] == [1, 2]
    assert all(isinstance(value, float) for value in report.metrics.values())
    assert {"Conv", "LIF", "SpikeMatmul", "Head"} == {row["kind"] for row in report.layers}
    assert len({row["name"] for row in report.layers}) == len(report.layers)
    assert report.metrics["peak_mem_gib"] > 0.05
    json.dumps(vars(report))


@pytest.mark.parametrize(
    "keys",
    [
        {"mixup": 0.5},
        {"cutmix": 1.0},
        {"mixup": 0.5, "cutmix": 1.0, "smoothing": 0.1, "mixup_mode": "elem"},
        {"mixup": 0.5, "mixup_prob": 0.5, "mixup_mode": "pair"},
        {"smoothing": 0.1, "clip_grad": 1.0},
        {"aa": "rand-m9-n1-mstd0.4-inc1", "reprob": 0.25, "distort": True, "train_interpolation": "random"},
        {"node_type": "PLIFNode", "attn_scale": "learnable", "attn_drop": 0.1, "mlp_drop": 0.1},
        {"node_type": "IFNode", "act_function": "atan", "opt": "lamb", "sched": "tanh"},
        {"spike_penalty": 0.5, "read_step": 1, "amp": False},
    ],
    ids=str,
)
def test_every_way_of_training_runs(tiny: Tiny, keys: dict[str, Any]) -> None:
    (report,) = trained(tiny(epochs=1, **keys))[1]
    assert 0.0 <= report["metrics"]["accuracy"] <= 100.0
    assert 0.0 < report["metrics"]["loss"] < 10.0


def test_a_spike_penalty_lowers_the_spike_rate(tiny: Tiny) -> None:
    free, thrifty = (trained(tiny(epochs=1, spike_penalty=weight))[1][-1]["metrics"] for weight in (0.0, 2.0))
    assert 0.0 < thrifty["spike_rate"] < 0.8 * free["spike_rate"]


def test_mixup_is_off_from_its_epoch_on(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    enabled: list[bool] = []
    make = optim.make_mixup

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner, self.mixup_enabled = inner, True

        def __call__(self, x: Tensor, target: Tensor) -> Any:
            enabled.append(self.mixup_enabled)
            return self.inner(x, target)

    monkeypatch.setattr(optim, "make_mixup", lambda config: Spy(make(config)))
    train(tiny(epochs=3, mixup=0.5, mixup_off_epoch=2, batch_size=150))
    assert enabled == [True] * 4 + [False] * 2


def test_without_a_validation_part_all_images_are_trained_on_and_the_loss_is_reported(tiny: Tiny) -> None:
    reports: list[EpochMetrics] = []
    train(tiny(val_fraction=0.0, epochs=1, batch_size=300), reports.append)
    assert set(reports[0].metrics) == {"loss", "params_m", *TIMES}
    assert (reports[0].read_outs, reports[0].layers) == ([], [])
    assert not reports[0].is_at_chance


# ---------------------------------------------------------------------------------------------- same bits


def test_the_same_config_gives_the_same_bits_in_a_used_process(tiny: Tiny) -> None:
    config = tiny(mixup=0.2, distort=True, attn_drop=0.1, aa="rand-m9-n1-mstd0.4-inc1", reprob=0.2)
    first = trained(config)
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    trained(tiny(embed_dim=8, depths=2, epochs=1, node_type="IFNode"))
    torch.rand(100) @ torch.rand(100)
    assert trained(config) == first
    assert trained(tiny(**{**config.dump(), "seed": 4}))[0] != first[0]


def test_a_fresh_process_gives_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(distort=True, mixup=0.2)
    script = (
        "import hashlib, json, sys\n"
        "from trainers.config import TrainConfig\n"
        "from trainers.train import train\n"
        "reports = []\n"
        "model = train(TrainConfig.model_validate(json.loads(sys.argv[1])), reports.append)\n"
        "content = b''.join(value.numpy().tobytes() for value in model.state_dict().values())\n"
        "print(json.dumps([hashlib.sha256(content).hexdigest(), [vars(report) for report in reports]]))\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, json.dumps(config.dump())]
    out = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    digest, received = json.loads(out.splitlines()[-1])
    second = [plain(EpochMetrics(**{**report, "metrics": report["metrics"]})) for report in received]
    assert (digest, second) == trained(config)


FOUR_EPOCHS = {
    "epochs": 4,
    "warmup_epochs": 1,
    "cooldown_epochs": 1,
    "mixup": 0.2,
    "mixup_off_epoch": 3,
    "distort": True,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny: Tiny) -> tuple[str, list[dict[str, Any]]]:
    return trained(tiny(**FOUR_EPOCHS))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_stopped_after_any_epoch_and_resumed_gives_the_same_bits(
    tiny: Tiny, tmp_path: Path, uninterrupted: tuple[str, list[dict[str, Any]]], stop: int
) -> None:
    config, (bits_of_it, whole) = tiny(**FOUR_EPOCHS), uninterrupted
    received: list[dict[str, Any]] = []

    def until(report: EpochMetrics) -> None:
        received.append(plain(report))
        if report.epoch == stop:
            raise Stopped

    with pytest.raises(Stopped):
        train(config, until, tmp_path)
    assert received == whole[:stop]
    torch.rand(10)
    resumed, rest = trained(config, tmp_path)
    assert resumed == bits_of_it
    assert rest == whole[stop - 1 :], "the last saved epoch is reported again"


def test_a_training_killed_before_it_reported_is_resumed_from_what_was_saved(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(epochs=2)
    uninterrupted, whole = trained(config)

    def after_a_batch(done: int, batches: int) -> None:
        if (tmp_path / "epoch_0001.pt").exists():
            raise Stopped

    with pytest.raises(Stopped):
        train(config, folder=tmp_path, on_batch=after_a_batch)
    assert trained(config, tmp_path) == (uninterrupted, whole)


def test_a_finished_training_is_reported_once_more_without_further_training(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny()
    first, whole = trained(config, tmp_path)
    assert trained(config, tmp_path) == (first, whole[-1:])


def test_with_a_damaged_checkpoint_the_epoch_before_is_resumed_to_the_same_bits(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(epochs=3)
    uninterrupted, whole = trained(config, tmp_path)
    newest = checkpoint.generations(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert trained(config, tmp_path) == (uninterrupted, whole[1:])


@pytest.mark.parametrize("keys", [{"embed_dim": 32}, {"depths": 2}, {"node_type": "PLIFNode"}], ids=str)
def test_checkpoints_of_another_model_are_reported_and_not_loaded(
    tiny: Tiny, tmp_path: Path, keys: dict[str, Any]
) -> None:
    train(tiny(epochs=1), folder=tmp_path)
    with pytest.raises(ConfigError, match="its checkpoints are of another model"):
        train(tiny(epochs=1, **keys), folder=tmp_path)


def test_the_test_figures_are_those_of_the_last_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(distort=True)
    model = train(config, folder=tmp_path)
    figures = measure_test(model, config).metrics
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    second = train_module.create_model(config)
    second.load_state_dict(state["model"])
    assert measure_test(second, config).metrics == figures


# ---------------------------------------------------------------------------------------------- failures


def test_a_network_that_never_spikes_is_silent_at_the_second_check(tiny: Tiny, tmp_path: Path) -> None:
    received: list[EpochMetrics] = []
    with pytest.raises(TrainingFailure, match=r"^stem\.chain\.neurons\.0 emits fewer") as failure:
        train(tiny(epochs=5, threshold=100.0, attn_threshold=100.0), received.append, tmp_path)
    assert failure.value.failure_class == "silent"
    assert received == [], "by the fourth of six batches"


def test_a_silent_check_is_restored_when_the_training_is_resumed(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(epochs=5, threshold=100.0, batch_size=100)  # an epoch of three batches: one check, in the first

    def stop(report: EpochMetrics) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(config, stop, tmp_path)
    received: list[EpochMetrics] = []
    with pytest.raises(TrainingFailure, match="emits fewer"):
        train(config, received.append, tmp_path)
    assert [report.epoch for report in received] == [1]
    assert received[0].metrics["spike_rate"] == 0
    assert received[0].is_at_chance


def test_a_loss_that_is_not_a_number_ends_the_training_as_diverged(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    create = train_module.create_model

    def create_broken(config: TrainConfig) -> SpikingModel:
        model = create(config)
        nn.init.constant_(model.head.bias, float("nan"))  # type: ignore[arg-type,union-attr]
        return model

    monkeypatch.setattr(train_module, "create_model", create_broken)
    received: list[EpochMetrics] = []
    with pytest.raises(TrainingFailure) as failure:
        train(tiny(), received.append)
    assert failure.value.failure_class == "diverged"
    assert received == []


def test_an_output_that_is_not_causal_cannot_be_read_early(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpikingModel, "is_causal", False)
    with pytest.raises(
        ConfigError, match=r"read_step must equal step .* \(got read_step=1, step=2, node_type=LIFNode\)"
    ):
        train(tiny(read_step=1))


@pytest.mark.parametrize("device", ["cpu", None, 5, "cuda"])
def test_without_a_gpu_every_device_is_the_cpu(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asks_for_gpu = device in (5, "cuda")
    with pytest.warns(UserWarning, match=f"device: {device}: no GPU") if asks_for_gpu else nullcontext():
        assert prepare(tiny(device=device)) == torch.device("cpu")
    assert torch.get_num_threads() == 1


def test_an_index_must_be_that_of_a_gpu(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert prepare(tiny(device=1)) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"device must be below 2, the number of GPUs of this machine \(got 5\)"):
        prepare(tiny(device=5))
