"""How well the health rules tell dead nets: `python -m benchmarks.health [TABLE ...] [--json FILE]`.

The rules of `trainers.diagnostics.health` are replayed over what the recorded trainings did. A net counts as `dead`
when it ends silent (the last evaluation finds no way to the output that avoids silent layers), at chance, or not
finite; as `healthy` when it ends above twice the accuracy that counts as chance; what is in between counts as neither.

`recall` is the share of dead nets that the rules end, `wrong` that of healthy nets. `batches` is the median that a net
which is silent from the first batch on is trained until then, `later_batches` that of the other dead nets.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import write
from trainers.diagnostics.health import SILENT_RATE, Activity, Health, Routes, TrainingFailure, first_barrier

HEALTH = "health.jsonl.gz"
"""The file of a table: what each training's health is judged by, a line a training."""
TABLES = Path(__file__).parent / "tables"
CIFAR10_BATCHES = 390
"""Batches of a CIFAR-10 epoch at batch size 128, for comparison: an epoch of the tables has few."""

Seen = dict[str, Any]
End = Literal["dead", "healthy", "between"]


def main(argv: Sequence[str] | None = None) -> None:
    """Replays the rules over the tables, prints the figures and writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.health", description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE", help="folders (default: benchmarks/tables/*)")
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args(argv)
    folders = arguments.tables or sorted(path.parent for path in TABLES.glob(f"*/{HEALTH}"))
    nets = {folder.name: read(folder / HEALTH) for folder in folders}
    everything = [one for found in nets.values() for one in found]
    write({**judge(everything), "tables": {name: judge(found) for name, found in nets.items()}}, arguments.json)


def read(path: Path) -> list[Seen]:
    """Returns what was seen of each training."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def judge(nets: Sequence[Seen]) -> dict[str, Any]:
    """Returns the figures over some trainings."""
    ends, failures = [end_of(one) for one in nets], [failure_of(one) for one in nets]
    dead = [(one, failure) for one, end, failure in zip(nets, ends, failures, strict=True) if end == "dead"]
    ended = [(one, failure) for one, failure in dead if failure is not None]
    wrong = [f for end, f in zip(ends, failures, strict=True) if end == "healthy" and f is not None]
    born, later = ([f[1] for one, f in ended if is_born_silent(one) == born] for born in (True, False))
    epoch = statistics.median(one["batches"] for one in nets)
    return {
        "nets": len(nets),
        **Counter(ends),
        "recall": _share(len(ended), len(dead)),
        "wrong": _share(len(wrong), ends.count("healthy")),
        "wrong_classes": Counter(kind for kind, _ in wrong),
        "silent_from_the_first_batch": len(born),
        "batches": statistics.median(born) if born else None,
        "share_of_epoch": statistics.median(born) / epoch if born else None,
        "share_of_cifar10_epoch": statistics.median(born) / CIFAR10_BATCHES if born else None,
        "later_batches": statistics.median(later) if later else None,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def end_of(seen: Seen) -> End:
    """Returns how a training ended, were it let go on."""
    if seen["diverged"] is not None or seen["accuracy"] <= seen["chance"]:
        return "dead"
    if _barrier(seen, seen["rates"][-1]):
        return "dead"
    return "healthy" if seen["accuracy"] > 2 * seen["chance"] else "between"


def failure_of(seen: Seen) -> tuple[str, int] | None:
    """Returns the class that the rules find, and the batches trained until then, or None where they let a net go on."""
    health = Health(_routes(seen))
    batches, looks = seen["batches"], {look["batch"]: look for look in seen["looks"]}
    batch = 0
    try:
        for epoch in range(1, len(seen["rates"]) + 2):
            for batch in range((epoch - 1) * batches + 1, epoch * batches + 1):
                if batch in looks and health.is_due(batch, batches):
                    health.check_batch(*_look(looks[batch]))
            if epoch <= len(seen["rates"]):
                rows = [{"name": name, "spike_rate": float(rate)} for name, rate in seen["rates"][epoch - 1].items()]
                health.check({}, rows, health.is_judged(epoch, batches))
    except TrainingFailure as failure:
        return failure.kind, batch
    return None if seen["diverged"] is None else ("diverged", seen["diverged"])


def is_born_silent(seen: Seen) -> bool:
    """Returns whether the first batch finds no way to the output that avoids silent layers."""
    return bool(_barrier(seen, {name: values[0] for name, values in seen["looks"][0]["neurons"].items()}))


def _barrier(seen: Seen, rates: Mapping[str, float | str]) -> str | None:
    return first_barrier(_routes(seen), [name for name, rate in rates.items() if float(rate) < SILENT_RATE])


def _routes(seen: Seen) -> Routes:
    return {name: frozenset(sources) for name, sources in seen["routes"].items()}


def _look(look: Mapping[str, Any]) -> tuple[dict[str, Activity], dict[str, float]]:
    activities = {name: Activity(*map(float, values)) for name, values in look["neurons"].items()}
    return activities, {name: float(norm) for name, norm in look["gradients"].items()}


def short(value: float) -> float | str:
    """Returns a number to four digits, or its name where JSON has none."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


if __name__ == "__main__":
    main()
