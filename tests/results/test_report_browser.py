"""The table of trials, the served report and the comparison of studies, in a real browser."""

from __future__ import annotations

import dataclasses
import html
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import results
from results import StudyResult, TrialResult, train_file
from results.from_optuna import study_from_optuna
from results.report import write_comparison
from results.reporting import server
from results.reporting.page import Page, study_page
from results.reporting.server import PageServer, PageSource

pytest.importorskip("playwright", reason="Playwright is not installed; it is in the extra dev")
from tests.support.browser import CHROMIUM, browse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; on Debian: apt install chromium"),
]
MARKER_COLOUR = """(label) => {
  const traces = document.getElementById("chart-front")._fullData;
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = traces.find((trace) => trace.name.startsWith(label)).marker.color;
  return getComputedStyle(probe).color;
}"""
"""The colour in which the front's chart draws a highlighted point, in the browser's notation."""
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def study(make_search: Any) -> StudyResult:
    """120 trials with times, failures whose reasons hold tags, and an early read-out on the front."""
    found = study_from_optuna(make_search(120, full=0.4))
    trials = []
    for trial in found.trials:
        started = 1e9 + 300.0 * trial.number
        times = tuple(started + 60.0 * int(epoch["epoch"]) for epoch in trial.epochs)
        reason = f"loss is nan {EVIL}" if trial.state == "failed" else None
        trials.append(dataclasses.replace(trial, started=started, times=times, ended=times[-1], failure_reason=reason))
    return dataclasses.replace(found, trials=tuple(trials))


@pytest.fixture(scope="module")
def browser_page() -> Iterator[tuple[Any, list[str]]]:
    """One page of one browser for all tests, and the messages of its console."""
    messages: list[str] = []
    with browse() as page:
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        yield page, messages


@pytest.fixture
def page(browser_page: tuple[Any, list[str]]) -> Iterator[Any]:
    """An empty page; at the end its console must be empty."""
    found, messages = browser_page
    found.goto("about:blank")
    messages.clear()
    yield found
    assert messages == []


@pytest.fixture(scope="module")
def report(study: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    results.write_report(study, path, "runs/many")
    return path.as_uri()


def shown(page: Any) -> list[str]:
    """Returns the keys of the rows that are shown."""
    return [str(key) for key in page.locator("#trial-table button[data-trial]").all_text_contents()]


def keys(trials: list[TrialResult]) -> list[str]:
    return [trial.key for trial in trials]


def test_the_table_holds_every_trial_on_its_pages(page: Any, study: StudyResult, report: str) -> None:
    page.goto(report)
    found = shown(page)
    assert page.locator("#trial-count").text_content() == "1 to 50 of 120 trials"
    for _ in range(2):
        page.get_by_role("button", name="next").click()
        found += shown(page)
    assert page.get_by_role("button", name="next").is_disabled()
    assert found == keys(list(study.trials))


def test_the_table_is_sorted_by_any_column_with_empty_cells_last(page: Any, study: StudyResult, report: str) -> None:
    by_accuracy = sorted(study.trials, key=lambda trial: (trial.metrics["accuracy"], trial.number))
    page.goto(report)
    header = page.locator("#trial-table th", has=page.locator("button[data-sort=accuracy]"))
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert shown(page) == keys(by_accuracy)[:50]
    page.keyboard.press("Enter")  # the focus is still on the header
    assert header.get_attribute("aria-sort") == "descending"
    assert shown(page)[0] == by_accuracy[-1].key
    page.locator("button[data-sort=attn_scale]").click()
    values = [study.trial(int(key[1:])).params.get("attn_scale") for key in shown(page)]
    assert values == sorted(values, key=lambda value: (value is None, value))
    page.locator("#trial-state").select_option("failed")
    page.locator("button[data-sort=state]").click()
    assert set(shown(page)) == set(keys(list(study.select("failed"))))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("diverged", lambda t: t.failure_class == "diverged"),
        ("accuracy>80 step=2", lambda t: t.metrics["accuracy"] > 80 and t.params["step"] == 2),
        ("epochs<=3 state=stopped", lambda t: t.num_epochs <= 3 and t.state == "stopped"),
        ("attn_layer=sdsa", lambda t: t.params["attn_layer"] == "SDSA"),
        ("attn_scale>0", lambda t: "attn_scale" in t.params),
        ("trial=t0007", lambda t: t.number == 7),
        ("macs>1 lr<0.001", lambda t: t.params["lr"] < 0.001),
        ("nosuchword", lambda t: False),
    ],
)
def test_the_table_is_filtered_by_words_and_conditions(
    page: Any, study: StudyResult, report: str, text: str, fits: Any
) -> None:
    wanted = keys([trial for trial in study.trials if fits(trial)])
    page.goto(report)
    page.get_by_label("Filter").fill(text)
    assert shown(page) == wanted[:50]
    assert f"{len(wanted)} trial" in page.locator("#trial-count").text_content()


def test_a_row_opens_to_the_commands_and_the_train_file_of_its_trial(
    page: Any, study: StudyResult, report: str
) -> None:
    trial = study.select("stopped")[0]
    page.goto(report)
    page.get_by_label("Filter").fill(f"trial={trial.number}")
    button = page.get_by_role("button", name=trial.key, exact=True)
    assert button.get_attribute("aria-expanded") == "false"
    button.press("Enter")
    assert page.get_by_role("button", name=trial.key, exact=True).get_attribute("aria-expanded") == "true"
    details = page.locator(f"#details-{trial.key}")
    folder = f"configs/many/{trial.key}"
    assert details.locator("code").all_text_contents() == [
        f"python -m results.export runs/many --pick trial:{trial.number} --out {folder}",
        f"python -m trainers.run --config {folder}/spikformer/cifar10.yml",
    ]
    text = details.locator("pre").text_content()
    assert yaml.safe_load(text) == train_file.read_out_config(trial.config, trial.read_step)


def test_a_failed_trial_shows_its_reason_as_text(page: Any, study: StudyResult, report: str) -> None:
    trial = study.select("failed")[0]
    page.goto(f"{report}#{trial.key}")
    assert f"diverged: loss is nan {EVIL}" in page.locator(f"#details-{trial.key}").text_content()
    assert "python -m results.export" not in page.locator(f"#details-{trial.key}").text_content()


def test_links_from_other_sections_open_a_trial_or_filter_the_table(page: Any, study: StudyResult, report: str) -> None:
    stopped = [trial for trial in study.select("stopped") if trial.num_epochs == 1]
    page.goto(report)
    page.locator("#training a", has_text="more").first.click()
    assert shown(page) == keys(stopped)
    page.locator("#training td a", has_text=stopped[3].key).first.click()
    page.locator(f"#details-{stopped[3].key}").wait_for()
    page.locator("#failures a", has_text="all").first.click()
    assert shown(page) == keys(list(study.select("failed")))
    page.evaluate(f"location.hash = '{stopped[0].key}'")
    page.locator(f"#details-{stopped[0].key}").wait_for()
    assert page.evaluate("document.activeElement.textContent") == stopped[0].key


def test_a_click_on_a_bar_of_the_timeline_opens_its_trial(page: Any, study: StudyResult, report: str) -> None:
    page.goto(report)
    page.locator("#chart-timeline").scroll_into_view_if_needed()
    page.locator("#chart-timeline .bars .point path").first.wait_for()
    page.evaluate("document.getElementById('chart-timeline').emit('plotly_click', {points: [{customdata: [5, 2]}]})")
    page.locator("#details-t0005").wait_for()
    count = page.evaluate("DATA.charts.timeline[''].data.reduce((sum, trace) => sum + trace.x.length, 0)")
    assert count == len(study.trials)


def test_badges_have_the_colours_of_the_markers(page: Any, study: StudyResult, report: str) -> None:
    page.goto(report)
    page.locator("#chart-front .main-svg").first.wait_for()
    for label in ("knee", "best", "cheapest"):
        badge = page.locator(f"#front mark.{label}").first
        assert badge.text_content() == label
        colour = badge.evaluate("(mark) => getComputedStyle(mark, '::before').color")
        assert colour == page.evaluate(MARKER_COLOUR, label)


def test_the_served_page_updates_itself_and_keeps_what_the_reader_did(
    page: Any, study: StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(server, "BUSY_SHARE", 1e9)
    state = [dataclasses.replace(study, trials=study.trials[:60])]

    def make() -> Page:
        return study_page(state[0], "runs/many")

    with served(make) as address:
        page.goto(address)
        page.get_by_label("Filter").fill("accuracy>70")
        page.locator("button[data-sort=accuracy]").click()
        first = shown(page)[-1]
        page.get_by_role("button", name=first, exact=True).click()
        page.locator("button[data-figure=front][data-tab=synops]").click()
        page.locator("#settings summary").click()
        page.evaluate("window.kept = document.getElementById('chart-front')")
        assert page.locator(".summary dd").first.text_content() == "60"
        state[0] = study
        page.wait_for_function("document.querySelector('.summary dd').textContent === '120'")
        wanted = sorted(
            (trial for trial in study.trials if trial.metrics["accuracy"] > 70),
            key=lambda trial: (trial.metrics["accuracy"], trial.number),
        )
        assert page.locator("#trial-count").text_content().endswith(f"{len(wanted)} trials, of 120")
        assert shown(page) == keys(wanted)[:50]
        assert page.evaluate("kept.isConnected && kept.layout.xaxis.title.text") == "Synaptic operations per image"
        points = "kept.data.find((trace) => trace.name.startsWith('all read-outs')).x.length"
        assert page.evaluate(points) == len(study.points())
        assert page.locator("button[data-tab=synops]").get_attribute("aria-pressed") == "true"
        assert page.locator("#settings details").get_attribute("open") is not None
        assert page.evaluate("document.activeElement.textContent") == "The space file"
        assert "follows" in page.locator("#live").text_content()


def test_the_served_page_says_that_its_server_has_ended(
    page: Any, browser_page: tuple[Any, list[str]], study: StudyResult
) -> None:
    small = study_page(dataclasses.replace(study, trials=study.trials[:20]), "runs/many")
    with served(lambda: small) as address:
        page.goto(address)
        page.locator("#trial-table tbody tr").first.wait_for()
    page.get_by_text("The server of this page has ended. The last state is shown.").wait_for()
    assert len(shown(page)) == 20
    browser_page[1].clear()  # the browser reports each request that fails


@contextmanager
def served(make: Any) -> Iterator[str]:
    with PageServer(0, PageSource(make, [])) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/"
        finally:
            running.shutdown()
            thread.join()


def test_the_comparison_of_two_studies_shows_every_chart(page: Any, make_search: Any, tmp_path: Path) -> None:
    studies = {name: study_from_optuna(make_search(40, full=0.5, seed=seed)) for seed, name in enumerate((EVIL, "b"))}
    write_comparison(studies, tmp_path / "comparison.html", ["runs/a", "runs/b"])
    page.goto((tmp_path / "comparison.html").as_uri())
    for figure in page.locator(".chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".main-svg").first.wait_for()
    assert page.locator(".chart").count() == 3
    assert page.locator("#studies tbody th").all_text_contents() == [EVIL, "b"]
    names = page.evaluate("document.getElementById('chart-hypervolume').data.map((trace) => trace.name)")
    assert [html.unescape(name) for name in names] == [EVIL, "b"]
