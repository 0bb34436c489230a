"""Spiking self-attention, one module a mechanism."""
