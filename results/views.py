"""What figures and tables show of a study, as plain values: the same for paper and report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from results import pareto
from results.keys import Key, axes_of_keys
from results.metrics import METRICS
from results.picks import pick
from results.study import FrontPoint, StudyResult, TrialResult

Names = tuple[str, str]
MANY = 1e4
LEAST_FAILURES = 3
CLEARLY = 0.8
"""Share of the pairs (failed, other) that must be in one order before a key is named as a failure's place."""


@dataclass(frozen=True)
class Place:
    """Where failures of a class lie: the key, the end, and the medians there and elsewhere."""

    key: str
    end: str
    failed: float
    others: float

    def __str__(self) -> str:
        return f"{self.end} {self.key} (median {short(self.failed)}; of the other trials {short(self.others)})"


def axes_of(study: StudyResult) -> Names:
    """Returns the metrics of the x and y axis: the first two objectives; a lone one stands against the spike rate."""
    first, *others = study.objectives
    fallback = "accuracy" if first == "spike_rate" else "spike_rate"
    return (others or [fallback])[0], first


def front_line(study: StudyResult, names: Names) -> list[FrontPoint]:
    """Returns the points that nothing dominates in two metrics alone, in the order in which a line joins them."""
    points = [point for point in study.points() if set(names) <= point.metrics.keys()]
    directions = [study.direction(name) for name in names]
    flat = pareto.minimised([[point.metrics[name] for name in names] for point in points], directions)
    line = [point for point, kept in zip(points, pareto.non_dominated(flat), strict=True) if kept]
    return sorted(line, key=lambda point: point.metrics[names[0]], reverse=directions[0] == "maximize")


def chosen(study: StudyResult) -> dict[str, FrontPoint]:
    """Returns the front's knee, its best in the first objective and its cheapest, by these words."""
    front, knee = study.front(), study.knee()
    if knee is None:
        return {}
    cost = axes_of(study)[0]
    cost = cost if METRICS[cost].direction == "minimize" else "spike_rate"
    on_front = {(point.trial, point.read_step) for point in front}
    found = {"knee": knee, "best": front[0]}
    cheapest = pick(study, f"cheapest:{cost}")[0]
    if (cheapest.trial, cheapest.read_step) in on_front:
        found["cheapest"] = cheapest
    return found


def stopped_points(study: StudyResult, names: Names) -> list[FrontPoint]:
    """Returns the stopped trials as they stood when they were stopped."""
    return [trial.point() for trial in study.select("stopped") if set(names) <= trial.metrics.keys()]


def ruled_out(study: StudyResult, names: Names) -> list[FrontPoint]:
    """Returns full-fidelity read-outs that are no candidates: at chance, or outside the constraints."""
    allowed = {(point.trial, point.read_step) for point in study.points()}
    found = [point for trial in study.select("complete") for point in trial.points()]
    return [p for p in found if (p.trial, p.read_step) not in allowed and is_measured(p, names)]


def is_measured(point: FrontPoint, names: Sequence[str]) -> bool:
    """Returns whether the point has finite values of the metrics."""
    return all(math.isfinite(point.metrics.get(name, math.nan)) for name in names)


def layer_rates(trial: TrialResult) -> list[tuple[str, float]]:
    """Returns (layer, spike rate) of the neuron layers, input first."""
    return [(str(layer["name"]), float(layer["spike_rate"])) for layer in trial.layers if "spike_rate" in layer]


def places(study: StudyResult, failure_class: str) -> list[Place]:
    """Returns the keys at one end of which failures of a class crowd, the clearest first; none for a few failures."""
    failed = [trial for trial in study.trials if trial.failure_class == failure_class]
    others = [trial for trial in study.trials if trial.state != "failed"]
    found: list[tuple[float, Place]] = []
    for key in axes_of_keys(study):
        bad, good = _numbers(key, failed), _numbers(key, others)
        if not key.is_ordered or len(bad) < LEAST_FAILURES or not good:
            continue
        above = sum((b > g) + (b == g) / 2 for b in bad for g in good) / (len(bad) * len(good))
        if max(above, 1 - above) >= CLEARLY:
            end = "high" if above > 0.5 else "low"
            found.append((max(above, 1 - above), Place(key.name, end, median(bad), median(good))))
    return [place for _, place in sorted(found, key=lambda pair: -pair[0])]


def short(value: float) -> str:
    """Returns a number as people read it: 1.68 M, 0.1786, 96."""
    if abs(value) >= MANY:
        for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {prefix}"
    return f"{value:.4g}"


def words(params: dict[str, object]) -> str:
    """Returns searched values as one line: `tau=1.744 step=2`."""
    return " ".join(f"{key}={value_text(value)}" for key, value in params.items())


def value_text(value: object) -> str:
    """Returns a hyperparameter's value, real numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "-".join(value_text(item) for item in value)
    return str(value)


def _numbers(key: Key, trials: Sequence[TrialResult]) -> list[float]:
    values = [trial.params.get(key.name) for trial in trials]
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
