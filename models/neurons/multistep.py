"""All T steps of a layer of spiking neurons as one autograd node, of two Triton kernels (`triton_kernels`).

Shapes: `T` steps, `N` neurons, `K` models of a fused group. Only the currents are kept for the backward pass, which
can run several times. A row [N] of one step may have any dense layout, channels-last too, and the spikes get it; rows
may lie anywhere, so a still image may be expanded over the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_STEPS = 64
MAX_NEURONS = 2**30
"""The kernels count the neurons of a step in 32 bits."""
MAX_UNROLLED = 8
"""Steps that a kernel holds in registers; more take seconds to compile."""
REGISTERS = 32
"""Of a thread, for the states of all unrolled steps of its neurons."""
WARPS = 4
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

States = tuple[Tensor | None, Tensor | None]
"""Membranes, and the second state of CLIF and GLIF; None at rest."""


class Neuron(NamedTuple):
    """The kind of a layer's neurons and their constants."""

    name: str
    """lif, if, plif, klif, eif, ilif, clif or glif."""
    surrogate: str
    """A name of `models.neurons.surrogates`, or `none` for spikes without gradient."""
    constants: tuple[float, float, float, float] | Tensor
    """tau, threshold, and the surrogate's a and b, or for ilif 1 - 1/tau, threshold, D, output of one spike; as a
    float32 tensor [4, K], one value for each of K kinds of neurons."""
    each: int = 1
    """Neurons in a row, in memory order, that share a value of K; after K of them the first value follows again."""


def applies(x: Tensor) -> bool:
    """Returns whether the kernels can run on the currents x [T, ...]."""
    is_in_range = x.numel() > 0 and x.shape[0] <= MAX_STEPS and x[0].numel() <= MAX_NEURONS
    return x.dtype in DTYPES and is_in_range and _has_kernels(x.device)


@cache
def _has_kernels(device: torch.device) -> bool:
    """Returns whether the device is a card, Triton is installed, and it supports the card."""
    is_installed = device.type == "cuda" and find_spec("triton") is not None
    return is_installed and torch.cuda.get_device_capability(device) >= (7, 0)


def multistep(
    x: Tensor, states: States, learned: Tensor | None, neuron: Neuron, *, keep_states: bool
) -> tuple[Tensor, States]:
    """Returns the outputs [T, ...] for currents x [T, ...], in their dtype, and the states after the last step.

    `learned` is plif's decay or klif's k [1], or glif's gates and conductances [7 + T], float32. Without `keep_states`
    the states are not written, and None. Gradients flow through x, states and learned.
    """
    for state in states:
        if state is not None and state.shape != x.shape[1:]:
            raise ValueError(
                f"membranes must have the shape of one step's currents (got {list(state.shape)}, currents"
                f" {list(x.shape)}). Reset the neurons between inputs"
            )
    apply: Any = _Multistep.apply
    outputs, v, u = apply(x, *states, learned, neuron, keep_states)
    return outputs, (v, u)


class _Multistep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor | None,
        u: Tensor | None,
        learned: Tensor | None,
        neuron: Neuron,
        keep_states: bool,
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        x = x if _is_dense(x[0]) else x.contiguous()
        v, u = (None if state is None else _as_row(state, x) for state in (v, u))
        has_second = neuron.name in ("clif", "glif")
        last = [_row(x) if keep_states else None, _row(x) if keep_states and has_second else None]
        kept = _plan(x, neuron).chunks - 1 if any(ctx.needs_input_grad) else 0
        between = [_between(x, kept) if kept else None, _between(x, kept) if kept and has_second else None]
        outputs = _rows(x)
        _launch("forward_kernel", ((x, v, u, learned), (outputs, *last, *between)), neuron, {})
        ctx.save_for_backward(x, v, u, learned, *between)
        ctx.neuron = neuron
        return outputs, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, neuron = ctx.saved_tensors, ctx.neuron
        x, learned = inputs[0], inputs[3]
        grad = None if grads[0] is None else _as_rows(grads[0], x)
        grad_states = (None if state is None else _as_row(state, x) for state in grads[1:])
        grad_inputs = (_row(x) if needed else None for needed in ctx.needs_input_grad[1:3])
        partial = None if learned is None else learned.new_empty(*_plan(x, neuron).grid, learned.numel())
        outputs = (_rows(x), *grad_inputs, partial)
        kernel = "glif_backward_kernel" if neuron.name == "glif" else "backward_kernel"
        _launch(kernel, (inputs, (grad, *grad_states), outputs), neuron, {"SURROGATE": neuron.surrogate})
        return *outputs[:3], None if partial is None else partial.sum(0), None, None


class _Plan(NamedTuple):
    """How a kernel goes through T steps of N neurons."""

    chunks: int
    C: int
    """Steps of a chunk."""
    is_uneven: bool
    block: int
    """Neurons of a program: as many in a thread as its registers hold, at most 8."""
    grid: tuple[int]


def _plan(x: Tensor, neuron: Neuron) -> _Plan:
    return _plan_of(neuron.name, x.shape[0], x[0].numel())


@cache
def _plan_of(name: str, T: int, N: int) -> _Plan:
    chunks = -(-T // MAX_UNROLLED)
    C = -(-T // chunks)
    states = 2 if name in ("plif", "klif", "clif", "glif") else 1
    block = 32 * WARPS * max(n for n in (1, 2, 4, 8) if n * C * states <= REGISTERS or n == 1)
    return _Plan(chunks, C, T % C > 0, block, (-(-N // block),))


@cache
def _kernel(name: str) -> Any:
    """Returns a kernel; Triton is imported where kernels are used only."""
    return getattr(import_module("models.neurons.triton_kernels"), name)


def _launch(kernel: str, tensors: tuple[Sequence[Tensor | None], ...], neuron: Neuron, options: dict[str, str]) -> None:
    """Launches the kernel of this name on (inputs, outputs), or on (inputs, gradients, outputs)."""
    x = tensors[0][0]
    assert x is not None
    plan, constants = _plan(x, neuron), neuron.constants
    size = constants.shape[1] if isinstance(constants, Tensor) else 1
    layout = [x[0].numel(), x.stride(0), x.shape[0], neuron.each, size]
    if len(tensors) == 3:
        grad = tensors[1][0]
        layout.append(0 if grad is None else grad.stride(0))
    choices: dict[str, Any] = {**options, "CHUNKS": plan.chunks, "C": plan.C, "UNEVEN": plan.is_uneven}
    if kernel != "glif_backward_kernel":
        choices |= {"NEURON": neuron.name, "VECTORS": isinstance(constants, Tensor)}
    arguments = (*map(tuple, tensors), constants, tuple(layout))
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        _kernel(kernel)[plan.grid](*arguments, **choices, BLOCK=plan.block, num_warps=WARPS, enable_fp_fusion=False)


def _is_dense(row: Tensor) -> bool:
    """Returns whether a tensor's values are next to each other in memory, in any order of its axes."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(row.stride(), row.shape, strict=True) if size > 1):
        if step != expected:
            return False
        expected *= size
    return True


def _rows(x: Tensor) -> Tensor:
    """Returns new memory of x's shape, dtype and layout of a step, one step after the other."""
    return x.new_empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]))


def _row(x: Tensor) -> Tensor:
    """Returns new float32 memory for one value a neuron, in the layout of a step of x."""
    return x.new_empty_strided(x.shape[1:], x.stride()[1:], dtype=torch.float32)


def _as_rows(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.stride()[1:] == x.stride()[1:] else _rows(x).copy_(grad)


def _as_row(state: Tensor, x: Tensor) -> Tensor:
    has_layout = state.dtype == torch.float32 and state.stride() == x.stride()[1:]
    return state if has_layout else _row(x).copy_(state)


def _between(x: Tensor, kept: int) -> Tensor:
    """Returns new float32 memory for a state before each chunk but the first, in the order of a step's memory."""
    return x.new_empty(kept, x[0].numel(), dtype=torch.float32)
