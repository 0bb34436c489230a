"""One training on several GPUs, through Ray Train: each worker takes its rows of every batch, DDP averages gradients.

Every worker draws, augments and mixes whole batches from the same generator and then keeps its own rows, so with
synchronised batch norm the training is that of one process, to rounding. The first worker measures, saves and reports.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

for _key in ("RAY_USAGE_STATS_ENABLED", "RAY_CHDIR_TO_TRIAL_DIR"):
    os.environ.setdefault(_key, "0")  # Ray reads them when it is imported

import ray  # noqa: E402
import torch  # noqa: E402
from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: E402
from ray.train.torch import TorchConfig, TorchTrainer, get_device  # noqa: E402
from ray.util.queue import Empty, Queue  # noqa: E402
from torch import Tensor, distributed, nn  # noqa: E402
from torch.distributed.nn.functional import all_reduce  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from config import cli, interrupts  # noqa: E402
from config.errors import ConfigError  # noqa: E402
from models import create_model  # noqa: E402
from models.parts.attention_dssa import DSSA  # noqa: E402
from models.parts.attention_rep import RepConv  # noqa: E402
from models.parts.backbone import SpikingModel  # noqa: E402
from models.parts.layers import BatchNorm  # noqa: E402
from trainers import checkpoint, loop  # noqa: E402
from trainers.config import TrainConfig  # noqa: E402
from trainers.datasets import DataError  # noqa: E402
from trainers.diagnostics.health import TrainingFailure  # noqa: E402
from trainers.distributed import ray_environment  # noqa: E402
from trainers.epoch_metrics import OnEpoch  # noqa: E402
from trainers.train import Training  # noqa: E402

POLL_S = 0.2
SLOWEST_EPOCH_S = 24 * 3600
"""Seconds that the other workers wait for the first one to measure and save."""


def train_distributed(
    config: TrainConfig,
    workers: int,
    folder: Path,
    on_epoch: OnEpoch,
    *,
    sync_bn: bool = False,
    imports: Sequence[str] = (),
) -> SpikingModel:
    """Trains like `trainers.train.train` with so many workers on this machine, and returns the trained model.

    The workers first import the packages of `imports`.

    Each worker has a GPU, or where the config's device is the CPU `threads` of its cores. With `sync_bn` batch norm
    takes its statistics over the whole batch, not over each worker's rows. Raises what `train` raises, and DataError
    where there are not enough GPUs.
    """
    if config.batch_size % workers:
        raise ConfigError(f"batch_size must be divisible by the number of GPUs (got {config.batch_size}, {workers})")
    use_gpu = config.device != "cpu"
    if use_gpu and torch.cuda.device_count() < workers:
        raise DataError(f"--gpus {workers}: this machine has {torch.cuda.device_count()}")
    ray_environment.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own notices
            with TemporaryDirectory(prefix="ray-train-", ignore_cleanup_errors=True) as scratch:
                task = {
                    "config": config.dump(),
                    "folder": str(folder.absolute()),
                    "sync_bn": sync_bn,
                    "imports": list(imports),
                }
                _run(task, workers, on_epoch, scratch, use_gpu=use_gpu)
    finally:
        ray.shutdown()
    state = checkpoint.load_newest(folder)
    assert state is not None
    model = create_model(config)
    model.load_state_dict(state["model"])
    return model.to("cuda" if use_gpu else "cpu")


def _run(task: dict[str, Any], workers: int, on_epoch: OnEpoch, scratch: str, *, use_gpu: bool) -> None:
    reports = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _worker_main,
        train_loop_config={**task, "reports": reports},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        torch_config=TorchConfig(timeout_s=SLOWEST_EPOCH_S),
        run_config=RunConfig(name="ray", storage_path=scratch, failure_config=FailureConfig(max_failures=0)),
    )
    ended: list[Exception | None] = []

    def fit() -> None:
        try:
            trainer.fit()
            ended.append(None)
        except Exception as error:  # raised again where the caller waits
            ended.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    with interrupts.deferred():  # an exception in the middle of Ray's own code becomes a SystemError
        thread.start()
        while thread.is_alive() or not reports.empty():
            interrupts.check()
            try:
                on_epoch(reports.get(timeout=POLL_S))
            except Empty:
                continue
    if ended[0] is not None:
        raise _cause(ended[0])


def _cause(error: Exception) -> Exception:
    """Returns what went wrong in the first worker that says so, rather than what Ray makes of it."""
    failures = getattr(error, "worker_failures", {})
    for _, failure in sorted(failures.items()):
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, TrainingFailure | DataError | ConfigError):
            return inner
    return error


def _worker_main(task: dict[str, Any]) -> None:
    """What each worker does."""
    cli.import_packages(task["imports"])
    rank, world = distributed.get_rank(), distributed.get_world_size()
    is_cpu = task["config"]["device"] == "cpu"
    keys = {**task["config"], "device": "cpu" if is_cpu else get_device().index}  # every worker sees all cards
    tell = task["reports"].put if rank == 0 else lambda report: None
    train_worker(TrainConfig.model_validate(keys), Path(task["folder"]), tell, rank, world, sync_bn=task["sync_bn"])


def train_worker(
    config: TrainConfig, folder: Path, on_epoch: OnEpoch, rank: int, world: int, *, sync_bn: bool = False
) -> SpikingModel:
    """Trains as worker `rank` of `world`, inside a process group."""
    training = Training(config, folder, keep_best=True)
    learner = training.learner
    if sync_bn and any(isinstance(module, RepConv | DSSA) for module in learner.model.modules()):
        raise ConfigError("--sync-bn: SDSA_v2 and DSSA keep statistics of their own, a worker each; leave it out")
    devices = [training.device.index] if training.device.type == "cuda" else None
    learner.forward = DistributedDataParallel(learner.model, device_ids=devices, broadcast_buffers=False)
    learner.rows = slice(rank, None, world)
    for epoch in range(training.resume(on_epoch), config.epochs):
        training.start_epoch(epoch)
        with synchronized(learner.model) if sync_bn else nullcontext():
            speed = loop.train_epoch(learner, training.data, config, None, training.probe.step)
        if rank == 0:
            on_epoch(training.evaluate(epoch, speed))
    distributed.barrier()  # nobody leaves before the last epoch is saved
    return learner.model


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Inside, batch norm normalises with the statistics of all workers' rows."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.forward = _Synchronised(norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Synchronised:
    """Batch norm of x_TBCHW over all workers, with gradients through the statistics.

    PyTorch's own takes CUDA tensors only. Running statistics are left alone: each epoch re-estimates them.
    """

    def __init__(self, norm: BatchNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        reduce: Any = all_reduce  # torch has no types for it
        norm, over = self.norm, (0, 1, 3, 4)
        count = distributed.get_world_size()
        mean = reduce(x.float().mean(over)) / count
        centred = x.float() - mean.view(-1, 1, 1)
        variance = reduce(centred.square().mean(over)) / count
        scale: Tensor = torch.rsqrt(variance + norm.eps) * norm.weight
        normalised = centred * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        result: Tensor = normalised.to(x.dtype)
        return result
