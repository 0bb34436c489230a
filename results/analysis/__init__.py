"""Fronts, histories, importances of a loaded study."""
