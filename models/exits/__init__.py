"""Exits per image: rules that end the run of an image once its read-out is sure."""
