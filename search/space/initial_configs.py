"""Sources of initial configs: recipes, train files, and the Pareto front of an earlier study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.errors import ConfigError, did_you_mean
from results import pareto
from results.folder import study_location
from trainers import config as train_file

MAX_FROM_STUDY = 6
"""Configs taken from an earlier study's front; of a larger front, those farthest apart."""


def is_study(name: str) -> bool:
    """Returns whether an entry of `start_with` is the folder of a study."""
    return Path(name).is_dir() and study_location(Path(name)) is not None


def resolve(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the train files, each with a name, of an entry of `start_with`. Raises ConfigError."""
    if not is_study(name):
        return [(name, train_file.load(train_file.recipe_path(name)).dump())]
    from results.load import load

    study = load(name)
    first = {point.trial: study.values(point) for point in reversed(study.front())}
    if not first:
        raise ConfigError(f"{name} has no trial on its front yet")
    trials = list(first)
    selected = pareto.epsilon_net(pareto.normalize(list(first.values())), MAX_FROM_STUDY)
    configs = {trial.number: trial.config for trial in study.trials}
    return [(f"{name} t{number:04d}", configs[number]) for number in sorted(trials[i] for i in selected)]


def missing_file(name: str) -> str | None:
    """Returns the sentence for a recipe or train file that does not exist, with the nearest recipe, or None."""
    path = train_file.recipe_path(name)
    if path.is_file():
        return None
    if path.is_dir() and name:
        return f"is a folder, not a train file (got {name!r})"
    recipes = [f"{path.parent.name}/{path.stem}" for path in train_file.RECIPES.glob("*/*.yml")]
    hint = did_you_mean(name, recipes) or " `ls trainers/recipes/*` lists the shipped ones"
    return f"no such recipe or file (got {name!r}).{hint}"
