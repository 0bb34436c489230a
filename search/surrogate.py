"""What a config would reach at full fidelity, foretold from all rungs: a Gaussian process over config and epoch.

A value y(c, r) of config c after r epochs is a mean curve m(r), plus what neighbouring configs share at all epochs and
at this one, plus what this very training keeps of its own, plus noise:

    cov = k(c, c') (a + b q(r, r')) + [c = c'] (d + e q(r, r')) + noise

with k a Matern-5/2 kernel over the searched keys and q a squared exponential over log epochs. Accuracy is taken as its
logit and costs as their logarithm, so that an error halved or a cost halved is the same step anywhere. Pure numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from results.pareto import Floats
from search.domains import Choice, Domain
from search.space import Space

SHARED, SHARED_AT, OWN, OWN_AT = 0.5, 0.25, 0.12, 0.08
"""Parts of the variance: a, b, d, e above."""
Shape = tuple[float, float]
SHAPES: Sequence[Shape] = tuple(itertools.product((0.25, 0.5, 1.0), (0.02, 0.1)))
"""Length scales, as shares of the distance between opposite corners of the space, and shares of noise."""
EPOCH_SCALE = 0.7
"""Length scale over log epochs, where the whole training is 1."""
DRAWS, DIRECTIONS = 16, 32
"""Draws from the forecast, and directions in which volume is measured."""
WORTH = 0.1
"""A point counts for the unit of an objective when it is this share of the range better than the worst in each."""
MOST_KEPT = 10_000
"""Configs whose vectors are kept, to be made once."""
MOST_POINTS = 400
"""Observations used, those of the highest rungs first: the cost grows with their cube."""
APART = 2.0
"""Of one training, the latest observation is used, and each earlier one at half of the epochs of the next, or fewer."""


@dataclass(frozen=True)
class Observed:
    """One config after so many epochs, its values already on the scale of `to_scale`."""

    values: Mapping[str, Any]
    trial: int
    epoch: int
    y: Sequence[float]


def to_scale(metric: str, value: float) -> float:
    """Returns a metric on the scale on which it is foretold: logit of accuracy, logarithm of all else."""
    if metric == "accuracy":
        share = min(max(value / 100.0, 0.002), 0.998)
        return math.log(share / (1.0 - share))
    return math.log(max(value, 1e-9))


def from_scale(metric: str, y: Floats) -> Floats:
    """Returns where values on the scale lie where improvements count: percent of accuracy, logarithms of costs."""
    return 100.0 / (1.0 + np.exp(-y)) if metric == "accuracy" else y


class Encoder:
    """Turns values into vectors: a place from 0 to 1 for each number, a corner of a simplex for each other option."""

    def __init__(self, space: Space) -> None:
        self.columns: list[tuple[str, Domain]] = []
        for key, domain in space.keys.items():
            self.columns.append((key, domain))
            for opened in domain.opens if isinstance(domain, Choice) else ():
                self.columns += [(inner, other) for inner, other in opened.items()]

        self.width = sum(len(_encode(domain, None)) for _, domain in self.columns)
        """The length of a vector."""
        self._known: dict[str, list[float]] = {}

    def __call__(self, configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Returns the vectors `[n, columns]` of configs."""
        return np.array([self._vector(values) for values in configs])

    def _vector(self, values: Mapping[str, Any]) -> list[float]:
        name = repr(values)
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            found = [x for key, domain in self.columns for x in _encode(domain, values.get(key))]
            self._known[name] = found
        return found


def _encode(domain: Domain, value: Any) -> list[float]:
    if not isinstance(domain, Choice):
        return [domain.place(value) if domain.holds(value) else 0.5]
    numbers = [option for option in domain.options if isinstance(option, int | float) and not isinstance(option, bool)]
    if len(numbers) == len(domain.options):
        places = {option: i / max(len(numbers) - 1, 1) for i, option in enumerate(sorted(numbers))}
        return [places.get(value, 0.5) if isinstance(value, int | float) else 0.5]
    return [math.sqrt(0.5) * (option == value) for option in domain.options]


class Surrogate:
    """The process fitted to what was observed; `epochs` is full fidelity."""

    def __init__(
        self,
        encode: Encoder,
        observed: Sequence[Observed],
        epochs: int,
        shapes: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Fits to what was observed; `shapes`, one an objective, are those of an earlier fit, to save the search."""
        ordered = sorted(observed, key=lambda o: (-o.epoch, o.trial))
        trials, rungs = np.array([o.trial for o in ordered]), np.array([o.epoch for o in ordered])
        y = np.array([o.y for o in ordered])
        y = np.clip(y, *_bounds(y))
        self.epochs = epochs
        self.curve = _mean_curve(trials, rungs, y, epochs)
        chosen = _telling(ordered)[:MOST_POINTS]
        self.trials, self.rungs = trials[chosen], rungs[chosen]
        self.inputs = encode([ordered[i].values for i in chosen])
        y = y[chosen] - np.array([self.curve[ordered[i].epoch] for i in chosen])
        self.spread = np.maximum(y.std(axis=0), 1e-6)
        self.y = y / self.spread
        tried = [SHAPES] * self.y.shape[1] if shapes is None else [[(length, noise)] for length, noise in shapes]
        kin = self._kin(self.inputs, self.trials, self.rungs)
        self._factors = {shape: self._factor(kin, shape) for shape in set(itertools.chain(*tried))}
        found = [max((self._solve(i, shape) for shape in some), key=lambda f: f[0]) for i, some in enumerate(tried)]
        self.shapes = [shape for _, shape, _ in found]
        self._halves = [half for _, _, half in found]

    def _factor(self, kin: Kin, shape: Shape) -> Floats:
        covariance = kin.covariance(shape, self.inputs.shape[1])
        covariance.flat[:: len(covariance) + 1] += shape[1]
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)

    def _solve(self, objective: int, shape: Shape) -> tuple[float, Shape, Floats]:
        """Returns the likelihood of an objective's data under a shape, with what a forecast needs."""
        factor = self._factors[shape]
        half: Floats = solve_triangular(factor, self.y[:, objective], lower=True, check_finite=False)
        return -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum()), shape, half

    def foretell(self, inputs: Floats, trials: Sequence[int]) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation `[n, objectives]` of encoded configs at full fidelity.

        A trial of -1 is a new config.
        """
        kin = self._kin(inputs, np.array(trials), np.full(len(inputs), self.epochs))
        solved = {shape: self._solved(shape, kin.covariance(shape, inputs.shape[1])) for shape in set(self.shapes)}
        means, deviations = [], []
        for i, (shape, half) in enumerate(zip(self.shapes, self._halves, strict=True)):
            left = SHARED + SHARED_AT + OWN + OWN_AT - (solved[shape] ** 2).sum(axis=0)
            means.append(self.curve[self.epochs][i] + self.spread[i] * (solved[shape].T @ half))
            deviations.append(self.spread[i] * np.sqrt(np.maximum(left, 1e-6)))
        return np.stack(means, axis=1), np.stack(deviations, axis=1)

    def _solved(self, shape: Shape, cross: Floats) -> Floats:
        found: Floats = solve_triangular(self._factors[shape], cross.T, lower=True, check_finite=False)
        return found

    def _kin(self, inputs: Floats, trials: Any, rungs: Any) -> Kin:
        """Returns what the covariance with the observed ones is made of, whatever the shape."""
        epochs, place = np.unique(np.concatenate([rungs, self.rungs]), return_inverse=True)
        steps = np.log(epochs[:, None] / epochs[None, :]) / math.log(max(self.epochs, 2))
        alike = np.exp(-0.5 * (steps / EPOCH_SCALE) ** 2)
        here, there = place[: len(rungs)], place[len(rungs) :]
        same = np.nonzero(trials[:, None] == self.trials[None, :])
        own = OWN + OWN_AT * alike[here[same[0]], there[same[1]]]
        return Kin(_distances(inputs, self.inputs), (SHARED + SHARED_AT * alike)[np.ix_(here, there)], same, own)


@dataclass(frozen=True)
class Kin:
    """Distances between configs, `[n, observed]`, and how much of the variance two such trainings share at most.

    `shared` is for neighbouring configs, `own` for a training with itself, at the places `same`.
    """

    far: Floats
    shared: Floats
    same: tuple[Any, ...]
    own: Floats

    def covariance(self, shape: Shape, width: int) -> Floats:
        """Returns the covariance, without noise, of configs whose vectors have this width."""
        reach = math.sqrt(5.0 / width) / shape[0] * self.far
        fading = np.exp(-reach)
        found: Floats = reach**2
        found /= 3.0
        reach += 1.0
        found += reach  # in place: what is added up here takes longer to fetch than to add
        found *= fading
        found *= self.shared
        found[self.same] += self.own
        return found


def _distances(a: Floats, b: Floats) -> Floats:
    found: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    found -= 2.0 * a @ b.T
    np.maximum(found, 0.0, out=found)
    return np.sqrt(found, out=found)


def _telling(ordered: Sequence[Observed]) -> list[int]:
    """Returns which of the observations, the highest epoch first, are used: close to a later one they say little."""
    earliest: dict[int, int] = {}
    found = []
    for i, one in enumerate(ordered):
        if one.trial not in earliest or one.epoch * APART <= earliest[one.trial]:
            earliest[one.trial] = one.epoch
            found.append(i)
    return found


def _bounds(y: Floats) -> tuple[Floats, Floats]:
    """Returns between which values each objective is taken: what is far outside, no spike at all say, tells nothing."""
    low, high = np.quantile(y, (0.1, 0.9), axis=0)
    return low - (high - low), high + (high - low)


def _mean_curve(trials: Any, rungs: Any, y: Floats, epochs: int) -> dict[int, Floats]:
    """Returns the mean at each rung: that of the first, and on from there the median gain of those that went on.

    The trials at a higher rung are chosen ones, so their own mean would be no mean of all.
    """
    levels = [int(level) for level in np.unique(rungs)]
    curve = {levels[0]: y[rungs == levels[0]].mean(axis=0)}
    for before, level in itertools.pairwise(levels):
        _, here, there = np.intersect1d(trials[rungs == level], trials[rungs == before], return_indices=True)
        gains = y[rungs == level][here] - y[rungs == before][there]
        curve[level] = curve[before] + (np.median(gains, axis=0) if len(gains) else 0.0)
    curve.setdefault(epochs, curve[levels[-1]])
    return curve


class Dominated:
    """What points on the scale of `to_scale` dominate, and what a forecast would add to it.

    Volumes are the mean over directions w of max_z min_i (z_i / w_i)^m (Golovin and Zhang 2020), up to a factor; what
    is foretold is drawn from, all configs alike.
    """

    def __init__(self, points: Floats, scale: Scale, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._scale, self._goals = scale, len(scale.names)
        self._normal = rng.standard_normal((DRAWS, 1, self._goals))
        self._ways = _directions(self._goals, rng)
        self._held = self._depth(points).max(axis=0) if len(points) else np.zeros(DIRECTIONS)
        self.volume = float(self._held.mean())

    def gain(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the volume that each config is expected to add."""
        found: Floats = self._added(means, deviations).mean(axis=(0, 2))
        return found

    def chance(self, means: Floats, deviations: Floats) -> Floats:
        """Returns the chance of each config to add anything: to be on the front."""
        found: Floats = (self._added(means, deviations) > 0.0).any(axis=2).mean(axis=0)
        return found

    def _added(self, means: Floats, deviations: Floats) -> Floats:
        """Returns what each config adds, `[draws, configs, directions]`."""
        found: Floats = np.maximum(self._depth(means + deviations * self._normal) - self._held, 0.0)
        return found

    def _depth(self, points: Floats) -> Floats:
        room = self._scale.room(points)
        least = reduce(np.minimum, (room[..., i, None] / self._ways[:, i] for i in range(self._goals)))
        found: Floats = least**self._goals
        return found


def _directions(goals: int, rng: np.random.Generator) -> Floats:
    """Returns directions in the positive corner: evenly spread for two objectives, drawn for more."""
    if goals == 2:
        angles = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS * math.pi / 2.0
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = np.abs(rng.standard_normal((DIRECTIONS, goals)))
    found: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class Scale:
    """From where each objective's improvement counts, which way, and what is one unit of it."""

    names: tuple[str, ...]
    signs: Floats
    reference: Floats
    unit: Floats

    @classmethod
    def of(cls, names: Sequence[str], signs: Sequence[float], points: Floats, limits: Mapping[str, float]) -> Scale:
        """Returns the scale of a study: an objective counts from its limit, or from the worst value seen."""
        real = np.stack([from_scale(name, points[:, i]) for i, name in enumerate(names)], axis=1)
        turned = real * np.array(signs)
        worst = turned.min(axis=0)
        for i, name in enumerate(names):
            if name in limits:
                worst[i] = signs[i] * (limits[name] if name == "accuracy" else to_scale(name, limits[name]))
        counted = turned[(turned > worst + WORTH * (turned.max(axis=0) - worst)).all(axis=1)]
        best = (counted if len(counted) else turned).max(axis=0)
        return cls(tuple(names), np.array(signs), worst, np.maximum(best - worst, 1e-6))

    def room(self, points: Floats) -> Floats:
        """Returns how far points are above the reference, in units; 0 for what is below."""
        real = np.stack([from_scale(name, points[..., i]) for i, name in enumerate(self.names)], axis=-1)
        found: Floats = np.maximum((real * self.signs - self.reference) / self.unit, 0.0)
        return found
