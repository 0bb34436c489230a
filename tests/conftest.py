"""Property tests have no deadline: machines that run them are shared, and slow at times."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
