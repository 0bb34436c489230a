"""Options of a space whose configs are all refused before training, alone or together with an option of another key."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from config.distributions import Categorical, Float, UniformSampler, label
from config.errors import InfeasibleError
from search.space.feasibility import refusal_cause
from search.space.space import Space

NUM_SAMPLES = 300
MIN_SAMPLES = 30
"""Refused configs of an option, without any that was accepted, from which on it counts as always refused."""
MAX_VALUES = 16
"""Values up to which those of a range of whole numbers are options."""
MAX_PAIRS = 20
"""Pairs of options that are sampled further."""
MAX_LINES = 5

Option = tuple[str, Any]
"""A parameter's name and one of its values."""
Options = tuple[Option, ...]
Config = Mapping[str, Any]
Outcome = tuple[Config, str | None]
"""Values of the searched keys, and the cause of their refusal; None if they were accepted."""


def refused_options(space: Space, outcomes: Iterable[Outcome] | None = None) -> list[str]:
    """Returns a sentence for each option, then each pair with a named option, all of whose configs are refused.

    At most MAX_LINES. By default the configs are sampled, and not sized, so that constraints refuse none; this takes a
    fraction of a second.
    """
    sampler = UniformSampler(space.settings.seed)
    configs = (space.suggest(sampler) for _ in range(NUM_SAMPLES))
    samples = list(outcomes_of(space.train_config, configs) if outcomes is None else outcomes)
    single = _confirmed(space, sampler, _unaccepted(space, samples, 1))
    named = {option for (option,) in single}
    pairs = {
        pair: causes
        for pair, causes in _unaccepted(space, samples, 2).items()
        if not named.intersection(pair) and any(isinstance(value, str) for _, value in pair)
    }
    likeliest = sorted(pairs, key=lambda pair: -pairs[pair].total())[:MAX_PAIRS]
    found = {options: causes for options, causes in single.items() if not _is_under(space, options[0], named)}
    found |= _confirmed(space, sampler, {pair: pairs[pair] for pair in likeliest})
    return [_sentence(space, options, causes) for options, causes in found.items()][:MAX_LINES]


def outcomes_of(check: Callable[[Config], Any], configs: Iterable[Config]) -> Iterator[Outcome]:
    """Yields each config with the cause of its refusal by `check`."""
    for values in configs:
        try:
            check(values)
            yield values, None
        except InfeasibleError as error:
            yield values, refusal_cause(error)


def _unaccepted(space: Space, samples: Iterable[Outcome], size: int) -> dict[Options, Counter[str]]:
    """Returns the causes of refusal of each combination of `size` options that no accepted config has."""
    found: dict[Options, Counter[str]] = {}
    accepted: set[Options] = set()
    for values, cause in samples:
        for options in itertools.combinations(_options(space, values), size):
            if cause is None:
                accepted.add(options)
            else:
                found.setdefault(options, Counter())[cause] += 1
    return {options: causes for options, causes in found.items() if options not in accepted}


def _options(space: Space, values: Config) -> list[Option]:
    return [
        (name, label(values[key]))
        for key, name, distribution in space.active(values)
        if not isinstance(distribution, Float)
        and (isinstance(distribution, Categorical) or distribution.count() <= MAX_VALUES)
    ]


def _confirmed(
    space: Space, sampler: UniformSampler, found: dict[Options, Counter[str]]
) -> dict[Options, Counter[str]]:
    """Returns the combinations of which MIN_SAMPLES configs are refused and none is accepted, after more samples."""
    confirmed = {}
    for options, causes in found.items():
        configs = _configs_with(space, sampler, options)
        more = itertools.islice(configs, max(MIN_SAMPLES - causes.total(), 0))
        outcomes = [cause for _, cause in outcomes_of(space.train_config, more)]
        if None not in outcomes:
            confirmed[options] = causes + Counter(cause for cause in outcomes if cause is not None)
    return confirmed


def _configs_with(space: Space, sampler: UniformSampler, options: Options) -> Iterator[dict[str, Any]]:
    """Yields random configs that have the options, and those that open them."""
    opened_by = {parameter.name: parameter.opened_by for parameter in space.parameters}
    openers = [opener for name, _ in options if (opener := opened_by[name]) is not None]
    suggester = _FixedSampler(sampler, {name: label(value) for name, value in [*openers, *options]})
    while True:
        yield space.suggest(suggester)


@dataclass
class _FixedSampler:
    """A uniform sampler with fixed values of some parameters."""

    sampler: UniformSampler
    fixed: Mapping[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.sampler.suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        fixed: int | None = self.fixed.get(name)
        return self.sampler.suggest_int(name, low, high, step=step, log=log) if fixed is None else fixed

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.fixed[name] if name in self.fixed else self.sampler.suggest_categorical(name, choices)


def _is_under(space: Space, option: Option, named: set[Option]) -> bool:
    """Returns whether an option exists only under one of the named options."""
    return any(parameter.name == option[0] and parameter.opened_by in named for parameter in space.parameters)


def _sentence(space: Space, options: Options, causes: Counter[str]) -> str:
    keys = {parameter.name: parameter.key for parameter in space.parameters}
    (name, value), *others = options
    text = f"{keys[name]}: {value}" + "".join(f" with {keys[other]} {shown}" for other, shown in others)
    (cause, _), *_ = causes.most_common(1)
    return f"{text} is always refused (all of {causes.total()} samples): {cause}"
