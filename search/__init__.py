"""Hyperparameter search from Python: `search.run_study("spaces/quickstart.yml")` runs it and returns its results."""

from search.driver import run_study

__all__ = ["run_study"]
