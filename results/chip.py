"""Export of picked points to integers, by the command that measures them in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from config.cli import CommandError

MODULE = "trainers.measurement.chip"


def run(checkpoint: Path, config: Path, out: Path, options: Sequence[str] = ()) -> None:
    """Writes the integer graph of a checkpoint and its report into a folder; raises CommandError if that fails.

    The process prints what it measured and wrote. This package imports neither models nor trainers.
    """
    command = [sys.executable, "-m", MODULE, str(checkpoint), "--config", str(config), "--out", str(out), *options]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise CommandError(code, f"{out}: the export of {checkpoint} to integers failed; its reason is above")
