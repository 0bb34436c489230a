"""Configs that a search starts with: recipes and train files, and the best of an earlier study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.errors import ConfigError
from results import pareto
from results.folder import study_location
from results.metrics import ResultsError
from trainers import config as train_file

MAX_FROM_STUDY = 6
"""Members of an earlier study's front that are taken, those farthest apart where there are more."""


def is_study(name: str) -> bool:
    """Returns whether an entry of `start_with` is the folder of a study."""
    return Path(name).is_dir() and study_location(Path(name)) is not None


def resolve(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the train files, each with a name, that an entry of `start_with` stands for. Raises ConfigError."""
    if not is_study(name):
        return [(name, train_file.load(train_file.recipe_path(name)).dump())]
    from results.load import load

    try:
        study = load(name)
    except ResultsError as error:
        raise ConfigError(str(error)) from None
    first = {point.trial: study.values(point) for point in reversed(study.front())}
    if not first:
        raise ConfigError(f"{name} has no trial on its front yet")
    trials = list(first)
    chosen = pareto.epsilon_net(pareto.scaled(list(first.values())), MAX_FROM_STUDY)
    known = {trial.number: trial.config for trial in study.trials}
    return [(f"{name} t{number:04d}", known[number]) for number in sorted(trials[i] for i in chosen)]
