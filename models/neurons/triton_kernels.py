"""Kernels of the spiking neurons: all T steps in one launch, forward and backward (`models.neurons.triton_steps`).

Membranes are in float32 registers. The backward kernel recomputes them from the currents, `C` steps at a time, since
compilation and registers limit the steps that can be unrolled. With several chunks of C steps, the forward kernel
stores the states between them. `UNEVEN`: the last chunk has fewer steps. The neurons of a step are a row of `N` values
in memory order.

Constants are run-time arguments, so another tau, threshold or alpha compiles nothing. They are numbers, or with
`VECTORS` a tensor [4, size], and the value of neuron n is that at `n // each % size`. `learned` is one tensor; GLIF's
gates are followed by its conductances of the steps.

`layout` is (N, values between the rows of currents, T, each, size), in the backward kernels followed by the values
between the rows of the outputs' gradients. Launch with `enable_fp_fusion=False`: fused products and sums would round
otherwise than the CPU's.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language: its values have no Python types, and it has no starred expressions.

from __future__ import annotations

import triton
import triton.language as tl

from models.neurons.triton_steps import clif_back, glif_back, integer_back, reset_back, step

NUM_GATES = tl.constexpr(7)


@triton.jit
def _sum(x):
    """Returns the sum, as `tl.sum`, which the interpreter cannot call if Triton was imported without it."""
    return tl.reduce(x, 0, tl.standard._sum_combine)


@triton.jit
def _read_learned(learned_ptr, NEURON: tl.constexpr):
    """Returns PLIF's decay, KLIF's k, or the tuple of GLIF's gates."""
    if NEURON == "glif":
        out = ()
        for i in tl.static_range(NUM_GATES):
            out = out + (tl.load(learned_ptr + i),)
    elif NEURON == "plif" or NEURON == "klif":
        out = tl.load(learned_ptr)
    else:
        out = 0.0
    return out


@triton.jit
def _read_constants(constants, n, inside, layout, VECTORS: tl.constexpr):
    if VECTORS:
        size = layout[4]
        at = n // layout[3] % size
        out = ()
        for i in tl.static_range(4):
            out = out + (tl.load(constants + i * size + at, mask=inside, other=1.0),)
    else:
        out = ()
        for i in tl.static_range(4):
            out = out + (tl.cast(constants[i], tl.float32),)
    return out


@triton.jit
def _read_conductance(learned_ptr, t, layout, NEURON: tl.constexpr):
    if NEURON == "glif":
        out = tl.load(learned_ptr + NUM_GATES + t, mask=t < layout[2], other=0.0)
    else:
        out = 0.0
    return out


@triton.jit
def _row(pointer, t, stride):
    """Returns the pointer to row t; in 64 bits, since all rows may have more than 2^31 values."""
    return pointer + tl.cast(t, tl.int64) * stride


@triton.jit
def _read_state(pointer, n, inside, BLOCK: tl.constexpr):
    if pointer is None:
        out = tl.full([BLOCK], 0.0, tl.float32)
    else:
        out = tl.load(pointer + n, mask=inside, other=0.0).to(tl.float32)
    return out


@triton.jit
def _read_row(pointer, t, stride, n, active, BLOCK: tl.constexpr):
    if pointer is None:
        out = tl.full([BLOCK], 0.0, tl.float32)
    else:
        out = tl.load(_row(pointer, t, stride) + n, mask=active, other=0.0).to(tl.float32)
    return out


@triton.jit
def _is_active(inside, t, layout, UNEVEN: tl.constexpr):
    return inside & (t < layout[2]) if UNEVEN else inside


@triton.jit
def _select(active, new, old, UNEVEN: tl.constexpr):
    return tl.where(active, new, old) if UNEVEN else new


@triton.jit
def _store_states(v_out, u_out, v, u, n, inside):
    if v_out is not None:
        tl.store(v_out + n, v, mask=inside)
    if u_out is not None:
        tl.store(u_out + n, u, mask=inside)


@triton.jit
def forward_kernel(
    inputs,
    outputs,
    constants,
    layout,
    NEURON: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    UNEVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes outputs (s, last v, last u, v and u before each chunk but the first) from inputs (x, v, u, learned).

    Inputs are None at rest, outputs are None if not wanted.
    """
    N = layout[0]
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    constants = _read_constants(constants, n, inside, layout, VECTORS)
    learned = _read_learned(inputs[3], NEURON)
    v, u = _read_state(inputs[1], n, inside, BLOCK), _read_state(inputs[2], n, inside, BLOCK)
    for chunk in range(CHUNKS):
        if outputs[3] is not None:
            tl.store(_row(outputs[3], chunk - 1, N) + n, v, mask=inside & (chunk > 0))
        if outputs[4] is not None:
            tl.store(_row(outputs[4], chunk - 1, N) + n, u, mask=inside & (chunk > 0))
        for i in tl.static_range(C):
            t = chunk * C + i
            active = _is_active(inside, t, layout, UNEVEN)
            x = _read_row(inputs[0], t, layout[1], n, active, BLOCK)
            conductance = _read_conductance(inputs[3], t, layout, NEURON)
            s, v_next, u_next, _h, _charged = step(x, v, u, constants, learned, conductance, NEURON)
            tl.store(_row(outputs[0], t, N) + n, s, mask=active)
            v, u = _select(active, v_next, v, UNEVEN), _select(active, u_next, u, UNEVEN)
    _store_states(outputs[1], outputs[2], v, u, n, inside)


@triton.jit
def _store_gates(pointer, sums, g_beta, gates):
    """Stores the gates' gradients, from the sums of g_h v, g_h v fired, g_h, g_h fired, and the threshold's."""
    alpha, _beta, gamma, tau, _threshold, linear_decay, subreset = gates
    of_v, of_v_fired, of_h, of_fired, of_spike = sums
    g_keep = of_v - gamma * of_v_fired
    keep = 1.0 - alpha * (1.0 - tau)
    tl.store(pointer, linear_decay * of_h - (1.0 - tau) * g_keep)
    tl.store(pointer + 1, g_beta)
    tl.store(pointer + 2, subreset * of_fired - keep * of_v_fired)
    tl.store(pointer + 3, alpha * g_keep)
    tl.store(pointer + 4, -of_spike)
    tl.store(pointer + 5, -(1.0 - alpha) * of_h)
    tl.store(pointer + 6, -(1.0 - gamma) * of_fired)


@triton.jit
def _read_between(pointer, chunk, first, n, inside, layout):
    """Returns a state before a chunk; `first` is that before the first chunk."""
    if pointer is None:
        out = first
    else:
        out = tl.load(_row(pointer, chunk - 1, layout[0]) + n, mask=inside & (chunk > 0), other=first)
    return out


@triton.jit
def _recompute(
    inputs, chunk, n, inside, constants, learned, layout, NEURON: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr
):
    """Returns for each step of a chunk v and u before it, h, and KLIF's h before the gain."""
    first_v, first_u = _read_state(inputs[1], n, inside, BLOCK), _read_state(inputs[2], n, inside, BLOCK)
    v = _read_between(inputs[4], chunk, first_v, n, inside, layout)
    u = _read_between(inputs[5], chunk, first_u, n, inside, layout)
    states = ()
    for i in tl.static_range(C):
        t = chunk * C + i
        x = _read_row(inputs[0], t, layout[1], n, inside & (t < layout[2]), BLOCK)
        conductance = _read_conductance(inputs[3], t, layout, NEURON)
        _s, v_next, u_next, h, charged = step(x, v, u, constants, learned, conductance, NEURON)
        states = states + ((v, u, h, charged),)
        v, u = v_next, u_next
    return states


@triton.jit
def backward_kernel(
    inputs,
    grads,
    outputs,
    constants,
    layout,
    NEURON: tl.constexpr,
    SURROGATE: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    UNEVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes outputs (gradients of x, v, u and learned, the last one of each program) from those of (s, last v, u).

    `inputs` are those of the forward kernel, and the states between chunks.
    """
    N = layout[0]
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    constants = _read_constants(constants, n, inside, layout, VECTORS)
    learned = _read_learned(inputs[3], NEURON)
    g_v, g_u = _read_state(grads[1], n, inside, BLOCK), _read_state(grads[2], n, inside, BLOCK)
    g_learned = tl.full([BLOCK], 0.0, tl.float32)
    for done in range(CHUNKS):
        chunk = CHUNKS - 1 - done
        states = _recompute(inputs, chunk, n, inside, constants, learned, layout, NEURON, C, BLOCK)
        for i in tl.static_range(C):
            t = chunk * C + C - 1 - i
            active = _is_active(inside, t, layout, UNEVEN)
            v, u, h, charged = states[C - 1 - i]
            g_s = _read_row(grads[0], t, layout[5], n, active, BLOCK)
            if NEURON == "clif":
                g_x, g_v_next, g_u_next = clif_back(g_s, g_v, g_u, u, h, constants, SURROGATE)
                g_u = _select(active, g_u_next, g_u, UNEVEN)
            elif NEURON == "ilif":
                g_x, g_v_next = integer_back(g_s, g_v, h, constants)
            else:
                g_x, g_v_next, g_step = reset_back(g_s, g_v, v, h, charged, constants, learned, NEURON, SURROGATE)
                g_learned += _select(active, g_step, 0.0, UNEVEN)
            g_v = _select(active, g_v_next, g_v, UNEVEN)
            tl.store(_row(outputs[0], t, N) + n, g_x, mask=active)
    _store_states(outputs[1], outputs[2], g_v, g_u, n, inside)
    if outputs[3] is not None:
        tl.store(outputs[3] + tl.program_id(0), _sum(g_learned))


@triton.jit
def glif_backward_kernel(
    inputs,
    grads,
    outputs,
    constants,
    layout,
    SURROGATE: tl.constexpr,
    CHUNKS: tl.constexpr,
    C: tl.constexpr,
    UNEVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes what `backward_kernel` does, for GLIF."""
    N = layout[0]
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    constants = _read_constants(constants, n, inside, layout, False)
    gates = _read_learned(inputs[3], "glif")
    g_v, g_fired = _read_state(grads[1], n, inside, BLOCK), _read_state(grads[2], n, inside, BLOCK)
    zero = tl.full([BLOCK], 0.0, tl.float32)
    of_v, of_v_fired, of_h, of_fired, of_spike, of_gain = zero, zero, zero, zero, zero, zero
    g_learned = outputs[3] + tl.program_id(0) * (NUM_GATES + layout[2])
    for done in range(CHUNKS):
        chunk = CHUNKS - 1 - done
        states = _recompute(inputs, chunk, n, inside, constants, gates, layout, "glif", C, BLOCK)
        for i in tl.static_range(C):
            t = chunk * C + C - 1 - i
            active = _is_active(inside, t, layout, UNEVEN)
            v, fired, h, _charged = states[C - 1 - i]
            g_s = _read_row(grads[0], t, layout[5], n, active, BLOCK) + g_fired
            conductance = _read_conductance(inputs[3], t, layout, "glif")
            g_x, g_v_next, g_next, g_h, g_spike = glif_back(
                g_s, g_v, v, fired, h, constants, gates, conductance, SURROGATE
            )
            tl.store(_row(outputs[0], t, N) + n, g_x, mask=active)
            g_v, g_fired = _select(active, g_v_next, g_v, UNEVEN), _select(active, g_next, g_fired, UNEVEN)
            g_h, g_spike = tl.where(active, g_h, 0.0), tl.where(active, g_spike, 0.0)
            of_v, of_v_fired = of_v + g_h * v, of_v_fired + g_h * v * fired
            of_h, of_fired, of_spike = of_h + g_h, of_fired + g_h * fired, of_spike + g_spike
            g_gain = g_h * _read_row(inputs[0], t, layout[1], n, active, BLOCK)
            of_gain += g_gain * (1.0 - conductance)
            tl.store(g_learned + NUM_GATES + t, _sum(g_gain) * gates[1], mask=t < layout[2])
    _store_states(outputs[1], outputs[2], g_v, g_fired, n, inside)
    sums = (_sum(of_v), _sum(of_v_fired), _sum(of_h), _sum(of_fired), _sum(of_spike))
    _store_gates(g_learned, sums, -_sum(of_gain), gates)
