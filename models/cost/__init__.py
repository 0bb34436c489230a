"""Spikes, operations and energy of a model, counted in forward passes."""

from models.cost.meter import Meter, count_parameters

__all__ = ["Meter", "count_parameters"]
