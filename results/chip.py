"""Export of picked points to integers, by the command that measures them in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from config.cli import CommandError
from results.metrics import ResultsError

MODULE = "trainers.measurement.chip"
GRAPH = "net.json"


def folders(out: Path, train_files: Sequence[Path]) -> list[Path]:
    """Returns the folder of each export: `out` of a single one, else one with the name of its train file."""
    return [out] if len(train_files) == 1 else [out / path.stem for path in train_files]


def refuse_existing(found: Sequence[Path]) -> None:
    """Raises ResultsError if a folder holds an integer graph already."""
    existing = [str(folder / GRAPH) for folder in found if (folder / GRAPH).exists()]
    if existing:
        raise ResultsError(f"{', '.join(existing)}: exists already; give --force to replace it, or another --chip")


def run(checkpoint: Path, config: Path, out: Path, options: Sequence[str] = ()) -> None:
    """Writes the integer graph of a checkpoint and its report into a folder; raises CommandError if that fails.

    The process prints what it measured and wrote. This package imports neither models nor trainers.
    """
    command = [sys.executable, "-m", MODULE, str(checkpoint), "--config", str(config), "--out", str(out), *options]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise CommandError(code, f"{out}: the export of {checkpoint} to integers failed; its reason is above")
