"""Export of a model to integers: python -m models.chip CHECKPOINT [--config F] [--bits 8] [--out DIR]"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import sys

from models.chip.command import main

if __name__ == "__main__":
    sys.exit(main())
