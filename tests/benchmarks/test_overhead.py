"""Figures of the overhead benchmark from synthetic measurements; no search is run."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.overhead import Measurement, Workload, no_op_figures, start_figures, trial_figures


def training(pid: int, started: float, ended: float, **more: float) -> dict[str, float]:
    """A training that builds its model for 0.25 s right after its start, and then is in its epochs for 8 s."""
    return {"pid": pid, "started": started, "first_step": started + 0.5, "ended": ended, "own_s": 8.0, "build_s": 0.25}


def measurement(**driver: Any) -> Measurement:
    trainings = [training(1, 110, 119), training(2, 110, 119), training(1, 119.5, 128.5), training(2, 119.5, 129)]
    return Measurement(Workload(4, 10), 100.0, 132.0, trainings, {"cpu_s": 3.0, **driver}, 1.0)


def test_overhead_is_the_share_of_the_slots_time_without_training() -> None:
    assert trial_figures(measurement())["overhead"] == pytest.approx(1 - 4 * 8 / (32 * 2))


def test_a_start_counts_from_the_command_or_the_last_training_and_without_the_model() -> None:
    found = start_figures(measurement())
    assert found["until_first_step_s"] == pytest.approx(10.5)
    assert found["start_in_reused_worker_s"] == pytest.approx(0.5 + 0.5 - 0.25)


def test_the_time_after_the_last_training_is_reported() -> None:
    assert trial_figures(measurement())["after_last_training_s"] == pytest.approx(3.0)
    assert trial_figures(measurement())["beside_epochs_in_a_training_s"] == pytest.approx(0.5)


def test_the_loop_is_reported_in_percentiles_and_memory_as_growth_after_the_start() -> None:
    suggested = [(float(i), 200.0 + i) for i in range(20)]
    steps = [0.001] * 98 + [0.02, 0.5]
    found = no_op_figures(measurement(suggested=suggested, seconds={"step": steps, "on_trial_result": [0.1] * 20}))
    assert found["loop_blocked_ms"]["step"] == {"p50": 1.0, "p99": 500.0, "max": 500.0}
    assert found["memory_growth_mib"] == pytest.approx(17.0)
    assert found["driver_cpu_ms_per_report"] == pytest.approx(150.0)
