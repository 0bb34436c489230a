"""Derivatives of the surrogate functions, SpikingJelly's and Dspike, in closed form, as a name and two numbers.

The numbers are computed in double precision, so that a kernel gets the constants of SpikingJelly's own formulas. With
`x` the distance of a membrane from its threshold:

| name | derivative | a | b | paper |
| --- | --- | --- | --- | --- |
| sigmoid | `a s (1 - s)`, `s = sigmoid(a x)` | alpha | | Wu et al. 2018 |
| atan | `b / (1 + (a x)^2)` | pi / 2 alpha | alpha / 2 | Fang et al. 2021 |
| erf | `b exp(-(a x)^2)` | alpha | alpha / sqrt(pi) | Esser et al. 2015 |
| piecewisequadratic | `a - a^2 abs(x)` where `abs(x) <= b`, else 0 | alpha | 1 / alpha | Esser et al. 2016 |
| piecewiseexp | `a / 2 exp(-a abs(x))` | alpha | | Shrestha and Orchard 2018 |
| softsign | `1 / (2 a (b + abs(x))^2)` | alpha | 1 / alpha | Neftci et al. 2019 |
| superspike | `a / (1 + abs(x))^2` | alpha | | Zenke and Ganguli 2018 |
| nonzerosignlogabs | `1 / (b + abs(x))` | alpha | 1 / alpha | Yin et al. 2017 |
| rect | `a` where `abs(x) < b`, else 0 | alpha | 1 / (2 alpha) | Wu et al. 2018 |
| qpseudospike | `(1 + b abs(x))^-a` | alpha | 2 / (alpha - 1) | Herranz-Celotti and Rouat 2022 |
| fakenumericalgradient | `min(1 / abs(x), a)` | alpha | | SpikingJelly |
| logtailedrelu | `a` where `x <= 0`, `1 / x` where `x > 1`, else 1 | alpha | | Cai et al. 2017 |
| s2nn | `a s (1 - s)` where `x < 0`, else `b / (1 + x)` | alpha | beta | Suetake et al. 2022 |
| leakykrelu | `b` where `x >= 0`, else `a` | leak | k | Yin et al. 2017 |
| piecewiseleakyrelu | `1 / (2 a)` where `abs(x) < a`, else `b` | w | c | Huh and Sejnowski 2018 |
| squarewavefourierseries | `b cos(a x)` | 2 pi / T_period | 4 / T_period | SpikingJelly |
| dspike | `b s (1 - s)`, `s = sigmoid(a x)`, if `abs(x) <= 1/2`, else 0 | 2 alpha | a / tanh(a / 4) | Li et al. 2021 |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from spikingjelly.activation_based import surrogate
from torch import nn

from models.neurons.dspike import DSpike


class ClosedForm(NamedTuple):
    """The derivative of a surrogate function; `name` selects the formula."""

    name: str
    a: float
    b: float


def _alpha_and(b: Callable[[float], float]) -> Callable[[Any], tuple[float, float]]:
    return lambda spike: (spike.alpha, b(spike.alpha))


_CONSTANTS: dict[type[nn.Module], Callable[[Any], tuple[float, float]]] = {
    surrogate.Sigmoid: _alpha_and(lambda alpha: 0.0),
    surrogate.ATan: lambda spike: (math.pi / 2.0 * spike.alpha, spike.alpha / 2.0),
    surrogate.Erf: _alpha_and(lambda alpha: alpha / math.sqrt(math.pi)),
    surrogate.PiecewiseQuadratic: _alpha_and(lambda alpha: 1.0 / alpha),
    surrogate.PiecewiseExp: _alpha_and(lambda alpha: 0.0),
    surrogate.SoftSign: _alpha_and(lambda alpha: 1.0 / alpha),
    surrogate.SuperSpike: _alpha_and(lambda alpha: 0.0),
    surrogate.NonzeroSignLogAbs: _alpha_and(lambda alpha: 1.0 / alpha),
    surrogate.Rect: _alpha_and(lambda alpha: 0.5 / alpha),
    surrogate.QPseudoSpike: _alpha_and(lambda alpha: 2.0 / (alpha - 1.0)),
    surrogate.FakeNumericalGradient: _alpha_and(lambda alpha: 0.0),
    surrogate.LogTailedReLU: _alpha_and(lambda alpha: 0.0),
    surrogate.S2NN: lambda spike: (spike.alpha, spike.beta),
    surrogate.LeakyKReLU: lambda spike: (spike.leak, spike.k),
    surrogate.PiecewiseLeakyReLU: lambda spike: (spike.w, spike.c),
    DSpike: lambda spike: (2.0 * spike.alpha, 2.0 * spike.alpha / math.tanh(spike.alpha / 2.0)),
    surrogate.SquarewaveFourierSeries: lambda spike: (2.0 * math.pi / spike.T_period, 4.0 / spike.T_period),
}

CLOSED_FORM_NAMES = tuple(kind.__name__.lower() for kind in _CONSTANTS)
"""Names of all derivatives; those of `models.registry.SURROGATES`."""


def closed_form(spike: Any) -> ClosedForm | None:
    """Returns the derivative of a surrogate function, or None for a function without one here."""
    constants = _CONSTANTS.get(type(spike))
    if constants is None or not spike.spiking or getattr(spike, "n", 2) != 2:  # a Fourier series of one term
        return None
    return ClosedForm(type(spike).__name__.lower(), *constants(spike))
