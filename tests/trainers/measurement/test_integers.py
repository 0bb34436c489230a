"""Accuracy of trained networks as integers, against the machine that visits every spike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.chip.executor import execute
from models.chip.lowering import lower
from models.chip.quantize import Precision, quantize
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.data import Split, load_train
from trainers.epoch_metrics import EpochMetrics
from trainers.train import train

Tiny = Callable[..., TrainConfig]
IMAGES = 30


def parts(config: TrainConfig) -> tuple[Split, Split]:
    """Returns the training part and a few validation images."""
    data, validation = load_train(config)
    assert isinstance(data, Split)
    assert isinstance(validation, Split)
    return data, Split(validation.images[:IMAGES], validation.labels[:IMAGES])


def trained(config: TrainConfig) -> tuple[Any, list[EpochMetrics]]:
    reports: list[EpochMetrics] = []
    return train(config, reports.append, parts=parts(config)), reports


@pytest.mark.parametrize("quant_bits", [None, 4])
def test_read_outs_of_the_last_epoch_have_the_accuracy_of_the_counting_machine(
    tiny: Tiny, quant_bits: int | None
) -> None:
    config = tiny(measure_int8=True, quant_bits=quant_bits, lr=0.02)
    model, (first, last) = trained(config)
    assert [row.keys() & {"accuracy_int8"} for row in first.read_outs] == [set(), set()]
    validation = parts(config)[1]
    x = make_augment(config, torch.device("cpu")).plain(validation.images).double()
    graph = quantize(lower(model, x[0]), Precision(8), config.input_range())
    logits = np.stack([execute(graph, one.numpy()).logits for one in x]).cumsum(1)
    correct = (logits.argmax(2) == validation.labels.numpy()[:, None]).sum(0)
    assert [row["accuracy_int8"] for row in last.read_outs] == pytest.approx((100.0 * correct / IMAGES).tolist())
    assert "accuracy_int8" not in last.metrics


def test_it_is_off_by_default_and_changes_no_weight(tiny: Tiny) -> None:
    (plain, reports), (measured, _) = (trained(tiny(epochs=1, measure_int8=on)) for on in (False, True))
    assert all("accuracy_int8" not in row for row in reports[-1].read_outs)
    assert all(torch.equal(value, measured.state_dict()[key]) for key, value in plain.state_dict().items())


def test_a_network_without_an_integer_form_is_measured_without_it(tiny: Tiny) -> None:
    with pytest.warns(UserWarning, match=r"accuracy_int8 is not measured: stem\..*: "):
        _, reports = trained(tiny(epochs=1, node_type="GLIFNode", measure_int8=True))
    assert all("accuracy_int8" not in row for row in reports[-1].read_outs)


def test_the_range_of_images_is_that_of_pixels_from_0_to_1(tiny: Tiny) -> None:
    config = tiny(mean=[0.5], std=[0.25])
    assert config.input_range() == (-2.0, 2.0)
    assert tiny(encoding="rate").input_range() == (0.0, 1.0)
