"""Output of benchmark figures: printed, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Returns hardware and versions, without which figures cannot be compared."""
    return {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "spikingjelly")},
    }


def write(figures: dict[str, Any], path: str | None) -> None:
    """Prints the figures, and writes them to a file if `path` is given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if path is not None:
        Path(path).write_text(text + "\n")
