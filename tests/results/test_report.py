from __future__ import annotations

import dataclasses
import errno
import html
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import StudyResult, load
from results.from_optuna import study_from_optuna
from results.report import main, write_report
from results.reporting.page import script_json, study_page
from search.storage import lock

Make = Callable[..., StudyResult]
EVIL = "<script>alert(1)</script>"


def page(study: StudyResult) -> str:
    """Returns the report without the chart library, which would slow down text searches."""
    text = study_page(study, "runs/x").html()
    start = text.index("<script>", text.index('id="data"'))
    return text[:start] + text[text.index("</script>", start) :]


def data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


@pytest.fixture(scope="module")
def study(make_search: Any) -> StudyResult:
    return study_from_optuna(make_search(60, full=0.5))


def test_the_report_has_every_section(study: StudyResult) -> None:
    charts = data(page(study))["charts"]
    assert list(charts["front"]) == ["spike_rate", "synops", "energy_mj"]
    wanted = {"front", "curves", "layers", "hypervolume", "rungs", "importance", "slices", "parallel", "failures"}
    assert set(charts) == wanted


def test_the_same_study_gives_the_same_bytes(study_folder: Path) -> None:
    reports = []
    for _ in range(2):
        assert main([str(study_folder)]) == 0
        reports.append((study_folder / "report.html").read_bytes())
    assert reports[0] == reports[1]


def test_mlflow_gives_the_same_report(two_stores: tuple[Path, str]) -> None:
    folder, uri = two_stores
    trials = (dataclasses.replace(t, started=None, ended=None, times=(), pauses=()) for t in load(folder).trials)
    here = dataclasses.replace(load(folder), num_infeasible=0, trials=tuple(trials))  # MLflow holds neither
    assert page(here) == page(load(tracking_uri=uri, experiment="quickstart"))


def test_names_and_reasons_with_tags_stay_text(study: StudyResult) -> None:
    failed = [dataclasses.replace(t, failure_reason=EVIL, failure_class=EVIL) if t.state == "failed" else t
              for t in study.trials]  # fmt: skip
    text = page(dataclasses.replace(study, name=EVIL, trials=tuple(failed)))
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert f"{EVIL} (" not in json.dumps(data(text)), "plotly reads tags in its texts"


def test_data_cannot_end_its_script_element() -> None:
    assert json.loads(script_json({"a": "</script><!--&"})) == {"a": "</script><!--&"}
    assert "<" not in script_json("</script>")


def test_the_page_loads_nothing_from_a_network(study: StudyResult) -> None:
    text = page(study)
    assert re.findall(r'\b(?:src|href)="(?!#|data:)[^"]*"', text) == []
    assert "default-src 'none'" in text


def test_every_row_has_commands_that_export_and_retrain_it(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import html
    import shlex

    from results.export import main as export

    text = page(load(study_folder))
    commands = [html.unescape(found) for found in re.findall(r"<code>(python -m [^<]*)</code>", text)]
    exports = [shlex.split(command)[3:] for command in commands if "results.export" in command]
    files = [shlex.split(command)[-1] for command in commands if "trainers.run" in command]
    assert len(exports) == len(files) == len(load(study_folder).front())
    monkeypatch.chdir(tmp_path)
    for arguments, file in zip(exports, files, strict=True):
        assert export([str(study_folder), *arguments[1:]]) == 0
        assert (tmp_path / file).is_file()


def test_a_row_names_its_read_out_if_it_is_not_the_trials(study: StudyResult) -> None:
    for own in (1, 2):
        trials = (dataclasses.replace(trial, config={**trial.config, "read_step": own}) for trial in study.trials)
        changed = dataclasses.replace(study, trials=tuple(trials))
        others = [point.read_step for point in changed.front() if point.read_step != own]
        commands = re.findall(r"<code>python -m results.export [^<]*</code>", page(changed))
        assert others
        assert sorted(re.findall(r"--read-step (\d+)", " ".join(commands))) == sorted(map(str, others))


def test_failed_trials_are_not_in_the_front_chart(study: StudyResult) -> None:
    failed = {trial.number for trial in study.select("failed")}
    for chart in data(page(study))["charts"]["front"].values():
        drawn = {point[0] for trace in chart["data"] for point in trace.get("customdata", ())}
        assert drawn
        assert not drawn & failed


def test_seeds_and_published_points_are_plotted_if_the_study_has_them(study: StudyResult) -> None:
    point = study.front()[0]
    seeds = [{"trial": point.trial, "read_step": point.read_step, "seed": s, "accuracy": 98.0 + s, "spike_rate": 0.1}
             for s in range(3)]  # fmt: skip
    study = dataclasses.replace(study, attrs={**study.attrs, "confirmed": seeds})
    text = page(study)
    traces = {trace["name"]: trace for trace in data(text)["charts"]["front"]["spike_rate"]["data"]}
    assert traces["mean and deviation over seeds"]["error_y"]["array"] == [1]
    assert "published, cost not stated" in traces
    assert "accuracy 99 ± 1 (3 seeds)" in text


def test_the_front_is_also_plotted_as_quantised_anns_if_their_energy_was_measured(study: StudyResult) -> None:
    def beside(read_out: dict[str, float]) -> dict[str, float]:
        return {**read_out, "energy_memory_mj": read_out["energy_mj"], "energy_ann_mj": 3 * read_out["energy_mj"]}

    trials = (dataclasses.replace(t, read_outs=tuple(map(beside, t.read_outs))) for t in study.trials)
    charts = data(page(dataclasses.replace(study, trials=tuple(trials))))["charts"]["front"]
    traces = {trace["name"]: trace for trace in charts["energy_memory_mj"]["data"]}
    ann, every = traces["the front as quantised ANNs"], next(t for name, t in traces.items() if name.startswith("all"))
    spiking = {tuple(point): x for point, x in zip(every["customdata"], every["x"], strict=True)}
    assert ann["x"] == pytest.approx([3 * spiking[tuple(point)] for point in ann["customdata"]], rel=1e-4)
    assert all("the front as quantised ANNs" not in str(charts[cost]) for cost in ("spike_rate", "energy_mj"))


@pytest.mark.parametrize("count", [0, 3])
def test_the_report_states_that_no_trial_is_complete(make_search: Any, count: int) -> None:
    text = page(study_from_optuna(make_search(count, full=0.0)))
    assert "No trial has been trained to the end yet" in text
    assert "front" not in data(text)["charts"] or count


def test_the_report_states_that_the_search_is_running(study_folder: Path) -> None:
    with lock.hold(study_folder):
        assert "still running when this was written" in page(load(study_folder))
    assert "still running when this was written" not in page(load(study_folder))


def test_a_report_of_one_objective_is_written(make_search: Any) -> None:
    assert data(page(study_from_optuna(make_search(20, objectives={"accuracy": "maximize"}))))["charts"]["front"]


def test_a_report_of_three_objectives_is_written(make_search: Any) -> None:
    goals = {"accuracy": "maximize", "spike_rate": "minimize", "synops": "minimize"}
    assert "synops" in data(page(study_from_optuna(make_search(20, objectives=goals))))["charts"]["slices"]


def test_the_report_of_a_thousand_trials_is_small(make_search: Any, tmp_path: Path) -> None:
    study = study_from_optuna(make_search(1000, full=0.4))
    started = time.process_time()  # CPU time, as wall time depends on other processes
    write_report(study, tmp_path / "report.html", "runs/x")
    assert time.process_time() - started < 30
    assert (tmp_path / "report.html").stat().st_size < 8e6
    assert len(page(study)) < 3e6


def test_figures_are_written_as_png_and_svg(study_folder: Path, tmp_path: Path) -> None:
    assert main([str(study_folder), "--figures", str(tmp_path / "figures")]) == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{name}.{suffix}" for name in ("front", "curves", "importance") for suffix in ("png", "svg")}


def test_the_table_of_all_trials_is_beside_the_report(
    study_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study_folder), "--out", str(tmp_path / "pages" / "my.html")]) == 0
    path = tmp_path / "pages" / "trials.csv"
    assert f"wrote {path}\n" in capsys.readouterr().out
    load(study_folder).write_trials_csv(tmp_path / "again.csv")
    assert path.read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert path.read_text().count("\n") == 1 + len(load(study_folder).trials)


def test_a_folder_without_a_study_is_reported_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}: there is no study.db in it.")


def test_the_page_supports_light_and_dark(study: StudyResult) -> None:
    assert "prefers-color-scheme: dark" in page(study)


def test_a_full_disk_leaves_the_old_report(study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    study, path = load(study_folder), tmp_path / "report.html"
    path.write_text("the old one")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(study, path, "runs/x")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["report.html"]
    assert path.read_text() == "the old one"


def test_constraints_that_no_trial_meets_are_named_with_the_nearest_trial(study: StudyResult) -> None:
    none = dataclasses.replace(study, constraints={"accuracy": {"min": 99.9}})
    nearest = max((point for trial in study.select("complete") for point in trial.points()),
                  key=lambda point: point.metrics["accuracy"])  # fmt: skip
    text = html.unescape(page(none))
    assert "full trainings meets the constraints. The nearest is " in text
    assert f"{nearest.key} read at step {nearest.read_step}: accuracy" in text
    assert "(must be >= 99.9)" in text
