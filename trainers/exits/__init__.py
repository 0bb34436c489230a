"""Exits per image in a training: settings, and exit points measured on half of the validation part."""
