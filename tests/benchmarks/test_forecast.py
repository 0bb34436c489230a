"""The benchmark of forecasts, on simulated searches."""

from __future__ import annotations

import pytest

from benchmarks import forecast
from search.simulation.simulator import Event, Trace


def test_the_remaining_time_of_simulated_searches_is_near_the_truth() -> None:
    for mode in ("promote", "stop"):
        for share, ratio in forecast.ratios_of(
            forecast.TABLES / "misleading", mode, "{{epochs: {0}, epochs_total: 540}}", 0, workers=2
        ):
            assert ratio == pytest.approx(1.0, abs=0.35), (mode, share)


def test_the_progress_of_a_simulated_trial_leaves_out_its_pauses() -> None:
    events = [
        Event(0.0, 0.0, 0, 0, 0, "start"),
        Event(2.0, 1.0, 0, 0, 1, "pause"),
        Event(10.0, 1.0, 0, 0, 1, "resume"),
        Event(12.0, 2.0, 0, 0, 2, "epoch"),
        Event(13.0, 3.0, 1, 1, 0, "start"),
    ]
    paused, resumed = forecast.progress_at(Trace(2, events), 5.0), forecast.progress_at(Trace(2, events), 15.0)
    assert [(trial.epochs, trial.seconds, trial.state) for trial in paused] == [(1.0, 2.0, "paused")]
    assert [(trial.epochs, trial.seconds, trial.state) for trial in resumed] == [
        (2.0, 4.0, "running"),
        (0.0, 2.0, "running"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90 s", 90.0), ("3 min", 180.0), ("2.5 h", 9000.0), ("1,200 days", 1200 * 86400.0)]
)
def test_the_time_is_read_from_a_dry_run(text: str, seconds: float) -> None:
    assert forecast.forecast_s(f"x\nthe search: about 101 epochs, {text} with 2 at a time\n") == seconds


def test_the_ratio_is_that_of_the_first_moment_after_the_share() -> None:
    assert forecast.ratio_after([(10.0, 99.0), (40.0, 30.0), (90.0, 1.0)], 100.0, 1 / 3) == pytest.approx(0.5)
