"""Derivatives of the surrogate functions (`models.neurons.surrogates`) as Triton functions."""

# mypy: ignore-errors
# Triton's language: its values have no Python types.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    return tl.div_rn(1.0, 1.0 + tl.exp(-x))


@triton.jit
def _even_derivative(x, a, b, SURROGATE: tl.constexpr):
    """Returns the derivative of a surrogate that depends on the distance from the threshold only."""
    if SURROGATE == "sigmoid":
        s = sigmoid(a * x)
        out = a * s * (1.0 - s)
    elif SURROGATE == "dspike":
        s = sigmoid(a * x)
        out = tl.where(x > 0.5, 0.0, b * s * (1.0 - s))
    elif SURROGATE == "atan":
        out = b / (1.0 + a * x * (a * x))
    elif SURROGATE == "erf":
        out = b * tl.exp(-(a * x) * (a * x))
    elif SURROGATE == "piecewisequadratic":
        out = tl.where(x > b, 0.0, a - a * a * x)
    elif SURROGATE == "piecewiseexp":
        out = 0.5 * a * tl.exp(-a * x)
    elif SURROGATE == "softsign":
        out = 0.5 / (a * (b + x) * (b + x))
    elif SURROGATE == "superspike":
        out = a / ((1.0 + x) * (1.0 + x))
    elif SURROGATE == "nonzerosignlogabs":
        out = 1.0 / (b + x)
    elif SURROGATE == "rect":
        out = tl.where(x < b, a, 0.0)
    elif SURROGATE == "qpseudospike":
        out = tl.exp(-a * tl.log(1.0 + b * x))
    elif SURROGATE == "fakenumericalgradient":
        out = tl.where(x * a > 1.0, 1.0 / x, a)
    elif SURROGATE == "piecewiseleakyrelu":
        out = tl.where(x < a, 0.5 / a, b)
    else:
        tl.static_assert(SURROGATE == "squarewavefourierseries")
        out = b * tl.cos(a * x)
    return out


@triton.jit
def derivative(x, a, b, SURROGATE: tl.constexpr):
    """Returns the surrogate's derivative at the distance x from the threshold (`models.neurons.surrogates`)."""
    if SURROGATE == "none":
        out = x * 0.0
    elif SURROGATE == "s2nn":
        out = tl.where(x < 0.0, _even_derivative(x, a, b, "sigmoid"), b / (1.0 + tl.abs(x)))
    elif SURROGATE == "leakykrelu":
        out = tl.where(x >= 0.0, b, a)
    elif SURROGATE == "logtailedrelu":
        out = tl.where(x > 1.0, 1.0 / x, tl.where(x <= 0.0, a, 1.0))
    else:
        out = _even_derivative(tl.abs(x), a, b, SURROGATE)
    return out
