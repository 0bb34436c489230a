"""Facts about the registered models and parts, from their docstrings, their keys and their shapes."""
