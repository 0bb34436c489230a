"""One step of each neuron, forward and backward, as Triton functions.

Notation: `x` current, `v` membrane before the step, `u` second state (CLIF's complementary potential m, GLIF's last
spikes), `h` charged membrane, `s` output, `g_` gradient of. Neurons and the order of operations are SpikingJelly's
(`models.neurons.nodes`), so spikes are equal to the bit to the CPU's.

`constants` are (tau, threshold, a, b) with a and b of `models.neurons.surrogates`; for integer neurons
(1 - 1/tau, threshold, D, output of one spike). `learned` is PLIF's decay, KLIF's k, or GLIF's gates in the order of
`models.neurons.nodes.GLIF.GATES`.
"""

# mypy: ignore-errors
# Triton's language: its values have no Python types.

from __future__ import annotations

import triton
import triton.language as tl

from models.neurons.triton_surrogates import derivative, sigmoid

EIF_RHEOBASE: tl.constexpr = tl.constexpr(0.8)
EIF_RESET: tl.constexpr = tl.constexpr(-0.1)


@triton.jit
def _reset_charge(x, v, constants, learned, NEURON: tl.constexpr):
    """Returns h and, for KLIF, h before the gain k and the rectifier, of a neuron with a hard reset."""
    tau = constants[0]
    if NEURON == "if":
        h = v + x
    elif NEURON == "plif":
        h = v + (x - v) * learned
    elif NEURON == "eif":
        h = v + tl.div_rn(x - v + tl.exp(v - EIF_RHEOBASE), tau)
    else:
        h = v + tl.div_rn(x - v, tau)
    charged = h
    if NEURON == "klif":
        h = tl.where(learned * h > 0.0, learned * h, 0.0)
    return h, charged


@triton.jit
def _integer_step(x, v, constants):
    """Returns the count of spikes (rounded half to even, as by adding and subtracting 1.5 x 2^23), next v, and h."""
    decay, threshold, levels, _unit = constants
    h = decay * v + x
    scaled = tl.div_rn(h, threshold)
    counts = tl.where(scaled > 0.0, tl.where(scaled < levels, scaled, levels), 0.0)
    counts = (counts + 12582912.0) - 12582912.0
    return counts, h - counts * threshold, h


@triton.jit
def _clif_step(x, v, m, constants):
    """Returns the spikes, next v and m, and h."""
    tau, threshold, _a, _b = constants
    h = v - tl.div_rn(v, tau) + x
    s = tl.where(h >= threshold, 1.0, 0.0)
    m_next = m * sigmoid(tl.div_rn(h, tau)) + s
    return s, h - s * (threshold + sigmoid(m_next)), m_next, h


@triton.jit
def _glif_step(x, v, fired, gates, conductance):
    """Returns the spikes and h, the next v."""
    alpha, beta, gamma, tau, threshold, linear_decay, subreset = gates
    kept = (1.0 - alpha * (1.0 - tau)) * v
    h = kept - (1.0 - alpha) * linear_decay + x * (1.0 - beta * (1.0 - conductance))
    h = h - kept * gamma * fired - (1.0 - gamma) * subreset * fired
    return tl.where(h >= threshold, 1.0, 0.0), h


@triton.jit
def step(x, v, u, constants, learned, conductance, NEURON: tl.constexpr):
    """Returns the output of a step, next v and u, and what its backward needs: h, and for KLIF h before the gain."""
    if NEURON == "clif":
        s, v_next, u_next, h = _clif_step(x, v, u, constants)
        charged = h
    elif NEURON == "glif":
        s, h = _glif_step(x, v, u, learned, conductance)
        v_next, u_next, charged = h, s, h
    elif NEURON == "ilif":
        counts, v_next, h = _integer_step(x, v, constants)
        s, u_next, charged = counts * constants[3], u, h
    else:
        h, charged = _reset_charge(x, v, constants, learned, NEURON)
        fired = h >= constants[1]
        rest = EIF_RESET if NEURON == "eif" else 0.0
        s, v_next, u_next = tl.where(fired, 1.0, 0.0), tl.where(fired, rest, h), u
    return s, v_next, u_next, h, charged


@triton.jit
def reset_back(g_s, g_v, v, h, charged, constants, learned, NEURON: tl.constexpr, SURROGATE: tl.constexpr):
    """Returns the gradients of x and v, and of the learned number at each neuron; resets pass no gradient."""
    tau, threshold, a, b = constants
    g_h = g_s * derivative(h - threshold, a, b, SURROGATE) + tl.where(h >= threshold, 0.0, g_v)
    g_learned, rate = g_h, 1.0 / tau
    if NEURON == "klif":
        g_h = tl.where(h > 0.0, g_h, 0.0)
        g_learned, g_h = g_h * charged, g_h * learned
    if NEURON == "plif":
        rate, g_learned = learned, g_h * (h - v) / learned
    g_x, g_v = g_h * rate, g_h * (1.0 - rate)
    if NEURON == "eif":
        g_v = g_v + g_x * tl.exp(v - EIF_RHEOBASE)
    if NEURON == "if":
        g_x, g_v = g_h, g_h
    return g_x, g_v, g_learned


@triton.jit
def integer_back(g_s, g_v, h, constants):
    """Returns the gradients of x and v; the quantiser passes gradients within [0, D], its reset passes all."""
    decay, threshold, levels, unit = constants
    scaled = tl.div_rn(h, threshold)
    g_h = g_v + tl.where((scaled >= 0.0) & (scaled <= levels), g_s * unit / threshold, 0.0)
    return g_h, g_h * decay


@triton.jit
def clif_back(g_s, g_v, g_m, m, h, constants, SURROGATE: tl.constexpr):
    """Returns the gradients of x, v and m; the reset passes them."""
    tau, threshold, a, b = constants
    s = tl.where(h >= threshold, 1.0, 0.0)
    decay = sigmoid(h / tau)
    reset = sigmoid(m * decay + s)
    g_m = g_m - g_v * s * reset * (1.0 - reset)
    g_s = g_s - g_v * (threshold + reset) + g_m
    g_h = g_v + g_s * derivative(h - threshold, a, b, SURROGATE) + g_m * m * decay * (1.0 - decay) / tau
    return g_h, g_h * (1.0 - 1.0 / tau), g_m * decay


@triton.jit
def glif_back(g_s, g_v, v, fired, h, constants, gates, conductance, SURROGATE: tl.constexpr):
    """Returns the gradients of x, v and the spikes before, of h, and the part of the latter through the spikes."""
    alpha, beta, gamma, tau, threshold, _linear_decay, subreset = gates
    _tau, _threshold, a, b = constants
    keep = 1.0 - alpha * (1.0 - tau)
    g_spike = g_s * derivative(h - threshold, a, b, SURROGATE)
    g_h = g_v + g_spike
    g_x = g_h * (1.0 - beta * (1.0 - conductance))
    g_v = g_h * keep * (1.0 - gamma * fired)
    g_fired = -g_h * (keep * v * gamma + (1.0 - gamma) * subreset)
    return g_x, g_v, g_fired, g_h, g_spike
