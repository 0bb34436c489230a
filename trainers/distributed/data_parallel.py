"""Data-parallel training on several GPUs with Ray Train: each worker takes its rows of every batch, DDP averages.

Every worker samples, augments and mixes whole batches with the same generator and then keeps its own rows; of images on
disk it decodes only those that its rows depend on. With synchronized batch norm, the training therefore equals that of
one process up to rounding. The first worker evaluates, saves and reports.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from config import cli, interrupts
from config.errors import ConfigError
from models import create_model
from models.attention.dssa import DSSA
from models.attention.rep import RepConv
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, split_steps
from trainers import checkpoint, loop
from trainers.config import TrainConfig
from trainers.data.events.stream import EventFiles
from trainers.data.image_folders import ImageFiles
from trainers.datasets import DataError
from trainers.diagnostics.health import TrainingFailure
from trainers.distributed import ray_environment
from trainers.epoch_metrics import OnEpoch
from trainers.optimization.tet import StepOutputs
from trainers.train import Training

POLL_S = 0.2
MAX_EPOCH_S = 24 * 3600
"""Timeout of the other workers while the first one evaluates and saves."""


def train_distributed(
    config: TrainConfig,
    workers: int,
    folder: Path,
    on_epoch: OnEpoch,
    *,
    sync_bn: bool = False,
    imports: Sequence[str] = (),
) -> SpikingModel:
    """Trains like `trainers.train.train` with `workers` processes on this machine, and returns the trained model.

    Each worker first imports the packages of `imports`. It has a GPU, or `threads` cores if the config's device is the
    CPU. With `sync_bn`, batch norm takes its statistics over the whole batch, not over each worker's rows. Raises the
    errors of `train`, and DataError if there are not enough GPUs.
    """
    if config.batch_size % workers:
        raise ConfigError(f"batch_size must be divisible by the number of GPUs (got {config.batch_size}, {workers})")
    use_gpu = config.device != "cpu"
    if use_gpu and torch.cuda.device_count() < workers:
        raise DataError(f"--gpus {workers}: this machine has {torch.cuda.device_count()}")
    ray_environment.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's notices
            with TemporaryDirectory(prefix="ray-train-", ignore_cleanup_errors=True) as scratch:
                task: dict[str, Any] = {"config": config.dump(), "folder": str(folder.absolute())}
                task |= {"sync_bn": sync_bn, "imports": list(imports)}
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
        torch_config=TorchConfig(timeout_s=MAX_EPOCH_S),
        run_config=RunConfig(name="ray", storage_path=scratch, failure_config=FailureConfig(max_failures=0)),
    )
    errors: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # raised in the caller's thread below
            errors.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    with interrupts.deferred():  # an interrupt in Ray's code would become a SystemError
        thread.start()
        while thread.is_alive() or not reports.empty():
            interrupts.check()
            with suppress(Empty):
                on_epoch(reports.get(timeout=POLL_S))
    if errors:
        raise _worker_error(errors[0])


def _worker_error(error: Exception) -> Exception:
    """Returns the training's own error in the first worker that has one, else Ray's."""
    for _, failure in sorted(getattr(error, "worker_failures", {}).items()):
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, TrainingFailure | DataError | ConfigError):
            return inner
    return error


def _worker_main(task: dict[str, Any]) -> None:
    """Trains as one worker, inside the process group."""
    cli.import_packages(task["imports"])
    rank, world = distributed.get_rank(), distributed.get_world_size()
    device = "cpu" if task["config"]["device"] == "cpu" else get_device().index  # every worker sees all GPUs
    config = TrainConfig.model_validate({**task["config"], "device": device})
    training = Training(config, Path(task["folder"]), keep_best=True)
    learner, sync_bn = training.learner, task["sync_bn"]
    if sync_bn and any(isinstance(module, RepConv | DSSA) for module in learner.model.modules()):
        raise ConfigError("--sync-bn: SDSA_v2 and DSSA keep separate statistics in each worker; leave it out")
    device_ids = [training.device.index] if training.device.type == "cuda" else None
    forward = learner.model if config.tet is None else StepOutputs(learner.model)
    learner.forward = DistributedDataParallel(forward, device_ids=device_ids, broadcast_buffers=False)
    share_rows(training, rank, world)
    learner.graph, learner.left_out = None, []  # DDP reduces the gradients of all parameters, outside a graph
    on_epoch = task["reports"].put if rank == 0 else lambda metrics: None
    for epoch in range(training.resume(on_epoch), config.epochs):
        training.start_epoch(epoch)
        with synchronized(learner.model) if sync_bn else nullcontext():
            speed = loop.train_epoch(learner, training.data, config, None, training.probe.step)
        if rank == 0:
            metrics = training.evaluate(epoch, speed)
            training.save(metrics)
            on_epoch(metrics)
    distributed.barrier()  # workers wait until the last epoch is saved


def share_rows(training: Training, rank: int, workers: int) -> None:
    """Sets the rows of each batch that a worker trains on, and those of images on disk that it decodes.

    Mixup and cutmix mix row i with row B - 1 - i: a worker takes both, if the batch can be shared in pairs, so that it
    decodes no image of another worker.
    """
    learner, data = training.learner, training.data
    size, is_mixed = learner.batch_size(data, training.config), learner.mixup is not None
    learner.rows = slice(rank, None, workers)
    if is_mixed and size % (2 * workers) == 0:
        first = range(rank, size // 2, workers)
        learner.rows = [*first, *(size - 1 - row for row in reversed(first))]
    if isinstance(data, ImageFiles | EventFiles):
        own = frozenset(range(size)[learner.rows] if isinstance(learner.rows, slice) else learner.rows)
        partners = {size - 1 - row for row in own} if is_mixed else set()
        training.data = replace(data, rows=own | partners)


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Normalizes with the statistics of all workers' rows inside the context."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.forward = _SyncBatchNorm(norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _SyncBatchNorm:
    """Batch norm of x [T, B, C, H, W] over all workers, with gradients through the statistics.

    Running statistics do not change: each epoch re-estimates them.
    """

    def __init__(self, norm: BatchNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return self._by_all_reduce(x)
        apply: Any = _GpuSyncBatchNorm.apply
        return split_steps(apply(x.flatten(0, 1), self.norm.weight, self.norm.bias, self.norm.eps), x)

    def _by_all_reduce(self, x: Tensor) -> Tensor:
        reduce: Any = all_reduce  # torch has no types for it
        norm, over = self.norm, (0, 1, 3, 4)
        count = distributed.get_world_size()
        mean = reduce(x.float().mean(over)) / count
        centred = x.float() - mean.view(-1, 1, 1)
        variance = reduce(centred.square().mean(over)) / count
        scale: Tensor = torch.rsqrt(variance + norm.eps) * norm.weight
        normalised: Tensor = centred * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        return normalised.to(x.dtype)


class _GpuSyncBatchNorm(torch.autograd.Function):
    """Batch norm of x [N, C, H, W] with PyTorch's kernels: one collective in each direction, in x's dtype.

    `torch.nn.SyncBatchNorm` also gathers the number of rows, which makes the host wait in each layer. Here all workers
    have equally many. As there, the gradients of weight and bias are those of this worker's rows, which DDP averages.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        world, channels = distributed.get_world_size(), x.shape[1]
        local = torch.cat(torch.batch_norm_stats(x, eps))
        gathered = local.new_empty(world, 2 * channels)
        distributed.all_gather_into_tensor(gathered, local)
        parts = gathered[:, :channels].contiguous(), gathered[:, channels:].contiguous()
        equal = x.new_ones(world)  # weights of the workers, which must have the dtype of x
        mean, scale = torch.batch_norm_gather_stats_with_counts(x, *parts, None, None, 0.0, eps, equal)
        counts = torch.full((world,), x.numel() // channels, dtype=torch.int32, device=x.device)
        ctx.save_for_backward(x, weight, mean, scale, counts)
        normalised: Tensor = torch.batch_norm_elemt(x, weight, bias, mean, scale, eps)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, counts = ctx.saved_tensors
        is_last = x.is_contiguous(memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
        sum_grad, sum_product, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, scale, weight, True, True, True
        )
        sums = torch.cat((sum_grad, sum_product))
        distributed.all_reduce(sums)
        sum_grad, sum_product = sums.chunk(2)
        grad_x = torch.batch_norm_backward_elemt(grad, x, mean, scale, weight, sum_grad, sum_product, counts)
        return grad_x, grad_weight, grad_bias, None
