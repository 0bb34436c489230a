"""What a study, a trial and a point show in a terminal and in a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from results import StudyResult, TrialResult

Make = Callable[..., StudyResult]


def test_a_study_shows_its_trials_and_front_in_a_few_lines(make_study: Make) -> None:
    study = make_study([(80.0, 0.10), (90.0, 0.20)], [(70.0, 0.15)], constraints={"accuracy": {"min": 50.0}})
    assert repr(study).splitlines() == [
        "study quickstart: 2 trials (2 complete)",
        "objectives:    maximize accuracy, minimize spike_rate",
        "constraints:   accuracy >= 50",
        "searched:      step, attn_layer, attn_scale, alpha, lr",
        "full training: 3 epochs",
        "front:         2 points of 3 candidates",
        "  trial  read  accuracy  spike_rate  synops  energy_mj  config",
        "  t0000   T=2   90.00 %         0.2   4e+05    0.01186  step=2 <- knee",
        "  t0000   T=1   80.00 %         0.1   1e+05    0.01159  step=2",
    ]


def test_a_study_of_a_thousand_trials_shows_no_more_lines(make_study: Make) -> None:
    study = make_study(*([(50.0 + i / 100, i / 1000)] for i in range(1, 1000)))
    assert len(study.front()) == 999
    assert len(repr(study)) < 2500
    assert len(study._repr_html_()) < 4000


def test_a_study_before_its_first_trial_shows_its_settings(make_study: Make) -> None:
    assert repr(make_study()).splitlines()[0] == "study quickstart: 0 trials"
    assert repr(make_study()).splitlines()[-1] == "front:         0 points of 0 candidates"
    assert "<table>" not in make_study()._repr_html_()


def test_the_summary_in_a_notebook_is_html_with_the_front(make_study: Make) -> None:
    html = make_study([(80.0, 0.1)])._repr_html_()
    assert "<b>study quickstart: 1 trial (1 complete)</b>" in html
    assert "<td>t0000</td><td>T=1</td><td>80.00 %</td>" in html


def test_names_and_values_are_escaped_in_html(make_study: Make) -> None:
    study = dataclasses.replace(make_study([(80.0, 0.1)]), name="<script>alert(1)</script>", searched=("<b>",))
    trial = dataclasses.replace(study.trials[0], params={"step": "<img src=x>"})
    html = dataclasses.replace(study, trials=(trial,))._repr_html_()
    assert not any(tag in html for tag in ("<script>", "<img", "<b>,", ": <b>"))


def test_a_trial_and_a_point_are_one_line_each(make_study: Make) -> None:
    trial = make_study([(80.0, 0.1), (90.0, 0.2)]).trial(0)
    metrics = "accuracy 90.00 %, spike_rate 0.2, synops 4e+05, energy_mj 0.01186"
    assert repr(trial) == f"TrialResult(t0000 complete, 3 epochs; {metrics}; step=2)"
    metrics = "accuracy 80.00 %, spike_rate 0.1, synops 1e+05, energy_mj 0.01159"
    assert repr(trial.points()[0]) == f"FrontPoint(t0000 read after 1 step; {metrics}; step=2)"


def test_a_failed_trial_shows_its_reason_in_one_line() -> None:
    trial = TrialResult(3, "failed", {}, failure_class="error", failure_reason="no memory\nTraceback ...")
    assert repr(trial) == "TrialResult(t0003 failed, 0 epochs; error: no memory)"
