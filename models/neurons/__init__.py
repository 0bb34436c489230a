"""Spiking neurons and their passes over all time steps."""
