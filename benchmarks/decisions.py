"""CPU time of a decision at a rung: `python -m benchmarks.decisions --json FILE`.

`p99_ms_N`: the 99th percentile of the CPU time of `TrialScheduler.on_result` at a rung of N trials with two objectives,
in ms, the slower of the modes stop and promote. The points are random, on some hundred fronts. `suggestion_p99_ms_1000`
is that of a suggestion by the model of the rungs after 1,000 trials of six searched keys.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.report import write
from config import strict_yaml
from config.distributions import UniformSampler
from search.algorithm.scheduler import TrialScheduler
from search.algorithm.trial import Suggestion, Trial
from search.space import reader
from trainers.epoch_metrics import EpochMetrics

SPACE = """
study: decisions
base: spikformer/digits
objectives: {{accuracy: maximize, spike_rate: minimize}}
space: {{tau: {{uniform: [1.1, 3.0]}}}}
budget: {{trials: 20000, epochs: 9}}
scheduler: {{name: moasha, mode: {mode}, grace_epochs: 1}}
"""
KEYS = """
  tau: {uniform: [1.1, 3.0]}
  threshold: {uniform: [0.5, 1.5]}
  alpha: {log_uniform: [1, 8]}
  step: {choice: [1, 2, 4]}
  depths: {int: [1, 2]}
  lr: {log_uniform: [0.003, 0.03]}
"""
SIZES = (1_000, 10_000)
DECISIONS = 200


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the times, prints them and writes them to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args(argv)
    figures: dict[str, float] = {"decisions": DECISIONS}
    for size in SIZES:
        times = {mode: decisions_ms(mode, size) for mode in ("stop", "promote")}
        figures[f"p99_ms_{size}"] = max(float(np.percentile(found, 99)) for found in times.values())
        figures |= {f"median_ms_{size}_{mode}": float(np.median(found)) for mode, found in times.items()}
    suggestions = suggestions_ms(SIZES[0])
    figures |= {"suggestion_p99_ms_1000": float(np.percentile(suggestions, 99))}
    figures |= {"suggestion_median_ms_1000": float(np.median(suggestions))}
    write(figures, arguments.json)


def decisions_ms(mode: str, size: int) -> list[float]:
    """Returns the CPU time of each decision in ms, at a rung that holds `size` trials and more."""
    space = reader.read(strict_yaml.parse(SPACE.format(mode=mode), "decisions.yml"))
    scheduler = TrialScheduler(space, space.feasible_config)
    rng, times = random.Random(0), []
    for number in range(size + DECISIONS):
        scheduler.trials[number] = Trial(number, Suggestion({"tau": 2.0}, {}, {}), {})
        metrics = {"accuracy": rng.gauss(60, 10), "spike_rate": rng.uniform(0.02, 0.3), "chance": 10.0}
        epoch = EpochMetrics(1, metrics, [], [])
        if number < size:
            scheduler.commit(number, epoch, "pause" if mode == "promote" else "stop")
            continue
        started = time.process_time()
        scheduler.on_result(number, epoch)
        times.append(1000 * (time.process_time() - started))
    return times


def suggestions_ms(size: int) -> list[float]:
    """Returns the CPU time in ms of suggestions by the model, one after each trial that ends, from `size` trials on."""
    text = SPACE.format(mode="promote").replace("{tau: {uniform: [1.1, 3.0]}}", KEYS)
    space = reader.read(strict_yaml.parse(text, "decisions.yml"))
    scheduler = TrialScheduler(space, space.feasible_config)
    model, rng, times = scheduler.candidates.model, random.Random(0), []
    for number in range(size + DECISIONS):
        values = space.suggest(UniformSampler(number))
        scheduler.restore(Trial(number, Suggestion(values, {}, {}), {}))
        for epoch in (1, 3, 9)[: 1 + (number % 3 == 0) + (number % 9 == 0)]:
            point = [-80.0 - rng.gauss(values["tau"] * epoch, 1.0), values["threshold"] * rng.uniform(0.9, 1.1)]
            model.add(number, epoch, point, at_chance=False, is_violating=False)
        if number >= size:
            started = time.process_time()
            model.suggest(number, lambda candidate: scheduler.candidates.find(candidate) is not None)
            times.append(1000 * (time.process_time() - started))
    return times


if __name__ == "__main__":
    main()
