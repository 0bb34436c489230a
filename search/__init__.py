"""Hyperparameter search from Python: `search.run_study("spaces/quickstart.yml")` runs it and returns its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.driver import run_study

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    """Imports the driver on first use: the other commands and the workers do without it."""
    if name == "run_study":
        from search.driver import run_study

        return run_study
    raise AttributeError(f"module 'search' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names."""
    return sorted(__all__)
