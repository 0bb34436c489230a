"""Counting spikes, operations and energy of a model while it runs."""

from models.cost.meter import Meter, count_parameters

__all__ = ["Meter", "count_parameters"]
