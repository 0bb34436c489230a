"""The events derived from the digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainers.config import TrainConfig, share_key
from trainers.data.digits import _record
from trainers.data.sources import Split, from_arrays, load_test, load_train, to_arrays
from trainers.train import train

Tiny = Callable[..., TrainConfig]
EVENTS = {"dataset": "digits_dvs", "in_channels": 2, "img_size": 16, "step": 4, "embed_dim": 16, "patch_size": 4}


@pytest.fixture(scope="module")
def parts(tiny: Tiny) -> tuple[Split, Split]:
    data, validation = load_train(tiny(**EVENTS, val_fraction=0.1))
    assert isinstance(data, Split)
    assert isinstance(validation, Split)
    return data, validation


def test_events_have_the_labels_and_the_split_of_the_digits(tiny: Tiny, parts: tuple[Split, Split]) -> None:
    data, validation = parts
    assert data.images.shape == (1351, 4, 2, 16, 16)
    images, images_validation = load_train(tiny(val_fraction=0.1))
    assert torch.equal(data.labels, images.labels)
    assert torch.equal(validation.labels, images_validation.labels)
    assert torch.equal(load_test(tiny(**EVENTS)).labels, load_test(tiny()).labels)


def test_events_are_equal_at_every_call(tiny: Tiny, parts: tuple[Split, Split]) -> None:
    assert torch.equal(parts[0].images, load_train(tiny(**EVENTS, val_fraction=0.1))[0].images)


def test_each_frame_has_equally_many_events_but_the_last(parts: tuple[Split, Split]) -> None:
    per_frame = parts[0].images.long().sum((2, 3, 4))
    assert (per_frame[:, :3] == per_frame[:, :1]).all()
    assert (per_frame[:, 3] - per_frame[:, 0] < 4).all()
    assert per_frame.min() > 50


def test_the_number_of_steps_changes_no_event(tiny: Tiny, parts: tuple[Split, Split]) -> None:
    for step in (1, 10):
        other = load_train(tiny(**{**EVENTS, "step": step}, val_fraction=0.1))[0]
        assert torch.equal(other.images.long().sum(1), parts[0].images.long().sum(1))


def test_on_and_off_events_cancel_if_the_camera_ends_at_its_start() -> None:
    image = np.zeros((1, 8, 8))
    image[0, 2:6, 3:5] = 1.0
    events = _record(image)[0]
    signed = np.zeros((16, 16))
    np.add.at(signed, (events.y, events.x), np.where(events.p == 1, 1, -1))
    assert abs(signed).max() <= 1
    assert not len(_record(np.zeros((1, 8, 8)))[0].t), "no contrast, no events"


def test_a_network_learns_from_them(tiny: Tiny, parts: tuple[Split, Split]) -> None:
    received: list[float] = []
    config = tiny(**EVENTS, batch_size=20, epochs=3, threshold=0.5, attn_threshold=0.25)
    some = parts[0].take(np.arange(500)), parts[1]
    train(config, lambda report: received.append(report.metrics["accuracy"]), parts=some)
    assert received[-1] > 20


# ---------------------------------------------------------------------------------------------- one copy for all


def test_shared_arrays_are_used_without_a_copy_and_give_the_same_training(tiny: Tiny) -> None:
    config, received = tiny(epochs=1), []
    arrays = to_arrays(load_train(config))
    for array in arrays:
        array.setflags(write=False)  # as Ray's object store hands them out
    shared = from_arrays(arrays)
    assert shared[0].images.data_ptr() == arrays[0].ctypes.data
    alone = train(config, lambda report: received.append(report.metrics)).state_dict()
    together = train(config, lambda report: received.append(report.metrics), parts=shared).state_dict()
    assert all(torch.equal(alone[key], together[key]) for key in alone)
    assert received[0]["accuracy"] == received[1]["accuracy"]


def test_configs_share_data_when_only_other_keys_differ(tiny: Tiny) -> None:
    images = {"dataset": "cifar10", "in_channels": 3, "img_size": 32}
    events = {"dataset": "cifar10_dvs", "in_channels": 2, "img_size": 32}
    assert share_key(tiny(**images, lr=0.1, step=1)) == share_key(tiny(**images, lr=0.2, step=4))
    assert share_key(tiny(**images, split_seed=1)) != share_key(tiny(**images, split_seed=2))
    assert share_key(tiny(**images, train_images=50)) != share_key(tiny(**images))
    assert share_key(tiny(**{**images, "img_size": 16})) != share_key(tiny(**images))
    assert share_key(tiny(**events)) != share_key(tiny(**events, step=3))
    assert share_key(tiny(dataset="imagefolder", in_channels=3, img_size=32)) is None
    assert share_key(tiny()) is None


def test_spikingresformer_trains_on_events_with_its_third_channel(tiny: Tiny, parts: tuple[Split, Split]) -> None:
    keys = {"model": "spikingresformer_cifar", "embed_dim": [16, 16, 16], "num_heads": 1, "depths": [1, 1, 1]}
    config, received = tiny(**{**EVENTS, **keys, "in_channels": 3, "epochs": 1}), []
    data, validation = (part.take(np.arange(60)) for part in parts)
    train(config, received.append, parts=(data, validation))
    assert received[0].metrics["synops"] > 0
