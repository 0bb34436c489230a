"""NePS's and Syne Tune's own optimizers behind JSON lines, started by `benchmarks/peers.py` in their environment.

A request is a line `[method, argument, ...]`, and its answer a line `{"result": ...}` or `{"error": text}`. Configs are
positions in the lists of values: an ordered key is an integer for the optimizer, another one a choice. Objectives are
minimized, as measured. The file imports nothing of this project.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime
from typing import Any

EPOCHS = "epochs"
TIME = "training_iteration"
TOO_EARLY = ("at least one array", "maximum fidelity")
"""NePS 0.17 raises these if a rung holds only running trials, and before PriMO's second phase has a complete trial."""
Job = tuple[int, dict[str, int], int]
"""Number of a trial, its config, and the epochs for which it has been trained."""


@dataclass(frozen=True)
class Question:
    """Space and objectives of a search: the number of values of each key, and which keys are ordered."""

    sizes: dict[str, int]
    ordered: list[str]
    epochs: int
    num_objectives: int
    seed: int


class Neps:
    """Trials of `neps.AskAndTell`, where each rung of a config is one trial that continues the previous rung's.

    A failed training counts as the worst values so far, as with NePS's `objective_value_on_error`. PriMO has no prior.
    """

    def __init__(self, optimizer: str, question: Question) -> None:
        neps: Any = importlib.import_module("neps")
        torch: Any = importlib.import_module("torch")
        _seed(question.seed)
        torch.manual_seed(question.seed)
        keys = {
            key: neps.HPOInteger(lower=0, upper=size - 1)
            if key in question.ordered
            else neps.HPOCategorical(choices=list(range(size)))
            for key, size in question.sizes.items()
        }
        fidelity = neps.HPOInteger(lower=1, upper=question.epochs, is_fidelity=True)
        options: dict[str, Any] = {"prior_centers": {}} if optimizer == "primo" else {}
        create = getattr(neps.algorithms, optimizer)
        self.optimizer: Any = neps.AskAndTell(create(neps.SearchSpace({**keys, EPOCHS: fidelity}), **options))
        self.question = question
        self.running: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.reached: dict[int, int] = {}
        self.worst: list[float] = []
        self.is_waiting = False

    def suggest(self) -> Job | None:
        """Returns the next job, or None if there is none before a running trial has ended.

        The second phase of PriMO ignores running trials, so it repeats a proposal until there is a new result.
        """
        known = dict(self.optimizer.trials)
        trial = None if self.is_waiting else self._ask()
        self.is_waiting = trial is None or trial.metadata.id in known
        if trial is None or self.is_waiting:
            self.optimizer.trials = known
            return None
        number = self.numbers.get(trial.metadata.previous_trial_id, len(self.reached))
        self.running[number], self.numbers[trial.metadata.id] = trial.metadata.id, number
        config = {key: int(trial.config[key]) for key in self.question.sizes}
        return number, config, self.reached.setdefault(number, 0)

    def _ask(self) -> Any:
        try:
            return self.optimizer.ask()
        except (AssertionError, ValueError) as error:
            if not any(text in str(error) for text in TOO_EARLY):
                raise
            return None

    def on_result(self, number: int, epoch: int, values: list[float]) -> str:
        if epoch < self.optimizer.trials[self.running[number]].config[EPOCHS]:
            return "continue"
        self.reached[number] = epoch
        self.worst = [max(pair) for pair in zip(values, self.worst or values, strict=True)]
        self._tell(number, values)
        return "complete" if epoch == self.question.epochs else "pause"

    def on_error(self, number: int) -> None:
        if self.worst:  # before any result, the trial stays a running one
            self._tell(number, self.worst)

    def _tell(self, number: int, values: list[float]) -> None:
        self.optimizer.tell(self.running.pop(number), values)
        self.is_waiting = False


class SyneTune:
    """A scheduler of Syne Tune, called as its tuner does: `moasha`, or `morea` with a population of 20."""

    def __init__(self, optimizer: str, question: Question) -> None:
        self.question = question
        self.metrics = [f"objective_{i}" for i in range(question.num_objectives)]
        _seed(question.seed)
        self.scheduler: Any = self._moasha() if optimizer == "moasha" else self._morea()
        self.trials: dict[int, Any] = {}

    def _moasha(self) -> Any:
        module: Any = importlib.import_module("syne_tune.optimizer.schedulers.multiobjective.moasha")
        epochs, seed = self.question.epochs, self.question.seed
        return module.MOASHA(self._space(), self.metrics, max_t=epochs, time_attr=TIME, random_seed=seed)

    def _morea(self) -> Any:
        searchers: Any = importlib.import_module("syne_tune.optimizer.schedulers.multiobjective")
        schedulers: Any = importlib.import_module("syne_tune.optimizer.schedulers.single_fidelity_scheduler")
        space, seed = self._space(), self.question.seed
        searcher = searchers.MultiObjectiveRegularizedEvolution(space, population_size=20, random_seed=seed)
        return schedulers.SingleFidelityScheduler(space, self.metrics, searcher=searcher, random_seed=seed)

    def _space(self) -> dict[str, Any]:
        domains: Any = importlib.import_module("syne_tune.config_space")
        return {
            key: domains.randint(0, size - 1) if key in self.question.ordered else domains.choice(list(range(size)))
            for key, size in self.question.sizes.items()
        }

    def suggest(self) -> Job | None:
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        number = len(self.trials)
        status: Any = importlib.import_module("syne_tune.backend.trial_status")
        self.trials[number] = status.Trial(number, suggestion.config, datetime.now())
        self.scheduler.on_trial_add(self.trials[number])
        return number, {key: int(suggestion.config[key]) for key in self.question.sizes}, 0

    def on_result(self, number: int, epoch: int, values: list[float]) -> str:
        trial, is_last = self.trials[number], epoch == self.question.epochs
        result = {TIME: epoch, **dict(zip(self.metrics, values, strict=True))}
        if self.scheduler.on_trial_result(trial, result) == "STOP":
            self.scheduler.on_trial_remove(trial)
            return "complete" if is_last else "stop"
        if is_last:
            self.scheduler.on_trial_complete(trial, result)
        return "complete" if is_last else "continue"

    def on_error(self, number: int) -> None:
        self.scheduler.on_trial_error(self.trials[number])


LIBRARIES: dict[str, type[Neps | SyneTune]] = {"neps": Neps, "syne_tune": SyneTune}


def _seed(seed: int) -> None:
    numpy: Any = importlib.import_module("numpy")
    random.seed(seed)
    numpy.random.seed(seed)


def main() -> None:
    """Answers requests from standard input until it is closed; the first is `[library, optimizer, question]`."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # what a library prints is no answer
    peer: Neps | SyneTune | None = None
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            if peer is None:
                optimizer, question = arguments
                peer, result = LIBRARIES[method](optimizer, Question(**question)), None
            else:
                result = getattr(peer, method)(*arguments)
            answer = {"result": result}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
