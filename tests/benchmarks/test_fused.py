from __future__ import annotations

import time

import pytest

from benchmarks import fused


def test_a_group_is_measured_against_its_members_one_by_one() -> None:
    found = fused.measure(fused.configs(2, 4, "cpu", "8x8"), rounds=1, clock=time.process_time)
    assert found["fused_s"] > 0
    assert found["ratio"] == found["one_by_one_s"] / found["fused_s"]


@pytest.mark.slow
def test_trainings_of_a_group_are_measured_in_processes_of_their_own() -> None:
    assert fused.in_processes(fused.configs(1, 4, "cpu", "8x8"), seconds=0.5) > 0
