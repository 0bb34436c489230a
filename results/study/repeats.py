"""Repeats of configs within a search: trials that differ in nothing but their seed, and their means by read-out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from results.study.seeds import ReadOut, Spreads, spreads
from results.study.trial import TrialResult

MACHINE_FAILURES = ("oom", "stalled", "killed")
"""Classes of failure that say nothing about a config."""


@dataclass(frozen=True)
class Repeats:
    """The configs that a search trained with several seeds, by the trial that had each config first.

    `trainings` are the full trainings of a config, those with further seeds included. `means` holds the metrics over
    these by read-out, for two trainings or more. `failed` counts the repeats that failed, but for failures of the
    machine.
    """

    trainings: Mapping[int, tuple[TrialResult, ...]] = field(default_factory=dict)
    means: Mapping[ReadOut, Spreads] = field(default_factory=dict)
    failed: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_trials(cls, trials: Iterable[TrialResult]) -> Repeats:
        """Returns the repeats among the trials of a study, empty if each config was trained once."""
        repeats = [trial for trial in trials if trial.seed_of is not None]
        if not repeats:
            return cls()
        originals = {trial.seed_of for trial in repeats}
        found = {t.number: [t] for t in trials if t.number in originals and t.state == "complete"}
        failed: dict[int, int] = {}
        for trial in repeats:
            assert trial.seed_of is not None
            if trial.state == "complete" and trial.seed_of in found:
                found[trial.seed_of].append(trial)
            elif trial.state == "failed" and trial.failure_class not in MACHINE_FAILURES:
                failed[trial.seed_of] = failed.get(trial.seed_of, 0) + 1
        return cls({number: tuple(group) for number, group in found.items()}, _means(found), failed)


def _means(groups: Mapping[int, Iterable[TrialResult]]) -> dict[ReadOut, Spreads]:
    rows = (
        {**point.metrics, "trial": number, "read_step": point.read_step, "exit": point.exit_number}
        for number, group in groups.items()
        for trial in group
        for point in trial.points()
    )
    return {read_out: found for read_out, found in spreads(rows).items() if max(s.seeds for s in found.values()) > 1}
