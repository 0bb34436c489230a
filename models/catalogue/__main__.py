# PYTHON_ARGCOMPLETE_OK
"""Runs `python -m models.catalogue`."""

import sys

from models.catalogue.command import main

sys.exit(main())
