"""Training steps on a GPU: less work for the device, and one CUDA graph where launching kernels takes the time.

Running statistics of batch norms are re-estimated after each epoch, so an epoch does not update them. A bias in front
of a batch norm has no effect on its output; an epoch leaves it out, and its value stays.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.attention.rep import RepConv
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv
from trainers.config import TrainConfig
from trainers.diagnostics.memory import is_out_of_memory

WARM_UP = 2
"""Steps before the first timed one: kernels are compiled, and the optimizer's state is created."""
MIN_STEPS = 20
"""Steps of an epoch that a graph must serve: its capture takes about two steps."""
WAITING_SHARE = 0.2
"""Share of a step that the host waits for the GPU below which launching kernels limits the speed."""

LARGE_STEP = 2**22
"""Batch x steps x tokens x width from which the GPU, not launching kernels, limits the speed: an estimate."""

Update = Callable[[Tensor, Tensor], Tensor]
"""One forward, backward and optimizer step on a model's input and target; returns the loss."""


def prefers_channels_last(config: TrainConfig) -> bool:
    """Returns whether a model's maps should be in channels-last memory on a GPU.

    cuDNN's convolutions need no copies then, but the heads of attentions do, which costs launches in small steps.
    """
    tokens = (config.img_size / config.patch_size) ** 2
    width = max(config.embed_dim) if isinstance(config.embed_dim, tuple) else config.embed_dim
    return config.amp and config.batch_size * config.step * tokens * width >= LARGE_STEP


@contextmanager
def batch_statistics(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Normalizes without updating these running statistics inside the context."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def untracked_norms(model: nn.Module) -> list[_BatchNorm]:
    """Returns the batch norms whose running statistics no training step reads."""
    read = {module.bn for module in model.modules() if isinstance(module, RepConv)}  # for its padding
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module not in read]


def convs_before_norms(model: SpikingModel) -> list[Conv]:
    """Returns the convolutions with a bias whose output goes into a batch norm, from one evaluated image."""
    outputs: dict[int, tuple[Conv, Tensor]] = {}
    found: list[Conv] = []

    def after_conv(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, Conv)
        outputs[id(output)] = conv, output  # a reference, so that no other tensor gets its identity

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            found.append(outputs[id(inputs[0])][0])

    layers = [module for module in model.modules() if isinstance(module, Conv) and module.bias is not None]
    handles = [conv.register_forward_hook(after_conv) for conv in layers]
    handles += [norm.register_forward_pre_hook(before_norm) for norm in untracked_norms(model)]
    config, parameter, was_training = model.config, next(model.parameters()), model.training
    try:
        with torch.no_grad():
            shape = 1, config.in_channels, config.img_size, config.img_size
            model.eval().forward_steps(parameter.new_zeros(shape))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))


@contextmanager
def without_biases(convs: Sequence[nn.Module]) -> Iterator[None]:
    """Computes these convolutions without their biases inside the context."""
    biases = [conv._parameters["bias"] for conv in convs]
    for conv in convs:
        conv._parameters["bias"] = None
    try:
        yield
    finally:
        for conv, bias in zip(convs, biases, strict=True):
            conv._parameters["bias"] = bias


class GraphedStep:
    """The update of a training as a CUDA graph, captured once an epoch where that makes the epoch shorter.

    The learning rate of the epoch is part of the graph. Input and target are copied into its memory before each replay.
    A graph takes over the memory of the one before, which lives until then.
    """

    def __init__(self, update: Update, optimizer: torch.optim.Optimizer) -> None:
        self.update, self.optimizer = update, optimizer
        self.is_worth_it: bool | None = None
        """Whether launching kernels limits the speed; None before it is measured."""
        self._steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_current = False
        self._input, self._target, self._loss = (torch.empty(0) for _ in range(3))

    def start_epoch(self) -> None:
        """Makes the graph outdated, whose learning rate was that of the last epoch."""
        self._is_current, self._loss = False, torch.empty(0)
        self.optimizer.zero_grad(set_to_none=True)  # the gradients are in the graph's memory

    def step(self, x: Tensor, target: Tensor, *, steps_left: int, eager: bool) -> Tensor:
        """Returns the loss of a step; `eager` if hooks of the model's layers must run."""
        self._steps += 1
        if not (eager or self._steps <= WARM_UP or self.is_worth_it is False):
            if self.is_worth_it is None:
                return self._timed(x, target)
            if self._is_current or (steps_left >= MIN_STEPS and self._capture(x, target)):
                return self._replay(x, target)
        return self.update(x, target)

    def _timed(self, x: Tensor, target: Tensor) -> Tensor:
        torch.cuda.synchronize(x.device)
        started = time.perf_counter()
        loss = self.update(x, target)
        launched = time.perf_counter()
        torch.cuda.synchronize(x.device)
        ended = time.perf_counter()
        self.is_worth_it = ended - launched < WAITING_SHARE * (ended - started)
        return loss

    def _replay(self, x: Tensor, target: Tensor) -> Tensor:
        assert self._graph is not None
        self._input.copy_(x)
        self._target.copy_(target)
        self._graph.replay()
        return self._loss

    def _capture(self, x: Tensor, target: Tensor) -> bool:
        """Captures the update, without running it. Returns False if that is impossible."""
        self._input, self._target = x.clone(), target.clone()
        graph = torch.cuda.CUDAGraph()
        stream = capture_stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        try:
            with torch.cuda.stream(stream), _capturable(self.optimizer):
                pool = None if self._graph is None else self._graph.pool()
                graph.capture_begin(pool, capture_error_mode="thread_local")
                try:
                    self._loss = self.update(self._input, self._target)
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            self.is_worth_it = False
            self.optimizer.zero_grad(set_to_none=True)
            if not (is_out_of_memory(error) or "captur" in str(error)):
                raise
            return False
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self._graph, self._is_current = graph, True
        return True


@functools.cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the stream of all captures in this process.

    PyTorch reuses memory on its own stream only, and keeps 64 MiB for cuBLAS on each stream, also after a training.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Marks an optimizer as one whose step may be captured: a fused one keeps its step counts on the GPU."""
    for group in optimizer.param_groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in optimizer.param_groups:
            group["capturable"] = False


def is_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether a step of the optimizer can be part of a CUDA graph."""
    return all(group.get("fused") and "capturable" in group for group in optimizer.param_groups)
