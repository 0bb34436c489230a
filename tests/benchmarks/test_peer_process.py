"""The calls of NePS's and Syne Tune's optimizers, with stand-ins for the libraries."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks import peer_process
from benchmarks.peer_process import EPOCHS, Neps, Question, SyneTune

QUESTION = Question({"lr": 3, "norm": 2}, ["lr"], epochs=3, num_objectives=2, seed=0)


class AskAndTell:
    """Stand-in for `neps.AskAndTell`: asks for the trials of a script, and raises its errors."""

    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.trials: dict[str, Any] = {}
        self.told: list[tuple[str, list[float]]] = []

    def ask(self) -> Any:
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        name, epochs, previous = step
        metadata = SimpleNamespace(id=name, previous_trial_id=previous)
        trial = SimpleNamespace(metadata=metadata, config={"lr": 2, "norm": 1, EPOCHS: epochs})
        self.trials[name] = trial
        return trial

    def tell(self, name: str, values: list[float]) -> None:
        assert name in self.trials
        self.told.append((name, values))


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    found = ModuleType(name)
    vars(found).update(content)
    monkeypatch.setitem(sys.modules, name, found)


def neps(monkeypatch: pytest.MonkeyPatch, *script: Any) -> Neps:
    module(monkeypatch, "torch", manual_seed=lambda seed: None)
    module(
        monkeypatch,
        "neps",
        HPOInteger=dict,
        HPOCategorical=dict,
        SearchSpace=dict,
        AskAndTell=AskAndTell,
        algorithms=SimpleNamespace(moasha=lambda space: list(script)),
    )
    return Neps("moasha", QUESTION)


def test_the_space_for_neps_has_ordered_keys_choices_and_a_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    spaces: list[Any] = []
    neps(monkeypatch)
    sys.modules["neps"].algorithms = SimpleNamespace(primo=lambda space, prior_centers: spaces.append(space))  # type: ignore[attr-defined]
    Neps("primo", QUESTION)
    assert spaces == [
        {
            "lr": {"lower": 0, "upper": 2},
            "norm": {"choices": [0, 1]},
            EPOCHS: {"lower": 1, "upper": 3, "is_fidelity": True},
        }
    ]


def test_a_promoted_config_resumes_under_its_number_after_the_epochs_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neps(monkeypatch, ("1_rung_0", 1, None), ("2_rung_0", 1, None), ("1_rung_1", 3, "1_rung_0"))
    assert peer.suggest() == (0, {"lr": 2, "norm": 1}, 0)
    assert peer.suggest() == (1, {"lr": 2, "norm": 1}, 0)
    assert peer.on_result(0, 1, [1.0, 2.0]) == "pause"
    assert peer.suggest() == (0, {"lr": 2, "norm": 1}, 1)
    assert peer.on_result(0, 2, [1.0, 2.0]) == "continue"
    assert peer.on_result(0, 3, [0.5, 2.0]) == "complete"
    assert peer.optimizer.told == [("1_rung_0", [1.0, 2.0]), ("1_rung_1", [0.5, 2.0])]


def test_a_repeated_proposal_waits_for_the_next_result(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neps(monkeypatch, ("1_rung_0", 1, None), ("7", 3, None), ("7", 3, None), ("8", 3, None))
    assert [peer.suggest() is None for _ in range(4)] == [False, False, True, True]
    assert list(peer.optimizer.trials) == ["1_rung_0", "7"]
    assert peer.on_result(1, 3, [1.0, 1.0]) == "complete"
    assert peer.suggest() == (2, {"lr": 2, "norm": 1}, 0)


@pytest.mark.parametrize("text", peer_process.TOO_EARLY)
def test_an_optimizer_that_cannot_propose_yet_waits(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neps(monkeypatch, ("1_rung_0", 1, None), ValueError(f"need {text}"), ("2_rung_0", 1, None))
    peer.suggest()
    assert peer.suggest() is None
    peer.on_result(0, 1, [1.0, 1.0])
    assert peer.suggest() is not None


def test_another_error_of_an_optimizer_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neps(monkeypatch, ValueError("a fault"))
    with pytest.raises(ValueError, match="a fault"):
        peer.suggest()


def test_a_failed_training_counts_as_the_worst_values_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neps(monkeypatch, *((f"{n}_rung_0", 1, None) for n in range(1, 5)))
    for _ in range(4):
        peer.suggest()
    peer.on_error(0)
    assert peer.optimizer.told == []
    peer.on_result(1, 1, [1.0, 8.0])
    peer.on_result(2, 1, [3.0, 2.0])
    peer.on_error(3)
    assert peer.optimizer.told[-1] == ("4_rung_0", [3.0, 8.0])


class Moasha:
    """Stand-in for Syne Tune's scheduler: stops trial 1, and notes the calls."""

    def __init__(self, space: Any, metrics: list[str], **options: Any) -> None:
        self.calls: list[tuple[str, int]] = []
        assert (metrics, options["max_t"]) == (["objective_0", "objective_1"], 3)

    def suggest(self) -> Any:
        return SimpleNamespace(config={"lr": 2, "norm": 0})

    def on_trial_result(self, trial: Any, result: dict[str, float]) -> str:
        assert (result["objective_0"], result["objective_1"]) == (1.0, 2.0)
        return "STOP" if trial.trial_id == 1 or result[peer_process.TIME] == 3 else "CONTINUE"

    def __getattr__(self, name: str) -> Any:
        return lambda trial, *_: self.calls.append((name, trial.trial_id))


def test_a_scheduler_of_syne_tune_is_called_as_its_tuner_does(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = lambda number, config, created: SimpleNamespace(trial_id=number)
    module(monkeypatch, "syne_tune.config_space", randint=lambda *bounds: bounds, choice=tuple)
    module(monkeypatch, "syne_tune.backend.trial_status", Trial=trial)
    module(monkeypatch, "syne_tune.optimizer.schedulers.multiobjective.moasha", MOASHA=Moasha)
    peer = SyneTune("moasha", QUESTION)
    assert [peer.suggest() for _ in range(3)] == [(number, {"lr": 2, "norm": 0}, 0) for number in range(3)]
    assert [peer.on_result(0, epoch, [1.0, 2.0]) for epoch in (1, 2, 3)] == ["continue", "continue", "complete"]
    assert peer.on_result(1, 1, [1.0, 2.0]) == "stop"
    peer.on_error(2)
    added = [("on_trial_add", number) for number in range(3)]
    assert peer.scheduler.calls == [*added, ("on_trial_remove", 0), ("on_trial_remove", 1), ("on_trial_error", 2)]
