"""Diagnostics of a training: layer activity, gradients and memory."""
