"""A CUDA graph on the CPU: operations are recorded with their numbers and their memory, and a replay runs them again.

As on a GPU, a capture changes no tensor that existed before and draws no random number, a replay runs no Python, and a
number such as the learning rate stays that of the capture. Reading a value during a capture is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Replayed = Callable[[], None]


class RecordedGraph(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Stands for `torch.cuda.CUDAGraph` in the calls of `trainers.optimization.gpu_step`."""

    replays = 0
    """Of all graphs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._operations: list[Replayed] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        self._generator = torch.get_rng_state()
        self.__enter__()  # type: ignore[no-untyped-call]  # torch's

    def capture_end(self) -> None:
        """Ends the recording, and gives tensors from before it their values back."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch's
        for memory, values in self._before.values():
            memory.copy_(values)
        torch.set_rng_state(self._generator)

    def pool(self) -> object:
        return self

    def replay(self) -> None:
        RecordedGraph.replays += 1
        with torch.no_grad():
            for operation in self._operations:
                operation()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        for tensor in _written(func, args, kwargs):
            if _memory(tensor) not in self._own | self._before.keys():
                memory: Any = tensor.untyped_storage()
                self._before[_memory(tensor)] = memory, memory.clone()
        out = func(*args, **kwargs)
        self._own |= {_memory(tensor) for tensor in _tensors(out)} - self._before.keys() - set(_memories(args, kwargs))
        self._operations.append(_replayed(func, args, kwargs, out))
        return out


def _replayed(func: Any, args: Any, kwargs: Any, out: Any) -> Replayed:
    """Returns the operation with its result in the memory of this one's."""

    def again() -> None:
        for old, new in zip(_tensors(out), _tensors(func(*args, **kwargs)), strict=True):
            if old is not new and _memory(old) != _memory(new):
                old.copy_(new)

    return again


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yields the tensors that an operation changes."""
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[i] if i < len(args) else kwargs.get(argument.name))


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _memories(*values: Any) -> list[int]:
    return [_memory(tensor) for tensor in _tensors(values)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Stream:
    """A stream of the CPU, which has one."""

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        pass


def record_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets graphed steps run on the CPU."""
    monkeypatch.setattr(RecordedGraph, "replays", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
