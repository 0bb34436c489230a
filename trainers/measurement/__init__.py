"""Measurement of weights files on the test set: their config, the table of layers, the report."""
