"""Comparison of policies on families of questions, and the choice of variants on all families but one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import proving_ground, table_shares
from benchmarks.proving_ground import BASELINE, compare_pairs, family_shares, leave_one_out, worse
from benchmarks.simulations import SimulationResult, SimulationTask
from benchmarks.table_shares import Results
from results.pareto import Floats
from tests.support.foreign_folder import write_table

SHARES = np.array([0.6, 0.9, 0.3, 0.7])


def result(policy: str, table: str, run: int, shares: dict[int, float]) -> SimulationResult:
    """A search on curves of 9 epochs that reaches each share after this number of full trainings."""
    curve = [(0.0, 0.0), *((9.0 * count, share) for count, share in shares.items())]
    task = SimulationTask(table, "", policy, 8, run, 12)
    return SimulationResult(task, 9, curve, (0, 1), 1.0, 108.0, 12, {}, {}, 0.5)


def test_pairs_are_compared_table_by_table_and_run_by_run() -> None:
    found = compare_pairs(SHARES - np.array([0.01, 0.02, 0.01, 0.02]), SHARES)
    assert found.share == pytest.approx(SHARES.mean() - 0.015)
    assert found.difference == pytest.approx(-0.015)
    assert found.standard_errors == pytest.approx(-0.015 / (np.std([1, 2, 1, 2], ddof=1) * 0.01 / 2.0))


@pytest.mark.parametrize(
    ("differences", "is_worse"),
    [
        ([-0.01, -0.02, -0.01, -0.02], True),
        ([0.01, 0.02, 0.01, 0.02], False),
        ([-0.3, 0.1, -0.2, 0.2], False),
        ([-0.25, -0.25, -0.25, -0.25], True),
        ([0.0, 0.0, 0.0, 0.0], False),
        ([-0.5], False),
    ],
)
def test_a_policy_is_worse_beyond_two_standard_errors(differences: list[float], is_worse: bool) -> None:
    baseline = np.full(len(differences), 0.5)
    assert compare_pairs(baseline + np.array(differences), baseline).is_worse is is_worse


def test_shares_of_a_family_are_those_of_its_tables_in_one_order() -> None:
    results: Results = {
        table: {
            policy: [result(policy, table, run, {6: at + run / 10, 12: 0.9}) for run in range(2)]
            for policy in ("ours", BASELINE)
        }
        for table, at in (("a", 0.1), ("b", 0.5))
    }
    found = family_shares(list(results.values()), 12)
    assert found["ours"]["6"] == pytest.approx([0.1, 0.2, 0.5, 0.6])
    assert found[BASELINE]["12"] == pytest.approx([0.9] * 4)


def test_families_are_named_where_a_policy_is_worse() -> None:
    lower: dict[str, dict[str, Floats]] = {"ours": {"50": SHARES - [0.1, 0.2, 0.1, 0.2]}, BASELINE: {"50": SHARES}}
    higher = {"ours": {"50": SHARES + 0.1}, BASELINE: {"50": SHARES}}
    found = worse({"noisy": proving_ground.compare(lower), "flat": proving_ground.compare(higher)})
    assert found == {"50": {"ours": ["noisy"], BASELINE: []}}


def test_results_are_in_the_order_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(body: object, tasks: list[SimulationTask], jobs: int) -> dict[SimulationTask, SimulationResult]:
        return {task: result(task.method, task.table, task.run, {12: 0.5}) for task in reversed(tasks)}

    monkeypatch.setattr(table_shares, "run_parallel", backwards)
    policies = {"ours": ("ours", ()), "few": ("ours", ("sampler.name=random",))}
    found = table_shares.play(["a", "b"], policies, 3, 8, 12, 1)
    assert list(found) == ["a", "b"]
    for table, by_policy in found.items():
        for runs in by_policy.values():
            assert [(one.task.table, one.task.run) for one in runs] == [(table, 0), (table, 1), (table, 2)]


def test_a_variant_is_chosen_by_its_ranks_on_the_other_families() -> None:
    figures = {
        "a": {"careful": 0.50, "bold": 0.90},
        "b": {"careful": 0.80, "bold": 0.79},
        "c": {"careful": 0.60, "bold": 0.50},
        "d": {"careful": 0.60, "bold": 0.50},
    }
    found = leave_one_out(figures)
    assert {family: one["chosen"] for family, one in found.items()} == dict.fromkeys(figures, "careful")
    assert found["a"]["best"] == "bold"
    assert found["a"]["ratio"] == pytest.approx(0.5 / 0.9)
    assert [one["is_within"] for one in found.values()] == [False, True, True, True]
    assert found["b"]["ratio"] == 1.0


def test_a_large_value_of_one_family_does_not_choose_for_all() -> None:
    figures = {"a": {"one": 0.1, "two": 1.0}, "b": {"one": 0.52, "two": 0.5}, "c": {"one": 0.52, "two": 0.5}}
    assert leave_one_out({**figures, "d": figures["b"]})["d"]["chosen"] == "one"


def test_folders_are_grouped_by_their_parent(tmp_path: Path) -> None:
    folders = [str(write_table(tmp_path / "mine" / name, name=name)) for name in ("first", "second")]
    found = proving_ground.families_of(["noisy"], 2, [*folders, "digits"])
    assert found["noisy"] == ["synthetic/noisy/0", "synthetic/noisy/1"]
    assert found["mine"] == folders
    assert [Path(path).name for path in found["tables"]] == ["digits"]


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (["stop"], "--choose stop: must be NAME=OVERRIDES"),
        (["a=sampler.nam=random", "b="], "sampler.nam: unknown key. Did you mean name"),
        (["a=search.algorithm.rungs.NOT_THERE=1", "b="], "search.algorithm.rungs.NOT_THERE=1: must be a constant"),
        (["random=", "b="], "--choose random: must differ from the names of the policies"),
        (["alone="], "needs at least two variants to choose from (got alone)"),
    ],
)
def test_wrong_variants_are_refused_before_any_search(
    choose: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        proving_ground.main(["--families", "base", "--choose", *choose])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "nosy"], "Did you mean noisy"),
        (["--families"], "needs a family, or --tables a folder"),
        (["--families", "base", "--tables", "/nowhere"], "/nowhere/table.json: cannot be read"),
        (["--repeats", "0"], "must be a whole number above 0 (got 0)"),
    ],
)
def test_wrong_families_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        proving_ground.main(arguments)
    assert message in capsys.readouterr().err


def test_the_file_holds_the_families_that_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def play(tables: list[str], policies: table_shares.Policies, *settings: int) -> Results:
        if "synthetic/flat/0" in tables:
            raise KeyboardInterrupt
        return {table: {name: [result(name, table, 0, {3: 0.5})] for name in policies} for table in tables}

    monkeypatch.setattr(table_shares, "play", play)
    path = tmp_path / "figures.json"
    with pytest.raises(KeyboardInterrupt):
        proving_ground.main(["--families", "noisy", "flat", "--json", str(path)])
    assert list(json.loads(path.read_text())["families"]) == ["noisy"]


def test_figures_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_shares, "run_parallel", lambda body, tasks, jobs: {task: body(task) for task in tasks})
    table, path = str(write_table(tmp_path / "mine" / "small")), tmp_path / "figures.json"
    choose = ["--choose", "plain=sampler.name=random scheduler.mode=stop", "again=sampler.name=random"]
    sizes = ["--instances", "1", "--repeats", "2", "--workers", "2", "--budget", "7", "--jobs", "1"]
    arguments = ["--families", "size_100", "--tables", table, "--policies", "random", *choose, *sizes]
    proving_ground.main([*arguments, "--json", str(path)])
    figures = json.loads(path.read_text())
    policies = [BASELINE, "random", "plain", "again"]
    assert list(figures["families"]) == list(figures["left_out"]) == ["size_100", "mine"]
    for by_mark in figures["families"].values():
        assert list(by_mark) == ["6", "7"]
        assert list(by_mark["7"]) == policies
        assert by_mark["7"][BASELINE]["difference"] == 0.0
        assert all(0.0 < one["share"] <= 1.0 for one in by_mark["7"].values())
    assert figures["left_out"]["mine"]["best_share"] > 0.0
    assert figures["details"]["variants"]["again"] == ["sampler.name=random"]
    printed, progress = capsys.readouterr()
    assert [line.split(",")[0] for line in progress.splitlines()] == ["size_100", "mine"]
    assert "share of the hypervolume after 7 full trainings, and standard errors from moasha_random" in printed
    assert "within a fifth of the best:" in printed
