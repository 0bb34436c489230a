"""Random configs of a space: the share that is refused, and what follows from the shapes of the others."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from config.distributions import Float, UniformSampler
from config.errors import InfeasibleError
from search.space.feasibility import Refusals, refusal_cause, static_cost
from search.space.refused_options import Config, Outcome
from search.space.space import Space
from trainers.config import TrainConfig

NUM_SAMPLES, MIN_SAMPLES = 300, 50
"""Samples that are checked, and the fewest if that takes longer than `CHECK_S`."""
NUM_SIZED = 24
"""Feasible configs whose shapes are computed, those of `start_with` among them."""
CHECK_S, SIZE_S, LARGEST_S = 4.0, 3.0, 2.0
"""CPU seconds after which no further config is checked, sized, or tried as the largest."""
MAX_VALUES = 16
"""Values up to which those of a whole number are tried for the largest memory; of longer ranges only the ends are."""
BYTES_PER_NEURON, BYTES_PER_PARAMETER = 12.0, 16.0
"""Rough memory of a training per neuron, step and image, and per parameter, to find the largest config."""


@dataclass(frozen=True)
class SizedConfig:
    """A config with its static cost (`search.space.feasibility.static_cost`)."""

    config: TrainConfig
    cost: dict[str, float]

    @property
    def params_m(self) -> float:
        return self.cost["params_m"]

    @property
    def activations(self) -> float:
        """Returns the neurons of all steps of one image."""
        return self.cost["neurons"] * self.config.step

    @property
    def memory(self) -> float:
        """Returns a rough number of bytes, to compare configs by."""
        per_image = BYTES_PER_NEURON * self.activations
        return per_image * self.config.batch_size + BYTES_PER_PARAMETER * 1e6 * self.params_m


@dataclass
class SpaceSample:
    """Random configs of a space: their outcomes, the refused ones by cause, and the sized ones by parameters."""

    refused: Refusals = field(default_factory=Refusals)
    outcomes: list[Outcome] = field(default_factory=list)
    sized: list[SizedConfig] = field(default_factory=list)


def sample_space(space: Space) -> SpaceSample:
    """Returns random configs, and the configs of `start_with` among the sized ones.

    Raises ConfigError if all are refused.
    """
    sampler, sample = UniformSampler(space.settings.seed), SpaceSample()
    feasible = [(values, space.train_config(values)) for values in _initial(space)]
    started = time.process_time()
    while len(sample.outcomes) < NUM_SAMPLES:
        if len(sample.outcomes) >= MIN_SAMPLES and time.process_time() - started > CHECK_S:
            break
        values = space.suggest(sampler)
        try:
            feasible.append((values, space.feasible_config(values)))
        except InfeasibleError as error:
            sample.refused.add(error)
            sample.outcomes.append((values, refusal_cause(error)))
        else:
            sample.outcomes.append((values, None))
    if not feasible:
        raise sample.refused.error()
    sized = _sized(config for _, config in feasible)
    sample.sized = sorted(sized, key=lambda found: found.params_m)
    return sample


def _initial(space: Space) -> Iterable[Config]:
    """Returns the configs of `start_with` that can be trained."""
    return [values for _, values, problem in space.initial_configs if problem is None and space.is_feasible(values)]


def _sized(configs: Iterable[TrainConfig]) -> list[SizedConfig]:
    import torch  # noqa: F401  # its import does not count

    found: list[SizedConfig] = []
    started = time.process_time()
    for config in configs:
        found.append(SizedConfig(config, static_cost(config)))
        if len(found) >= NUM_SIZED or time.process_time() - started > SIZE_S:
            break
    return found


def largest(space: Space, sample: SpaceSample) -> SizedConfig:
    """Returns the config whose training takes the most memory, as far as a search from key to key finds it.

    It starts at the largest sampled config, first tries the upper ends of all numbers at once, and then the options and
    ends of each key.
    """
    best = max(sample.sized, key=lambda found: found.memory)
    values = space.values_of(best.config.model_dump(mode="json"))
    started = time.process_time()
    upper = {key: _numbers(space, key, values)[-1:] for key in values}
    attempts = [{key: numbers[0] for key, numbers in upper.items() if numbers}]
    attempts += [{key: option} for key in values for option in _options(space, key, values)]
    for change in attempts:
        if time.process_time() - started > LARGEST_S:
            break
        tried = {**values, **change}
        try:
            config = space.feasible_config({key: tried[key] for key, _, _ in space.active(tried)})
        except (InfeasibleError, KeyError):  # the option opens keys without a value here
            continue
        sized = SizedConfig(config, static_cost(config))
        if sized.memory > best.memory:
            best, values = sized, tried
    return best


def _numbers(space: Space, key: str, values: Config) -> list[Any]:
    """Returns the values of a key that are tried, in order; none if they are not numbers."""
    options = _options(space, key, values)
    is_ordered = all(isinstance(option, int | float) and not isinstance(option, bool) for option in options)
    return sorted(options) if is_ordered else []


def _options(space: Space, key: str, values: Config) -> list[Any]:
    distribution = space.distribution(key, values)
    if isinstance(distribution, Float) or distribution.count() > MAX_VALUES:
        return distribution.test_values()
    return distribution.values()
