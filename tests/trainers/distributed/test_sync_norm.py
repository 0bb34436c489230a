"""Batch norm over several workers as on GPUs, with PyTorch's kernels written out and a thread for each worker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.distributed import data_parallel
from trainers.distributed.data_parallel import _GpuSyncBatchNorm

WORKERS = 2
EPS = 1e-5


class Workers:
    """Collectives among threads, each of which has a `rank`."""

    def __init__(self) -> None:
        self.barrier, self.current = threading.Barrier(WORKERS, timeout=60), threading.local()
        self.values: list[Tensor] = [torch.empty(0)] * WORKERS
        self.collectives = 0

    def get_world_size(self) -> int:
        return WORKERS

    def all_gather_into_tensor(self, gathered: Tensor, own: Tensor) -> None:
        gathered.copy_(self._exchange(own))

    def all_reduce(self, own: Tensor) -> None:
        own.copy_(self._exchange(own.clone()).sum(0))

    def _exchange(self, own: Tensor) -> Tensor:
        self.values[self.current.rank] = own
        self.collectives += self.barrier.wait() == 0
        found = torch.stack(self.values)
        self.barrier.wait()
        return found


def per_channel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, torch.rsqrt(variance + eps)


def gather_stats(x: Tensor, means: Tensor, scales: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    counts, eps = rest[-1].unsqueeze(1), rest[-2]
    mean = (means * counts).sum(0) / counts.sum()
    square = ((scales**-2 - eps + means**2) * counts).sum(0) / counts.sum()
    return mean, torch.rsqrt(square - mean**2 + eps)


def normalize(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, eps: float) -> Tensor:
    return (x - per_channel(mean)) * per_channel(scale * weight) + per_channel(bias)


def reduce_gradients(grad: Tensor, x: Tensor, mean: Tensor, scale: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    product = (grad * (x - per_channel(mean))).sum((0, 2, 3))
    return grad.sum((0, 2, 3)), product, product * scale, grad.sum((0, 2, 3))


def gradient(grad: Tensor, x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
    sums, products, counts = rest
    assert counts.dtype == torch.int32
    centred = grad - per_channel(sums / counts.sum())
    through = (x - per_channel(mean)) * per_channel(scale**2 * products / counts.sum())
    return (centred - through) * per_channel(scale * weight)


@pytest.fixture(name="workers")
def _workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    workers = Workers()
    monkeypatch.setattr(data_parallel, "distributed", workers)
    monkeypatch.setattr(torch, "batch_norm_stats", stats)
    monkeypatch.setattr(torch, "batch_norm_gather_stats_with_counts", gather_stats)
    monkeypatch.setattr(torch, "batch_norm_elemt", normalize)
    monkeypatch.setattr(torch, "batch_norm_backward_reduce", reduce_gradients)
    monkeypatch.setattr(torch, "batch_norm_backward_elemt", gradient)
    return workers


def test_outputs_and_gradients_are_those_of_the_whole_batch_with_one_collective_each_way(workers: Workers) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    x = 2.0 * x + torch.arange(3.0).view(-1, 1, 1)
    whole = nn.BatchNorm2d(3, eps=EPS).double()
    nn.init.uniform_(whole.weight, 0.5, 2.0)
    nn.init.uniform_(whole.bias)
    inputs = x.clone().requires_grad_()
    expected = whole(inputs)
    expected.backward(grad)

    def run(rank: int) -> tuple[Tensor, ...]:
        workers.current.rank = rank
        own, weight, bias = (
            tensor.detach().clone().requires_grad_() for tensor in (x[rank::WORKERS], whole.weight, whole.bias)
        )
        apply: Any = _GpuSyncBatchNorm.apply
        out = apply(own, weight, bias, EPS)
        return out.detach(), *torch.autograd.grad(out, (own, weight, bias), grad[rank::WORKERS])

    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(run, range(WORKERS)))
    for rank, (out, grad_x, _, _) in enumerate(found):
        torch.testing.assert_close(out, expected[rank::WORKERS])
        assert inputs.grad is not None
        torch.testing.assert_close(grad_x, inputs.grad[rank::WORKERS])
    torch.testing.assert_close(sum(row[2] for row in found), whole.weight.grad)
    torch.testing.assert_close(sum(row[3] for row in found), whole.bias.grad)
    assert workers.collectives == 2
