"""Set-up shared by all tests: no deadline for property tests, and the long tests first."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

os.environ.pop("MLFLOW_TRACKING_URI", None)  # searches in the tests must not write to the user's server

settings.register_profile("patient", deadline=None)  # the machines are shared, and slow at times
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts tests that start Ray first, so that no worker is left with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
