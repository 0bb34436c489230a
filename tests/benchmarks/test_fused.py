from __future__ import annotations

import time

import pytest

from benchmarks import fused


def test_a_fused_training_is_compared_with_single_ones() -> None:
    found = fused.measure(fused.configs(2, 4, "cpu", "8x8"), rounds=1, clock=time.process_time)
    assert found["fused_s"] > 0
    assert found["ratio"] == found["one_by_one_s"] / found["fused_s"]


@pytest.mark.slow
def test_single_trainings_are_measured_in_separate_processes() -> None:
    assert fused.in_processes(fused.configs(1, 4, "cpu", "8x8"), seconds=0.5) > 0
