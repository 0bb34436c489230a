from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import InfeasibleError, check_feasible
from trainers import checkpoint, optim
from trainers import train as trainer
from trainers.augment.images import Augment
from trainers.config import TrainConfig
from trainers.data.sources import Split, load_train
from trainers.diagnostics.health import TrainingFailure
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.eligibility import obstacle, shape
from trainers.fused.training import FusedJob, Outcome, train_fused
from trainers.train import train

Tiny = Callable[..., TrainConfig]
Parts = tuple[Split, Split]
Received = dict[Hashable, list[Outcome]]

MEASURED = ("images_per_s", "peak_mem_gib")

FAMILIES: dict[str, dict[str, Any]] = {
    "spikformer_cifar": {},
    "sdt_cifar": {},
    "qkformer_cifar": {"embed_dim": 32, "depths": 3},
    "tim": {"model": "spikformer_cifar", "attn_layer": "TIM", "patch_size": 2},
    "msvit_cifar": {"embed_dim": 32, "depths": 3},
    "semm_cifar": {},
    "stmixer_cifar": {},
    "maxformer_cifar": {"embed_dim": 32, "depths": 3, "pos_layer": "learned"},
    "swformer_cifar": {},
    "wavelet": {"model": "spikformer_cifar", "attn_layer": "FATM"},
    "random": {"model": "spikingformer_cifar", "attn_layer": "random"},
}


@pytest.fixture(scope="module")
def parts() -> Parts:
    """64 training and 40 validation digits."""
    data = load_train(TrainConfig.model_validate({"dataset": "digits", "model": "spikformer_cifar", "epochs": 1}))[0]
    assert isinstance(data, Split)
    return Split(data.images[:64], data.labels[:64]), Split(data.images[64:104], data.labels[64:104])


class _Double(Augment):
    def plain(self, images: Tensor) -> Tensor:
        return super().plain(images).double()

    def train(self, images: Tensor) -> Tensor:
        return super().train(images).double()


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trains in float64, where roundings are too small to carry a membrane over its threshold."""
    monkeypatch.setattr(trainer, "make_augment", _Double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def fused(configs: Sequence[TrainConfig], parts: Parts, folder: Path | None = None, stop_at: int = 99) -> Received:
    """Returns the outcomes of the configs, by number, trained as one, with checkpoints in the folder, if any."""
    received: Received = {k: [] for k in range(len(configs))}

    def on_epochs(outcomes: dict[Hashable, Outcome]) -> list[Hashable]:
        for name, outcome in outcomes.items():
            received[name].append(outcome)
        return [name for name, outcome in outcomes.items() if getattr(outcome, "epoch", 0) >= stop_at]

    train_fused({k: FusedJob(config, folder and folder / str(k)) for k, config in enumerate(configs)}, on_epochs, parts)
    return received


def alone(config: TrainConfig, parts: Parts, folder: Path | None = None) -> list[Outcome]:
    """Returns the outcomes of the same training alone."""
    received: list[Outcome] = []
    try:
        train(config, received.append, folder, parts=parts)
    except TrainingFailure as failure:
        received.append(failure)
    return received


def numbers(outcomes: list[Outcome]) -> dict[str, float]:
    """Returns all numbers of the epochs except times and memory."""
    found: dict[str, float] = {}
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            continue
        rows = {"": outcome.metrics, **{str(row["read_step"]): row for row in outcome.read_outs}}
        rows |= {row["name"]: {k: v for k, v in row.items() if not isinstance(v, str)} for row in outcome.layers}
        for name, row in rows.items():
            found |= {f"{outcome.epoch} {name} {key}": value for key, value in row.items() if key not in MEASURED}
    return found


def assert_same(outcomes: list[Outcome], others: list[Outcome]) -> None:
    """Asserts that all numbers are equal up to rounding, and failures exactly."""
    assert numbers(outcomes) == pytest.approx(numbers(others), rel=1e-6, abs=1e-9)
    failures, expected = ([repr(x) for x in received if isinstance(x, Exception)] for received in (outcomes, others))
    assert failures == expected


of_each = st.fixed_dictionaries(
    {
        "tau": st.floats(1.1, 3.0),
        "threshold": st.floats(0.5, 1.5),
        "attn_threshold": st.floats(0.3, 0.8),
        "tim_threshold": st.floats(0.2, 0.5),
        "alpha": st.floats(1.0, 8.0),
        "attn_scale": st.floats(0.1, 0.3),
        "lr": st.floats(0.001, 0.03),
        "weight_decay": st.sampled_from([0.0, 0.01, 0.1]),
        "clip_grad": st.sampled_from([None, 0.5]),
        "smoothing": st.sampled_from([0.0, 0.1]),
        "tet": st.sampled_from([None, 0.0, 0.2]),
        "model_ema": st.booleans(),
        "model_ema_decay": st.sampled_from([0.5, 0.9998]),
        "spike_penalty": st.sampled_from([0.0, 0.5]),
        "seed": st.integers(0, 99),
    }
)
of_all = st.fixed_dictionaries(
    {
        "step": st.integers(2, 4),
        "node_type": st.sampled_from(["LIFNode", "LIFNode", "IFNode"]),
        "act_function": st.sampled_from(["sigmoid", "atan"]),
        "hflip": st.sampled_from([0.0, 0.5]),
        "mixup": st.sampled_from([0.0, 0.4]),
        "token_keep": st.sampled_from([1.0, 1.0, 0.6]),
    }
)


def check_equal(family: str, shared: dict[str, Any], members: list[dict[str, Any]], tiny: Tiny, parts: Parts) -> None:
    keys = {"model": family, "batch_size": 32, "val_batch_size": 40, **FAMILIES[family], **shared}
    try:
        check_feasible(tiny(**keys))
    except InfeasibleError:
        keys["token_keep"] = 1.0  # their blocks mix tokens
    configs = [tiny(**{**keys, **member}) for member in members]
    assert {shape(config) for config in configs} == {shape(configs[0])}
    assert [obstacle(config) for config in configs] == [None] * len(configs)
    received = fused(configs, parts)
    for k, config in enumerate(configs):
        assert_same(received[k], alone(config, parts))


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shared=of_all, members=st.lists(of_each, min_size=2, max_size=3))
def test_a_training_gives_the_same_results_fused_and_alone(
    shared: dict[str, Any], members: list[dict[str, Any]], tiny: Tiny, parts: Parts, double: None
) -> None:
    check_equal("spikformer_cifar", shared, members, tiny, parts)


@pytest.mark.parametrize("family", ["msvit_cifar", "stmixer_cifar"])
def test_a_training_of_the_newer_families_gives_the_same_results_fused_and_alone(
    family: str, tiny: Tiny, parts: Parts, double: None
) -> None:
    members = [{"tau": 1.5, "lr": 0.01, "seed": 1}, {"tau": 2.5, "threshold": 0.8, "lr": 0.003, "tet": 0.1, "seed": 2}]
    check_equal(family, {"epochs": 2, "hflip": 0.5}, members, tiny, parts)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shared=of_all, members=st.lists(of_each, min_size=2, max_size=3))
def test_a_training_of_any_family_gives_the_same_results_fused_and_alone(
    family: str, shared: dict[str, Any], members: list[dict[str, Any]], tiny: Tiny, parts: Parts, double: None
) -> None:
    check_equal(family, shared, members, tiny, parts)


@pytest.fixture
def three(tiny: Tiny) -> list[TrainConfig]:
    """Configs of one shape; the second has a loss of each step and averaged weights."""
    others = [{}, {"tet": 0.1, "model_ema": True}, {}]
    return [tiny(batch_size=32, epochs=3, tau=1.5 + k / 4, lr=0.01 * (k + 1), seed=k, **others[k]) for k in range(3)]


def test_a_training_resumes_from_a_fused_checkpoint_and_the_other_way_round(
    three: list[TrainConfig], parts: Parts, double: None, tmp_path: Path
) -> None:
    expected = [alone(config, parts) for config in three[:2]]
    first = fused(three[:2], parts, tmp_path, stop_at=1)
    then = alone(three[0], parts, tmp_path / "0")
    assert_same(first[0][:1] + then[1:], expected[0])
    last = fused(three, parts, tmp_path)
    assert [outcome.epoch for outcome in last[0] if isinstance(outcome, EpochMetrics)] == [3]
    assert_same(last[1], expected[1])
    assert_same(last[2], alone(three[2], parts))


def test_fused_and_single_checkpoints_hold_the_same(
    three: list[TrainConfig], parts: Parts, double: None, tmp_path: Path
) -> None:
    fused(three, parts, tmp_path)
    alone(three[1], parts, tmp_path / "alone")
    found, expected = (checkpoint.load_newest(tmp_path / name) for name in ("1", "alone"))
    assert found is not None
    assert expected is not None
    assert found["model"].keys() == expected["model"].keys()
    assert found["ema"]["num_updates"] == expected["ema"]["num_updates"]
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(found["model"][name], tensor, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            found["ema"]["trained"][name], expected["ema"]["trained"][name], rtol=1e-6, atol=1e-8
        )
    assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]
    for number, state in expected["optimizer"]["state"].items():
        for name, tensor in state.items():
            torch.testing.assert_close(found["optimizer"]["state"][number][name], tensor, rtol=1e-6, atol=1e-12)
    sizes = [checkpoint.generations(tmp_path / name)[0].stat().st_size for name in ("1", "alone")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_a_failed_member_does_not_affect_the_others(
    three: list[TrainConfig], parts: Parts, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_loss = optim.make_loss
    monkeypatch.setattr(optim, "make_loss", lambda config: _NotFinite() if config.seed == 1 else make_loss(config))
    received = fused([config.model_copy(update={"log_interval": 1}) for config in three], parts)
    (failure,) = received[1]
    assert isinstance(failure, TrainingFailure)
    assert (failure.failure_class, str(failure)) == ("diverged", "the gradient of stem.chain.convs.0 is nan")
    for k in (0, 2):
        assert_same(received[k], alone(three[k], parts))


class _NotFinite(torch.nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.sum() * float("nan")


def test_a_silent_member_fails_as_in_a_single_training(three: list[TrainConfig], parts: Parts, double: None) -> None:
    silent = three[1].model_copy(update={"threshold": 100.0})
    received = fused([three[0], silent, three[2]], parts)
    assert isinstance(received[1][-1], TrainingFailure)
    assert_same(received[1], alone(silent, parts))
    assert [len(received[k]) for k in (0, 2)] == [3, 3]


def test_an_error_in_one_member_ends_that_member_only(three: list[TrainConfig], parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "1").write_text("where a folder should be")
    received = fused(three, parts, tmp_path)
    assert isinstance(received[1][0], OSError)
    assert [len(received[k]) for k in (0, 2)] == [3, 3]


def test_a_member_reports_its_share_of_the_memory(
    three: list[TrainConfig], parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "peak_gib", lambda device: 6.0)
    received = fused(three, parts, stop_at=1)
    assert [outcome.metrics["peak_mem_gib"] for (outcome,) in received.values()] == [2.0] * 3
    assert alone(three[0], parts)[0].metrics["peak_mem_gib"] == 6.0


def test_a_stopped_member_trains_no_further_and_the_others_continue(
    three: list[TrainConfig], parts: Parts, double: None
) -> None:
    received: Received = {k: [] for k in range(3)}

    def on_epochs(outcomes: dict[Hashable, Outcome]) -> list[Hashable]:
        for name, outcome in outcomes.items():
            received[name].append(outcome)
        return [0] if 0 in outcomes else []

    train_fused({k: FusedJob(three[k]) for k in range(3)}, on_epochs, parts)
    assert [len(received[k]) for k in range(3)] == [1, 3, 3]
    for k in (1, 2):
        assert_same(received[k], alone(three[k], parts))
