"""Which keys matter: PED-ANOVA of each objective and of the front, by Optuna, conditional keys included.

The importance of a key is how differently the best trials and all trials choose its value. A key that only some
choices open counts by the share of trials that have it (conditional PED-ANOVA); its options' parts are added up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from results.analysis.history import at_epoch, fidelity
from results.keys import Key, keys_of, label
from results.study import StudyResult, TrialResult

if TYPE_CHECKING:
    import optuna

FRONT = "front"
LEAST_TRIALS = 10
BEST_SHARE = 0.1
BEST_TRIALS = 5
"""The best tenth of the trials is looked at, but at least this many of them."""


@dataclass(frozen=True)
class Importance:
    """Shares that add up to 1 for each target: an objective, or `front`. Taken over trials as of one epoch."""

    epoch: int
    num_trials: int
    shares: dict[str, dict[str, float]]

    def order(self) -> list[str]:
        """Returns the keys, first the one with the largest share over all targets."""
        keys = next(iter(self.shares.values()), {})
        return sorted(keys, key=lambda key: -sum(share[key] for share in self.shares.values()))


def importances(study: StudyResult, epoch: int | None = None) -> Importance:
    """Returns the importance of each searched key, at the highest fidelity that enough trials reached by default.

    `shares` is empty where fewer than ten trials can be compared.
    """
    level = fidelity(study) if epoch is None else epoch
    rows = at_epoch(study, level)
    keys = keys_of(study)
    if len(rows) < LEAST_TRIALS or not keys:
        return Importance(level, len(rows), {})
    view = _as_optuna(study, rows, keys)
    shares = {name: _shares(view, keys, _target(view, i)) for i, name in enumerate(study.objectives)}
    if len(study.objectives) > 1:
        shares[FRONT] = _shares(view, keys, None)
    return Importance(level, len(rows), shares)


def best_share(num_trials: int) -> float:
    """Returns the share of trials that count as the best: a tenth, or more where that were fewer than five."""
    return max(BEST_SHARE, min(0.5, BEST_TRIALS / num_trials))


def _as_optuna(
    study: StudyResult, rows: Sequence[tuple[TrialResult, dict[str, float]]], keys: Sequence[Key]
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection[goal.upper()] for goal in study.objectives.values()]
    view = optuna.create_study(directions=directions)
    for trial, metrics in rows:
        active = {key.parameter: key for key in keys if key.is_active(trial.params)}
        values = {name: _stored(key, trial.params[key.name]) for name, key in active.items()}
        kept = {name: value for name, value in values.items() if value is not None}
        distributions = {name: _distribution(active[name]) for name in kept}
        goals = [metrics[name] for name in study.objectives]
        view.add_trial(optuna.trial.create_trial(params=kept, distributions=distributions, values=goals))
    return view


def _stored(key: Key, value: Any) -> Any:
    """A value as Optuna has it, or None where a recipe or a conversion left the key's range."""
    if not key.options:
        return value if isinstance(value, int | float) and key.low <= value <= key.high else None
    index = key.index(value)
    return None if index is None else label(key.options[index])


def _distribution(key: Key) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if key.options:
        return distributions.CategoricalDistribution([label(option) for option in key.options])
    if key.is_whole:
        return distributions.IntDistribution(int(key.low), int(key.high), log=key.is_log, step=key.step)
    return distributions.FloatDistribution(key.low, key.high, log=key.is_log)


def _target(view: optuna.Study, objective: int) -> Callable[[optuna.trial.FrozenTrial], float]:
    sign = -1.0 if view.directions[objective].name == "MAXIMIZE" else 1.0
    return lambda trial: sign * trial.values[objective]


def _shares(
    view: optuna.Study, keys: Sequence[Key], target: Callable[[optuna.trial.FrozenTrial], float] | None
) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share(len(view.trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small targets are better, which the sign has seen to
        found = get_param_importances(view, evaluator=evaluator, target=target)
    shares = dict.fromkeys((key.name for key in keys), 0.0)
    for key in keys:
        shares[key.name] += found.get(key.parameter, 0.0)
    return shares
