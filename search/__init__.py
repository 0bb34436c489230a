"""The search, from Python: `search.run_study("spaces/quickstart.yml")` runs it and returns the results."""

from search.driver import run_study

__all__ = ["run_study"]
