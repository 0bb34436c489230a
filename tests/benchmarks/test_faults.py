"""Costs of faults, counted on synthetic logs of trainings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import faults
from tests.faults.searches import FaultCosts


def trial(number: int, state: str, epochs: int) -> Any:
    return SimpleNamespace(number=number, key=f"t{number:04d}", state=state, num_epochs=epochs, pauses=())


class FakeSearch:
    """A search with the study and the log of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.study = folder
        self.trials: list[Any] = []
        self.set_study_log("ask 0", "ask 1", "finish 0")

    def result(self) -> Any:
        return SimpleNamespace(trials=self.trials)

    def set_study_log(self, *lines: str) -> None:
        pairs = (line.split() for line in lines)
        events = [json.dumps({"event": kind, "trial": int(number)}) for kind, number in pairs]
        (self.folder / "events.jsonl").write_text("\n".join(events))

    def add(self, *lines: str) -> None:
        with (self.folder / "trainings.jsonl").open("a") as file:
            for what, key, epoch in (line.split() for line in lines):
                file.write(json.dumps({"what": what, "trial": key, "epoch": int(epoch)}) + "\n")


@pytest.fixture
def search(tmp_path: Path) -> FakeSearch:
    """A search with a fault when trial 0 had ended after two epochs, and trial 1 was in its third."""
    search = FakeSearch(tmp_path)
    search.add("start t0000 0", "epoch t0000 1", "epoch t0000 2", "start t0001 0", "epoch t0001 1", "epoch t0001 2")
    search.trials = [trial(0, "complete", 2), trial(1, "running", 2)]
    return search


@pytest.fixture
def costs(search: FakeSearch) -> FaultCosts:
    found = FaultCosts(search)  # type: ignore[arg-type]
    found.record_fault()
    return found


def test_a_search_that_resumes_from_the_last_epoch_has_lost_the_current_one(
    search: FakeSearch, costs: FaultCosts
) -> None:
    search.add("start t0001 2", "epoch t0001 3")
    row = costs.row([1.0, 3.0, 2.0])
    assert (row["times"], row["lost"], row["repeated"], row["max_epochs_lost"]) == (1, 0, 0, 1)
    assert row["recover_s"] == 2.0


def test_a_trial_that_restarts_from_scratch_has_lost_all_of_its_epochs(search: FakeSearch, costs: FaultCosts) -> None:
    search.add("start t0001 0", "epoch t0001 1")
    assert costs.epochs_lost() == 3


def test_a_finished_trial_that_is_missing_or_changed_is_lost(search: FakeSearch, costs: FaultCosts) -> None:
    search.trials = [trial(0, "complete", 3), trial(1, "running", 2)]
    assert costs.lost() == 1
    search.trials = []
    assert costs.lost() == 1


def test_a_trial_that_trains_on_after_its_end_or_ends_twice_is_repeated(search: FakeSearch, costs: FaultCosts) -> None:
    search.add("start t0000 2", "epoch t0000 3")
    assert costs.repeated() == 1
    search.set_study_log("ask 0", "ask 1", "finish 0", "finish 1", "fail 1")
    assert costs.repeated() == 2


def test_every_fault_has_a_description() -> None:
    assert set(faults.LONG) < set(faults.FAULTS)
    assert all(function.__doc__ for function in faults.FAULTS.values())


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_survives_the_death_of_a_trial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["faults", "--quick", "--only", "trial killed", "--json", str(path)])
        faults.main()
    [row] = json.loads(path.read_text())["rows"]
    assert (row["fault"], row["times"], row["lost"], row["repeated"], row["exit"]) == ("trial killed", 1, 0, 0, 0)
    assert capsys.readouterr().out.startswith(("ok", "FAIL"))
