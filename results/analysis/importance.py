"""Hyperparameter importance by PED-ANOVA (Watanabe et al., 2023), for each objective and for the front.

The importance of a key measures how the distribution of its values differs between the best trials and all trials. A
conditional key is weighted by the share of trials that have it; the parts of its options are added up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.distributions import Categorical, Integer
from results.analysis.history import comparison_epoch, trials_at_epoch
from results.keys import Key, keys_of, label
from results.study import StudyResult, TrialResult

if TYPE_CHECKING:
    import optuna

FRONT = "front"
MIN_TRIALS = 10
BEST_SHARE = 0.1
BEST_TRIALS = 5
"""The best tenth of the trials, but at least this many, counts as the best."""


@dataclass(frozen=True)
class Importance:
    """Importance of each key, with sum 1 for each target: an objective, or `front`. Trials are compared at `epoch`."""

    epoch: int
    num_trials: int
    shares: dict[str, dict[str, float]]

    def order(self) -> list[str]:
        """Returns the keys, ordered by the sum of their shares over all targets, largest first."""
        keys = next(iter(self.shares.values()), {})
        return sorted(keys, key=lambda key: -sum(share[key] for share in self.shares.values()))


def importances(study: StudyResult, epoch: int | None = None) -> Importance:
    """Returns the importance of each searched key, by default at the highest epoch with enough trials.

    `shares` is empty if fewer than ten trials can be compared.
    """
    level = comparison_epoch(study) if epoch is None else epoch
    rows = trials_at_epoch(study, level)
    keys = keys_of(study)
    if len(rows) < MIN_TRIALS or not keys:
        return Importance(level, len(rows), {})
    trials = _to_optuna(study, rows, keys)
    shares = {name: _shares(trials, keys, _target(trials, i)) for i, name in enumerate(study.objectives)}
    if len(study.objectives) > 1:
        shares[FRONT] = _shares(trials, keys, None)
    return Importance(level, len(rows), shares)


def best_share(num_trials: int) -> float:
    """Returns the share of trials that count as the best: a tenth, at least five trials, at most half of them."""
    return max(BEST_SHARE, min(0.5, BEST_TRIALS / num_trials))


def _to_optuna(
    study: StudyResult, rows: Sequence[tuple[TrialResult, dict[str, float]]], keys: Sequence[Key]
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection[goal.upper()] for goal in study.objectives.values()]
    found = optuna.create_study(directions=directions)
    for trial, metrics in rows:
        active = [key for key in keys if key.name in trial.params and key.is_open(trial.params)]
        values = [(key, _to_optuna_value(key, trial.params[key.name])) for key in active]
        found.add_trial(
            optuna.trial.create_trial(
                params={key.parameter: value for key, value in values if value is not None},
                distributions={key.parameter: _distribution(key) for key, value in values if value is not None},
                values=[metrics[name] for name in study.objectives],
            )
        )
    return found


def _to_optuna_value(key: Key, value: Any) -> Any:
    """Returns a value as Optuna stores it, or None if it is outside the key's range, as a recipe's may be."""
    if key.range is not None:
        return value if isinstance(value, int | float) and key.range.low <= value <= key.range.high else None
    index = key.index(value)
    return None if index is None else label(key.options[index])


def _distribution(key: Key) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    found = key.distribution
    if isinstance(found, Categorical):
        return distributions.CategoricalDistribution([label(option) for option in found.options])
    if isinstance(found, Integer):
        return distributions.IntDistribution(found.low, found.high, log=found.log, step=found.step)
    return distributions.FloatDistribution(found.low, found.high, log=found.log)


def _target(study: optuna.Study, objective: int) -> Callable[[optuna.trial.FrozenTrial], float]:
    sign = -1.0 if study.directions[objective].name == "MAXIMIZE" else 1.0
    return lambda trial: sign * trial.values[objective]


def _shares(
    study: optuna.Study, keys: Sequence[Key], target: Callable[[optuna.trial.FrozenTrial], float] | None
) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share(len(study.trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about targets to maximize: the sign in _target handles them
        found = get_param_importances(study, evaluator=evaluator, target=target)
    shares = dict.fromkeys((key.name for key in keys), 0.0)
    for key in keys:
        shares[key.name] += found.get(key.parameter, 0.0)
    return shares
