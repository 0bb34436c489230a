"""Searches on recorded learning curves."""
