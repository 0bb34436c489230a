"""A model, an attention and a data set of one's own, for `--import examples.own_model`."""

from examples.own_model import register as register
