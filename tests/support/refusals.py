"""What a refusal of data must look like."""

from __future__ import annotations

import warnings

import pytest

from trainers.config import TrainConfig
from trainers.data.sources import load_train
from trainers.datasets import DataError


def expect_one_sentence(config: TrainConfig, *parts: str) -> None:
    """Expects a DataError of one sentence that has all parts when loading, and no warning but that of other files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*published ones")
        with pytest.raises(DataError) as caught:
            load_train(config)
    text = str(caught.value)
    assert text.startswith(config.dataset)
    assert "\n" not in text
    assert all(part in text for part in parts), text
