"""The report and MLflow's own pages of a real study, in a real browser."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

import results
import search
from results.from_optuna import study_from_optuna
from search.tracking.mlflow_mirror import run_name

pytest.importorskip("playwright", reason="Playwright is not installed; it is in the extra dev")
from tests.support.browser import CHROMIUM, browse, serve_mlflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; on Debian: apt install chromium"),
]
SPACE: dict[str, Any] = {
    "study": "searched",
    "base": "spikformer/digits",
    "fixed": {"distort": False, "embed_dim": 16, "val_fraction": 0.4},
    "objectives": {"accuracy": "maximize", "spike_rate": "minimize"},
    "space": {"tau": {"uniform": [1.1, 1.6]}, "lr": {"log_uniform": [0.01, 0.03]}, "step": {"choice": [1, 2]}},
    "budget": {"trials": 5, "epochs": 3},
    "scheduler": {"name": "none"},
}
DRAWN = "[...document.querySelectorAll('.js-plotly-plot')].filter((e) => e.getClientRects().length)"
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[results.StudyResult, str]:
    """A study of a real search, and its MLflow store."""
    out = tmp_path_factory.mktemp("searched")
    study = search.run_study(SPACE, out)
    assert len(study.front()) > 0
    return study, f"sqlite:///{out / 'mlflow.db'}"


@pytest.fixture(scope="module")
def address(searched: tuple[results.StudyResult, str]) -> Iterator[str]:
    """The address of the study's experiment in MLflow's pages."""
    from mlflow.tracking import MlflowClient

    experiment = MlflowClient(tracking_uri=searched[1]).get_experiment_by_name("searched")
    assert experiment is not None
    with serve_mlflow(searched[1]) as server:
        yield f"{server}/#/experiments/{experiment.experiment_id}/runs"


def measured(study: results.StudyResult) -> list[list[float]]:
    """Returns spike rate and accuracy of the trials trained to the end, as the charts must show them."""
    return sorted([t.metrics["spike_rate"], t.metrics["accuracy"]] for t in study.select("complete"))


def points(page: Any, x: str) -> list[list[float]]:
    """Returns the points of the scatter whose horizontal axis has that name, once it is drawn."""
    chart = f"{DRAWN}.find((e) => e.layout.xaxis?.title?.text === {x!r} && e.data[0].type.startsWith('scatter'))"
    page.wait_for_function(f"{chart} !== undefined")
    found = page.evaluate(f"JSON.stringify({chart}.data.flatMap((d) => [...d.x].map((x, i) => [x, d.y[i]])))")
    return sorted([float(x), float(y)] for x, y in json.loads(found))


def wait_for_names(page: Any, study: results.StudyResult) -> None:
    for trial in study.trials:
        page.get_by_text(run_name(trial)).first.wait_for()


def test_the_view_named_trials_lists_every_trial_by_a_unique_name(
    searched: tuple[results.StudyResult, str], address: str
) -> None:
    with browse(1600, 1100) as page:
        page.goto(address)
        page.get_by_test_id("saved-views-trigger").click()
        page.get_by_role("menuitem").filter(has_text="trials").first.click()
        wait_for_names(page, searched[0])
        page.get_by_text(f"{len(searched[0].trials)} matching runs").wait_for()


def test_the_view_named_front_shows_what_the_front_shows(
    searched: tuple[results.StudyResult, str], address: str
) -> None:
    study = searched[0]
    with browse(1600, 1100) as page:
        page.goto(f"{address}?viewStateShareKey=front&compareRunsMode=CHART")
        wait_for_names(page, study)
        drawn = points(page, "spike_rate")
        assert drawn == measured(study)
        at_step = [p for p in study.front() if p.read_step == study.trial(p.trial).config["step"]]
        for point in at_step:
            assert [point.metrics["spike_rate"], point.metrics["accuracy"]] in drawn
        page.get_by_text("Parallel Coordinates").first.wait_for()
        for axis in (*study.searched, *study.objectives):
            page.get_by_text(axis, exact=True).first.wait_for()


def test_compare_shows_the_selected_trials_as_lines_and_as_points(
    searched: tuple[results.StudyResult, str], address: str
) -> None:
    study = searched[0]
    with browse(1600, 1100) as page:
        page.goto(f"{address}?viewStateShareKey=trials&compareRunsMode=TABLE")
        wait_for_names(page, study)
        page.get_by_label("Select all runs").click()
        page.get_by_role("button", name="Compare").click()
        page.get_by_text(f"Comparing {len(study.trials)} Runs").first.wait_for()
        lines = f"{DRAWN}.find((e) => e.data[0].type === 'parcoords')"
        page.wait_for_function(f"{lines} !== undefined")
        dimensions = page.evaluate(f"{lines}.data[0].dimensions.map((d) => [d.label, d.values.length])")
        assert {label for label, _ in dimensions} & set(study.searched)
        assert {count for _, count in dimensions} == {len(study.trials)}
        page.get_by_role("tab", name="Scatter Plot").click()
        for axis, name in (("x", "spike_rate"), ("y", "accuracy")):
            page.locator(f"#{axis}-axis-selector").click()
            page.get_by_role("option", name=name).click()
        assert points(page, "spike_rate") == measured(study)


def test_the_report_of_a_real_study_shows_its_front(searched: tuple[results.StudyResult, str], tmp_path: Path) -> None:
    results.write_report(searched[0], tmp_path / "report.html", "runs/searched")
    with opened(tmp_path / "report.html", "light") as page:
        assert len(points(page, "Spike rate (spikes per neuron and step)")) >= len(searched[0].points())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_rendered_and_no_text_is_executed(
    make_search: Any, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    study = study_from_optuna(make_search(60, full=0.5))
    failed = [dataclasses.replace(t, failure_reason=EVIL) if t.state == "failed" else t for t in study.trials]
    study = dataclasses.replace(study, name=EVIL, trials=tuple(failed))
    results.write_report(study, tmp_path / "report.html", "runs/x")
    with opened(tmp_path / "report.html", scheme) as page:
        for figure in page.locator(".chart").all():
            figure.scroll_into_view_if_needed()
            figure.locator(".main-svg").first.wait_for()


@contextmanager
def opened(report: Path, scheme: Literal["light", "dark"]) -> Iterator[Any]:
    """Yields a report opened from its file; at the end its console must be empty, and nothing asked of a network."""
    messages: list[str] = []
    urls: list[str] = []
    with browse(scheme=scheme) as page:
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(report.as_uri())
        yield page
    assert messages == []
    assert report.as_uri() in urls
    assert {url.split(":")[0] for url in urls} <= {"file", "data", "blob"}
