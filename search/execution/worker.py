"""What runs on a worker: one training, reported epoch by epoch; whatever goes wrong is reported too."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from config.cli import import_packages
from config.files import DISK_FULL
from search.execution.node_checks import node_info
from search.space.schema import Resources
from search.storage.checkpoint_store import CheckpointStore
from trainers.config import TrainConfig
from trainers.datasets import DataError
from trainers.diagnostics.health import FailureClass, TrainingFailure
from trainers.epoch_metrics import EpochMetrics

if TYPE_CHECKING:
    from trainers.data.split import Split

Outcomes = Mapping[Any, EpochMetrics | Exception]
"""What became of an epoch of each member of a group."""

NODE = "ray.io/node-id"
"""The label that Ray gives each node."""


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # ray has no types
def load_shared(keys: dict[str, Any], imports: list[str]) -> tuple[Any, ...]:
    """Loads a config's data into the object store, where all trials of a machine read one copy."""
    import_packages(imports)
    from trainers.data.sources import load_train, to_arrays

    return to_arrays(load_train(TrainConfig.model_validate(keys)))


@dataclass(frozen=True)
class Failure:
    """Why a training ended: its class and the reason; `environment` where the machine is to blame, not the trial."""

    failure_class: FailureClass | Literal["environment"]
    reason: str


@dataclass(frozen=True)
class GroupReport:
    """What became of an epoch of each member of a group; nothing where the group as a whole broke down."""

    outcomes: dict[int, EpochMetrics | Failure]


def placement(task: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Returns what Ray sets aside for a task, on a node that can run it."""
    need = [{"CPU": task["need"]["cpu"], "GPU": task["need"]["gpu"]}]
    unfit = task["nodes"]["unfit"] if task["nodes"] is not None else []
    if not unfit:
        return tune.PlacementGroupFactory(need)
    return tune.PlacementGroupFactory(need, bundle_label_selector=[{NODE: f"!in({','.join(unfit)})"}])


def run_trial(task: dict[str, Any]) -> None:
    """Trains the task's config and reports each epoch to Ray Tune; ends early when Tune says so.

    A failure is a last report with its class and reason, so that Tune retries only trials whose process died. A task
    with `others` is a group, trained as one. The worker goes on to the next trial without the memory of this one.
    """
    try:
        _train(task)
    finally:
        from trainers.diagnostics.memory import give_back

        give_back()


def _register_node(nodes: dict[str, Any] | None) -> None:
    """Tells the driver what this node has, where it joined during the search; goes on when the driver says so."""
    if nodes is None:
        return
    here = ray.get_runtime_context().get_node_id()
    if here not in nodes["known"]:
        tune.report({"node": here, "facts": node_info(nodes["path"], nodes["data_dir"])})


def _train(task: dict[str, Any]) -> None:
    _register_node(task["nodes"])
    import_packages(task["imports"])
    if task["others"]:
        _run_group(task)
        return
    from trainers.train import train  # imports torch, once a worker; the driver is spared

    config = TrainConfig.model_validate(task["config"])
    try:
        with _folder(task) as folder:
            train(config, lambda report: _report(task, folder, report), folder, parts=_shared(task["data"]))
    except Exception as error:
        failure = classify_failure(error)
        tune.report({"failure": failure.failure_class, "reason": failure.reason})


def _run_group(task: dict[str, Any]) -> None:
    members = {member["number"]: member for member in (task, *task["others"])}

    def tell(outcomes: Outcomes) -> None:
        told = {n: classify_failure(found) if isinstance(found, Exception) else found for n, found in outcomes.items()}
        tune.report({"group": GroupReport(told)})

    try:
        _train_together(members, tell, task["data"])
    except Exception:  # of no member's own: each is tried alone, and then says what is wrong
        tune.report({"group": GroupReport({})})


def _train_together(members: Mapping[Any, dict[str, Any]], tell: Callable[[Outcomes], None], data: Any = None) -> None:
    """Trains tasks as one batched model; `tell` gets what became of an epoch of each, once its checkpoint is kept."""
    from trainers.fused.training import GroupJob, train_group

    with ExitStack() as folders:
        where = {number: folders.enter_context(_folder(member)) for number, member in members.items()}
        jobs = {n: GroupJob(TrainConfig.model_validate(members[n]["config"]), where[n]) for n in members}

        def keep_and_tell(outcomes: Outcomes) -> tuple[int, ...]:
            for number in outcomes:
                _upload(members[number], where[number])
            tell(outcomes)
            return ()

        train_group(jobs, keep_and_tell, _shared(data))


def classify_failure(error: Exception) -> Failure:
    """Returns the class of failure and the reason of whatever a training raised."""
    if isinstance(error, TrainingFailure):
        return Failure(error.kind, str(error))
    from trainers.diagnostics.memory import is_out_of_memory

    if isinstance(error, MemoryError):
        return Failure("oom", "out of memory (RAM)")
    if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return Failure("environment", str(error))
    kind: FailureClass = "oom" if is_out_of_memory(error) else "error"
    return Failure(kind, f"{type(error).__name__}: {error}\n{_last_lines(error)}")


@ray.remote(max_retries=3)  # type: ignore[untyped-decorator]
def retrain(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trains the tasks' configs to the end, several as one batched model.

    Returns for each its last `read_outs`, or the `failure` and its `reason`. What ends a group as a whole ends no
    member: each then goes on alone from its checkpoint.
    """
    import_packages(tasks[0]["imports"])
    if len(tasks) == 1:
        return [_retrain_one(tasks[0])]
    last = [TrainConfig.model_validate(task["config"]).epochs for task in tasks]
    found: dict[int, dict[str, Any]] = {}

    def tell(outcomes: Outcomes) -> None:
        for i, outcome in outcomes.items():
            if isinstance(outcome, TrainingFailure):
                found[i] = _failed(outcome)
            elif isinstance(outcome, EpochMetrics) and outcome.epoch == last[i]:
                found[i] = _measured(outcome)

    with suppress(Exception):
        _train_together(dict(enumerate(tasks)), tell)
    return [found.get(i) or _retrain_one(task) for i, task in enumerate(tasks)]


def _retrain_one(task: dict[str, Any]) -> dict[str, Any]:
    from trainers.train import train

    last: list[EpochMetrics] = []
    config = TrainConfig.model_validate(task["config"])
    try:
        with _folder(task) as folder:
            train(config, lambda report: last.__setitem__(slice(None), [report]), folder)
            _upload(task, folder)
    except Exception as error:  # a training raises anything
        return _failed(error)
    return _measured(last[0])


def _failed(error: Exception) -> dict[str, Any]:
    failure = classify_failure(error)
    return {"failure": failure.failure_class, "reason": failure.reason}


def _measured(report: EpochMetrics) -> dict[str, Any]:
    return {"read_outs": [{**report.metrics, **read_out} for read_out in report.read_outs]}


@ray.remote(max_retries=3)  # type: ignore[untyped-decorator]
def evaluate_test(task: dict[str, Any]) -> dict[str, Any]:
    """Returns the `read_outs` on the test set of what `train_again` left in the task's folder."""
    import_packages(task["imports"])
    from models import create_model
    from trainers import checkpoint
    from trainers.train import measure_test, prepare

    try:
        config = TrainConfig.model_validate(task["config"])
        device = prepare(config)
        model = create_model(config).to(device)
        with _folder(task) as folder:
            state = checkpoint.load_newest(folder, device)
        if state is None:
            return {"failure": "error", "reason": f"{task['folder']} holds no whole checkpoint"}
        model.load_state_dict(state["model"])
        return {"read_outs": measure_test(model, config).read_outs}
    except Exception as error:  # the test set may be missing where the training set is not
        return _failed(error)


def run_all(function: Any, tasks: Sequence[Any], resources: Resources, concurrency: int) -> Iterator[tuple[int, Any]]:
    """Runs a remote function over all tasks, so many at a time, and yields (position, result) as each is done.

    Where its process died time after time, or could not begin, the result is a failure's class and reason.
    """
    waiting = list(enumerate(tasks))
    running: dict[Any, int] = {}
    remote = function.options(num_cpus=resources.cpu, num_gpus=resources.gpu)
    while waiting or running:
        while waiting and len(running) < concurrency:
            position, task = waiting.pop(0)
            running[remote.remote(task)] = position
        done, _ = ray.wait(list(running), timeout=0.5)
        for reference in done:
            position = running.pop(reference)
            try:
                found = ray.get(reference)
            except RayError as error:
                kind = "oom" if isinstance(error, OutOfMemoryError) else "error"
                is_dead = not isinstance(error, OutOfMemoryError | RayTaskError)
                found = {"failure": "killed" if is_dead else kind, "reason": str(error).strip()}
            yield position, found


def _shared(reference: Any) -> tuple[Split, Split] | None:
    """Returns this machine's copy of the data. Raises what loading it raised."""
    if reference is None:
        return None
    from trainers.data.sources import from_arrays

    try:
        return from_arrays(ray.get(reference))
    except RayTaskError as error:
        raise error.cause from None


@contextmanager
def _folder(task: dict[str, Any]) -> Iterator[Path]:
    """Yields the folder of a task's checkpoints: its own, or one on this machine with what is kept elsewhere."""
    own = Path(task["folder"])
    if task["store_uri"] is None:
        yield own
        return
    with TemporaryDirectory(prefix="checkpoints-") as scratch:
        CheckpointStore(task["store_uri"]).download(Path(scratch, own.name))
        yield Path(scratch, own.name)


def _upload(task: dict[str, Any], folder: Path) -> None:
    """Sends what is new in a task's folder to where it is kept."""
    if task["store_uri"] is not None:
        CheckpointStore(task["store_uri"]).upload(folder)


def _report(task: dict[str, Any], folder: Path, report: EpochMetrics) -> None:
    _upload(task, folder)  # before the driver counts on it
    tune.report({"epoch": report.epoch, "report": report})  # an object: Tune would flatten a dict


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip()
