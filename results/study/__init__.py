"""Results of a search: its trials, the points they measured, and the Pareto front of these."""

from results.study.result import StudyResult, build_study
from results.study.trial import Exit, FrontPoint, TrialResult, TrialStatus, known_metrics, parse_exits, parse_read_outs

__all__ = [
    "Exit",
    "FrontPoint",
    "StudyResult",
    "TrialResult",
    "TrialStatus",
    "build_study",
    "known_metrics",
    "parse_exits",
    "parse_read_outs",
]
