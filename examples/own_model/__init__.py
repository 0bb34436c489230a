"""Example of a custom model, attention and data set, for `--import examples.own_model`."""

from examples.own_model import register as register
