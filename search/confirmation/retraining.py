"""Retraining of a race's candidates with fresh seeds, and one evaluation on the test set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from config import cli
from config.cli import CommandError
from search.confirmation.race import Race
from search.execution import batching, ray_tasks
from search.execution.ray_tasks import ReadOuts
from search.messages import Failure, TrialTask, WorkerTask
from search.storage.checkpoint_store import store_uri
from search.storage.study import Study
from search.storage.study_metadata import TESTED, task_config

FIRST_SEED = 1000
"""Offset of the first fresh seed from the config's, far from the further seeds that a search may train."""


@dataclass
class Retraining:
    """Trains the candidates of a race. Each result is stored in the study as soon as it is known."""

    study: Study
    race: Race
    imports: tuple[str, ...]
    slots: int

    def run_round(self, number: int) -> None:
        """Trains each candidate that is still in the race with one more seed."""
        trained = {(row["trial"], row["seed"]) for row in self.race.rows}
        active = self.race.active_trials()
        tasks = [self._task(trial, self._config(trial)["seed"] + FIRST_SEED + number) for trial in active]
        tasks = [task for task in tasks if (task.number, task.config["seed"]) not in trained]
        print(f"seed {number + 1}: {len(active)} candidates, {len(tasks)} to train", flush=True)
        size = batching.max_batch_size(self.study.space)
        batches = batching.batch_positions([task.config for task in tasks], size, self.slots)
        for trials, results in self._run(ray_tasks.retrain, [[tasks[i] for i in batch] for batch in batches]):
            for i, task in enumerate(trials):
                self._save(task, results if isinstance(results, Failure) else results[i])

    def read_test(self, front: Iterable[int]) -> None:
        """Evaluates the retrained networks of the front's trials on the test set, once per study."""
        if self.study.result().attrs.get(TESTED) is not None:
            print("the test set was read for this study before; its metrics are not replaced")
            return
        members = set(front)
        trained = sorted({(row["trial"], row["seed"]) for row in self.race.rows if row["trial"] in members})
        if not trained:
            print("no retrained point is on the front: the test set is not read")
            return
        rows: list[dict[str, Any]] = []
        for [task], read_outs in self._run(ray_tasks.evaluate_test, [[self._task(*pair)] for pair in trained]):
            if isinstance(read_outs, Failure):
                raise CommandError(cli.ENVIRONMENT, read_outs.reason)
            rows += _rows(task, read_outs)
        self.study.record_test(sorted(rows, key=lambda row: (row["trial"], row["seed"])))

    def _run(self, function: Any, batches: list[list[TrialTask]]) -> Iterator[tuple[list[TrialTask], Any]]:
        """Runs a Ray task on each batch; yields the batch and its result."""
        need = self.study.space.settings.resources
        tasks = [WorkerTask(tuple(batch), need, self.imports) for batch in batches]
        for position, result in ray_tasks.run_all(function, tasks, need, self.slots):
            yield batches[position], result

    def _config(self, trial: int) -> dict[str, Any]:
        return self.study.trial_result(trial).config

    def _task(self, trial: int, seed: int) -> TrialTask:
        folder = self.study.folder / "confirm" / f"t{trial:04d}-s{seed}"
        config = {**task_config(self._config(trial), self.study.space), "seed": seed}
        uri = store_uri(self.study.space, folder.relative_to(self.study.folder))
        return TrialTask(trial, config, str(folder.absolute()), uri, self.study.space.settings.exit_settings)

    def _save(self, task: TrialTask, result: ReadOuts | Failure) -> None:
        name = f"t{task.number:04d} seed {task.config['seed']}"
        if isinstance(result, Failure) and result.failure_class == "environment":
            raise CommandError(cli.ENVIRONMENT, result.reason)
        if isinstance(result, Failure):
            self.race.failed[task.number] = result
            print(f"{name}  failed    {result.failure_class}: {result.reason}", flush=True)
            return
        self.race.rows.extend(_rows(task, result))
        self.study.record_confirmation(self.race.rows)
        last = next(row for row in reversed(result) if not row.get("exit"))
        print(f"{name}  accuracy {last['accuracy']:.2f}  spike_rate {last['spike_rate']:.4g}", flush=True)


def _rows(task: TrialTask, read_outs: ReadOuts) -> list[dict[str, Any]]:
    return [{"trial": task.number, "seed": task.config["seed"], **read_out} for read_out in read_outs]
