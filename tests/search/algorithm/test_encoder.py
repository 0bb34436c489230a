"""Encoding of configs as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from search.algorithm.encoder import Encoder
from search.space.space import Space

Read = Callable[..., Space]
SPACE = (
    "space={lr: {log_uniform: [1.0e-4, 1.0e-2]}, step: {choice: [1, 2, 4]}, "
    "attn_layer: {choice: {SSA: {attn_scale: {uniform: [0.1, 0.5]}}, SDSA: null}}}"
)


def test_numbers_are_encoded_by_position_and_options_as_corners_at_distance_one(read_space: Read) -> None:
    encode = Encoder(read_space(SPACE))
    rows = encode(
        [
            {"lr": 1e-3, "step": 2, "attn_layer": "SSA", "attn_scale": 0.1},
            {"lr": 1e-2, "step": 4, "attn_layer": "SDSA"},
        ]
    )
    corner = math.sqrt(0.5)
    assert rows.shape == (2, len(encode.groups))
    np.testing.assert_allclose(rows[0], [0.5, 0.5, corner, 0.0, 0.0])
    np.testing.assert_allclose(rows[1], [1.0, 1.0, 0.0, corner, 0.5])


def test_a_conditional_key_that_is_absent_is_encoded_as_the_middle_of_its_range(read_space: Read) -> None:
    absent, middle = Encoder(read_space(SPACE))(
        [
            {"lr": 1e-3, "step": 2, "attn_layer": "SDSA"},
            {"lr": 1e-3, "step": 2, "attn_layer": "SDSA", "attn_scale": 0.3},
        ]
    )
    np.testing.assert_allclose(absent, middle)
