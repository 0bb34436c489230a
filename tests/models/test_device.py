"""Copies to the device of another tensor."""

from __future__ import annotations

import torch

from models.device import copy_to


def test_a_copy_has_the_values_and_dtype_of_the_host() -> None:
    numbers = torch.tensor([1.5, 2.5], dtype=torch.float64)
    copied = copy_to(torch.zeros(3), numbers)
    assert copied.dtype == torch.float64
    assert copied.tolist() == [1.5, 2.5]
    assert copy_to(torch.zeros(3, device="meta"), numbers).is_meta
