"""How the fault benchmark counts what a search lost, on made-up notes of trainings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import faults
from tests.faults.searches import Toll


def trial(number: int, state: str, epochs: int) -> Any:
    return SimpleNamespace(number=number, key=f"t{number:04d}", state=state, num_epochs=epochs)


class Struck:
    """A search whose study and notes are what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.study = folder
        self.trials: list[Any] = []
        self.events("ask 0", "ask 1", "finish 0")

    def result(self) -> Any:
        return SimpleNamespace(trials=self.trials)

    def events(self, *lines: str) -> None:
        pairs = (line.split() for line in lines)
        told = [json.dumps({"event": kind, "trial": int(number)}) for kind, number in pairs]
        (self.folder / "events.jsonl").write_text("\n".join(told))

    def add(self, *lines: str) -> None:
        with (self.folder / "notes.jsonl").open("a") as file:
            for what, key, epoch in (line.split() for line in lines):
                file.write(json.dumps({"what": what, "trial": key, "epoch": int(epoch)}) + "\n")


@pytest.fixture
def struck(tmp_path: Path) -> Struck:
    """A search that was struck when trial 0 had ended after two epochs, and trial 1 was in its third."""
    search = Struck(tmp_path)
    search.add("start t0000 0", "epoch t0000 1", "epoch t0000 2", "start t0001 0", "epoch t0001 1", "epoch t0001 2")
    search.trials = [trial(0, "complete", 2), trial(1, "running", 2)]
    return search


@pytest.fixture
def toll(struck: Struck) -> Toll:
    made = Toll(struck)  # type: ignore[arg-type]
    made.note()
    return made


def test_a_search_that_goes_on_from_the_last_epoch_has_lost_the_one_under_way(struck: Struck, toll: Toll) -> None:
    struck.add("start t0001 2", "epoch t0001 3")
    row = toll.row([1.0, 3.0, 2.0])
    assert (row["times"], row["lost"], row["repeated"], row["max_epochs_lost"]) == (1, 0, 0, 1)
    assert row["recover_s"] == 2.0


def test_a_search_that_begins_a_trial_anew_has_lost_all_of_its_epochs(struck: Struck, toll: Toll) -> None:
    struck.add("start t0001 0", "epoch t0001 1")
    assert toll.epochs_lost() == 3


def test_a_finished_trial_that_is_gone_or_another_one_is_lost(struck: Struck, toll: Toll) -> None:
    struck.trials = [trial(0, "complete", 3), trial(1, "running", 2)]
    assert toll.lost() == 1
    struck.trials = []
    assert toll.lost() == 1


def test_a_trial_that_trains_on_after_its_end_or_ends_twice_is_repeated(struck: Struck, toll: Toll) -> None:
    struck.add("start t0000 2", "epoch t0000 3")
    assert toll.repeated() == 1
    struck.events("ask 0", "ask 1", "finish 0", "finish 1", "fail 1")
    assert toll.repeated() == 2


def test_every_fault_has_a_sentence_that_says_what_it_is() -> None:
    assert set(faults.LONG) < set(faults.FAULTS)
    assert all(function.__doc__ for function in faults.FAULTS.values())


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_search_survives_the_death_of_a_trial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["faults", "--quick", "--only", "trial killed", "--json", str(path)])
        faults.main()
    [row] = json.loads(path.read_text())["rows"]
    assert (row["fault"], row["times"], row["lost"], row["repeated"], row["exit"]) == ("trial killed", 1, 0, 0, 0)
    assert capsys.readouterr().out.startswith(("ok", "FAIL"))
