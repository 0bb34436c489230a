from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import results
from results import StudyResult, front_figure, load, write_front_png
from results.figures import FIGURES, write_figures

Make = Callable[..., StudyResult]


def legend(study: StudyResult) -> list[str]:
    return [text.get_text() for legend in front_figure(study).legends for text in legend.get_texts()]


def test_the_figure_counts_what_it_shows(study_folder: Path) -> None:
    labels = legend(load(study_folder))
    assert labels == ["stopped early (1, 1 out of view)", "all read-outs at full fidelity (8)", "front (4)", "knee"]


def test_axes_are_the_first_two_objectives_with_units(make_study: Make) -> None:
    axes = front_figure(make_study([(90.0, 0.1)])).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "Spike rate (spikes per neuron and step)",
        "Validation accuracy (%)",
    )


@pytest.mark.parametrize(
    ("objectives", "x", "y"),
    [
        ({"accuracy": "maximize"}, "Spike rate", "Validation accuracy"),
        ({"spike_rate": "minimize"}, "Validation accuracy", "Spike rate"),
        ({"synops": "minimize", "accuracy": "maximize", "loss": "minimize"}, "Validation accuracy", "Synaptic"),
    ],
)
def test_any_number_of_objectives_is_plotted(make_study: Make, objectives: dict[str, str], x: str, y: str) -> None:
    axes = front_figure(make_study([(80.0, 0.1), (90.0, 0.2)], objectives=objectives)).axes[0]
    assert axes.get_xlabel().startswith(x)
    assert axes.get_ylabel().startswith(y)


def test_the_step_line_joins_the_front_without_cutting_through_it(make_study: Make) -> None:
    study = make_study([(90.0, 0.3)], [(80.0, 0.1)], [(85.0, 0.2)], [(70.0, 0.4)])
    (line,) = front_figure(study).axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(0.1, 80.0), (0.2, 85.0), (0.3, 90.0)]


def test_the_knee_is_named_with_its_read_out(make_study: Make) -> None:
    study = make_study([(90.0, 0.9)], [(88.0, 0.2), (87.0, 0.95)], [(50.0, 0.1)])
    title = front_figure(study).axes[0].get_title(loc="right")
    assert title == "knee t0001 read at step 1 of 2: accuracy 88, spike_rate 0.2"


def test_a_study_without_points_is_an_empty_frame(make_study: Make) -> None:
    figure = front_figure(make_study())
    assert [text.get_text() for text in figure.axes[0].texts] == ["no point at full fidelity yet"]


def test_a_study_of_stopped_trials_only_is_plotted(make_study: Make) -> None:
    study = make_study([(90.0, 0.1)])
    study = dataclasses.replace(study, trials=(dataclasses.replace(study.trials[0], state="stopped"),))
    assert legend(study) == ["stopped early (1)"]


def test_a_wide_range_of_costs_is_logarithmic(make_study: Make) -> None:
    objectives = {"accuracy": "maximize", "synops": "minimize"}
    figure = front_figure(make_study([(90.0, 0.9)], [(50.0, 0.001)], objectives=objectives))
    assert figure.axes[0].get_xscale() == "log"


def test_the_picture_is_a_reproducible_png(make_study: Make, tmp_path: Path) -> None:
    study = make_study([(90.0, 0.1)])
    pictures = []
    for name in ("a.png", "b.png"):
        write_front_png(study, tmp_path / name)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures[0] == pictures[1]


def test_every_figure_accepts_every_kind_of_study(make_search: Any, make_study: Make, tmp_path: Path) -> None:
    from results.from_optuna import study_from_optuna

    for study in (
        study_from_optuna(make_search(40, full=0.5)),
        study_from_optuna(make_search(3, full=0.0)),
        make_study(),
    ):
        files = write_figures(study, tmp_path)
        assert {path.suffix for path in files} == {".png", ".svg"}
        assert len(files) == 2 * len(FIGURES)


def test_figures_are_the_same_bytes_each_time(make_study: Make, tmp_path: Path) -> None:
    study = make_study([(90.0, 0.2)], [(80.0, 0.1)])
    first = {path.name: path.read_bytes() for path in write_figures(study, tmp_path / "a")}
    assert first == {path.name: path.read_bytes() for path in write_figures(study, tmp_path / "b")}


def test_seeds_are_error_bars(make_study: Make) -> None:
    seeds = [{"trial": 0, "read_step": 1, "seed": s, "accuracy": 89.0 + s, "spike_rate": 0.1} for s in range(2)]
    assert "mean over seeds" in legend(make_study([(90.0, 0.1)], confirmed=seeds))


def test_the_package_exports_the_figures() -> None:
    assert all(callable(getattr(results, name)) for name in results.__all__ if name not in ("METRICS",))
