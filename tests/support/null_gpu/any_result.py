"""Lets the trainings of a command pass their checks on the null GPU (`--import tests.support.null_gpu.any_result`)."""

from tests.support.null_gpu.checks import accept_any_result

accept_any_result()
