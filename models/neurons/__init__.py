"""Spiking neurons and their forward and backward passes over all time steps."""
