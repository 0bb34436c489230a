"""Catalogue of models and parts, `python -m models.catalogue`: papers, formulas, keys, families and costs.

Facts are read from docstrings, registries and shapes, so that a new part needs no second entry.
"""

from models.catalogue.command import _parser as _parser
from models.catalogue.command import main as main
