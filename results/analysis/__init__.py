"""Analyses of a loaded study: front, history, importance, edges, references."""
