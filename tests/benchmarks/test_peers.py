"""The comparison with a peer's training: its keys, and what both sides share."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks import peer_training, peers
from trainers.config import TrainConfig
from trainers.data.split import Split

KEYS = {"embed_dim": 16, "num_heads": 2, "epochs": 2, "train_images": 64, "batch_size": 32}


@pytest.fixture
def config() -> TrainConfig:
    return peers.make_config("digits", **KEYS)


def test_the_recipe_is_that_of_the_space() -> None:
    config = peers.make_config("cifar10", data_dir="somewhere", train_images=500)
    assert (config.img_size, config.num_heads, config.embed_dim, config.depths, config.step) == (16, 4, 64, 1, 2)
    assert (config.mixup, config.reprob, config.aa, config.data_dir, config.train_images) == (
        0,
        0,
        None,
        "somewhere",
        500,
    )


def test_both_sides_have_the_same_seeds_images_and_recipe(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[TrainConfig, tuple[Split, Split]]]] = {"ours": [], "peer": []}

    def record(side: str, accuracy: float) -> object:
        def train(config: TrainConfig, parts: tuple[Split, Split]) -> dict[str, float]:
            seen[side].append((config, parts))
            values = dict.fromkeys(peers.MEASURED, 0.5)
            return {**values, "accuracy": accuracy + config.seed}

        return train

    monkeypatch.setattr(peers, "train_ours", record("ours", 50.0))
    monkeypatch.setattr(peer_training, "train", record("peer", 49.0))
    found = peers.compare_trainings(config, 3)
    assert [one.seed for one, _ in seen["ours"]] == [one.seed for one, _ in seen["peer"]] == [0, 1, 2]
    for (config, parts), (peers_config, peers_parts) in zip(seen["ours"], seen["peer"], strict=True):
        assert config == peers_config
        assert parts[0] is peers_parts[0]
        assert parts[1] is peers_parts[1]
    assert found["accuracy_difference"] == pytest.approx(1.0)
    assert found["standard_error"] == pytest.approx(math.sqrt(2.0 / 3.0))  # stdev 1 on both sides
    assert found["ours"]["accuracy"]["values"] == [50.0, 51.0, 52.0]


def test_our_training_measures_what_the_peers_does(config: TrainConfig) -> None:
    images = torch.randint(256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    split = Split(images, torch.arange(64) % 10)
    ours, theirs = peers.train_ours(config, (split, split)), peer_training.train(config, (split, split))
    assert set(ours) == set(theirs) == set(peers.MEASURED)
    assert min(ours["images_per_cpu_s"], theirs["images_per_cpu_s"]) > 0.0


def test_steps_are_compared_with_the_peers_and_the_shipped_net() -> None:
    config = peers.make_config("cifar10", **{**KEYS, "batch_size": 4, "train_images": 4})
    found = peers.compare_steps(config, rounds=1)
    assert min(found["step_vs_peer"], found["step_vs_shipped"]) > 0.0
    assert set(found["step_images_per_cpu_s"]) == {"ours", "peer", "ours_pool_first", "shipped"}
