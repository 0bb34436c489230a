from __future__ import annotations

from results import StudyResult
from results.charts.space import failure_chart, parallel_chart


def test_failures_are_plotted_by_class_on_every_active_key(many_trials: StudyResult) -> None:
    failed = many_trials.select("failed")
    (trace,) = [t for t in failure_chart(many_trials)["data"] if t["name"].startswith("diverged")]
    assert len(trace["x"]) == sum(len(trial.params) for trial in failed)


def test_an_inactive_key_is_plotted_below_the_others(many_trials: StudyResult) -> None:
    chart = parallel_chart(many_trials, many_trials.epochs)
    heights = [y for trace in chart["data"] for y in trace["y"] if y is not None]
    assert min(heights) < 0
    assert max(heights) <= 1
