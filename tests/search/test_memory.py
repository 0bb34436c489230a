"""What a training is predicted to hold, against what autograd keeps, and in which direction each key moves it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models import create_model
from search import memory
from search.feasible import input_shape
from trainers.config import TrainConfig

KEYS: dict[str, Any] = {"dataset": "digits", "model": "spikformer_cifar", "epochs": 1, "step": 2, "patch_size": 2}
KEYS |= {"embed_dim": 32, "num_heads": 2, "depths": 1, "batch_size": 8}
OTHERS = {
    "spikformer": {},
    "integer neurons": {"node_type": "ILIFNode"},
    "learned leak": {"node_type": "PLIFNode"},
    "parallel neurons": {"node_type": "PSN"},
    "spike-driven": {"model": "sdt_cifar"},
    "query-key": {"model": "qkformer_cifar", "depths": 4, "patch_size": 4},
    "shortcut on membranes": {"residual": "ms"},
}


def config(**keys: Any) -> TrainConfig:
    return TrainConfig.model_validate({**KEYS, **keys})


def gib(**keys: Any) -> float:
    return memory.predict(config(**keys)).gib


@pytest.mark.parametrize("keys", OTHERS.values(), ids=OTHERS)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(keys: dict[str, Any]) -> None:
    asked = config(**keys)
    predicted = memory.predict(asked).activations
    images = torch.rand(asked.batch_size, *input_shape(asked))
    labels = torch.zeros(asked.batch_size, dtype=torch.long)
    kept = memory.kept_for_backward(create_model(asked).train(), images, labels)
    rounding_is_kept_elsewhere = 0.11 if asked.node_type == "ILIFNode" else 0.0
    assert predicted == pytest.approx(kept, rel=rounding_is_kept_elsewhere + 1e-3)


@pytest.mark.parametrize(
    "more", [{"step": 4}, {"batch_size": 16}, {"embed_dim": 64}, {"depths": 2}, {"patch_size": 1}], ids=str
)
def test_a_larger_config_is_predicted_to_take_more(more: dict[str, Any]) -> None:
    assert gib(**more) > 1.05 * gib()


def test_what_is_kept_grows_in_a_straight_line_with_the_batch() -> None:
    small, middle, large = (memory.predict(config(batch_size=size)).activations for size in (8, 16, 256))
    assert large - middle == 30 * (middle - small)


@pytest.mark.parametrize(("opt", "states"), [("adamw", 2), ("sgd", 1)])
def test_an_optimizers_state_is_counted(opt: str, states: int) -> None:
    found = memory.predict(config(opt=opt))
    assert found.optimizer == pytest.approx(states * found.parameters, rel=1e-6)


def test_data_in_memory_counts_and_streamed_data_does_not() -> None:
    small = {"in_channels": 3, "img_size": 32, "patch_size": 4, "num_classes": 10}
    assert memory.predict(config(dataset="cifar10", **small)).data == 50_000 * 3 * 32 * 32
    assert memory.predict(config(dataset="imagefolder", **small)).data == 0


def test_what_trials_took_corrects_the_prediction() -> None:
    assert memory.learned_scale([]) == memory.UNKNOWN_SCALE
    assert memory.learned_scale([(1.0, 0.6), (2.0, 1.4), (4.0, 2.4)]) == pytest.approx(0.7)
    assert memory.learned_scale([(1.0, 1.1), (1.0, 1.2), (0.001, 1.0)]) == pytest.approx(1.2)


@pytest.mark.parametrize(("gib", "share"), [(0.1, 0.05), (5.4, 0.3), (19.4, 1.0), (100.0, 1.0)])
def test_a_share_of_a_card_holds_the_training_and_the_context(gib: float, share: float) -> None:
    assert memory.share_of_card(gib, 20.0) == pytest.approx(share)


def test_out_of_memory_is_tried_again_with_twice_the_share_up_to_a_whole_card() -> None:
    assert [memory.bigger_share(share) for share in (0.25, 0.6, 1.0)] == [0.5, 1.0, None]
