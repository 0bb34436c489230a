"""Recorded events: formats of files, samples of the published sets, frames of counts."""
