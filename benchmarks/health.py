"""Recall and false alarms of the health rules: `python -m benchmarks.health [TABLE ...] [--json FILE]`.

The rules of `trainers.diagnostics.health` are replayed over the recorded trainings. A net is `dead` if it ends silent
(in the last evaluation, silent layers block all paths to the output), at chance, or not finite. It is `healthy` if it
ends above twice the accuracy that counts as chance. All others are neither.

`recall` is the share of dead nets that the rules end, `wrong` that of healthy nets. `batches` is the median number of
batches until they end a net that is silent from the first batch, `later_batches` that of the other dead nets.

Batches 60, 90, 120 and 150 are checked in a training, but not recorded. Checks at all recorded batches end the same
nets, so these four hardly matter.

`held_out` judges the patience on each table that did not choose it: the shortest one of `PATIENCES` with which the
rules end at most `MAX_WRONG` of the healthy nets of all other tables. Its `wrong` and `recall` are over all tables.
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
from trainers.diagnostics.health import (
    PATIENCE,
    SILENT_RATE,
    Activity,
    Health,
    Routes,
    TrainingFailure,
    first_barrier,
)

HEALTH = "health.jsonl.gz"
"""File of a table with the observations for the health rules, one line per training."""
TABLES = Path(__file__).parent / "tables"
CIFAR10_BATCHES = 390
"""Batches of a CIFAR-10 epoch at batch size 128, for comparison, as an epoch of the tables has few."""
PATIENCES = (50, 60, 70, 80, 90, 100, 110, 120, 130)
"""Batches among which the patience is chosen for `held_out`."""
MAX_WRONG = 0.005
"""Share of the healthy nets that may be ended where the patience is chosen: half of the goal of 1 %."""

Observed = dict[str, Any]
End = Literal["dead", "healthy", "between"]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures of tables, and writes them to a file if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.health", description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE", help="folders (default: benchmarks/tables/*)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args(argv)
    folders = arguments.tables or sorted(path.parent for path in TABLES.glob(f"*/{HEALTH}"))
    nets = {folder.name: read(folder / HEALTH) for folder in folders}
    tables: dict[str, Any] = {name: summarize(found) for name, found in nets.items()}
    figures = {**summarize([net for found in nets.values() for net in found]), "tables": tables}
    if len(nets) > 1:
        figures["held_out"] = held_out(nets)
    write(figures, arguments.json)


def read(path: Path) -> list[Observed]:
    """Returns the observations of each training."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def held_out(nets: Mapping[str, Sequence[Observed]]) -> dict[str, Any]:
    """Returns the patience that all other tables choose for each table, and the figures of the rules with it."""
    counts = {name: [_counts(found, patience) for patience in PATIENCES] for name, found in nets.items()}
    chosen = {name: _choose([counts[other] for other in counts if other != name]) for name in counts}
    judged = {name: counts[name][choice] for name, choice in chosen.items()}
    tables = {name: {"patience": PATIENCES[chosen[name]], **_shares(found)} for name, found in judged.items()}
    return {**_shares(sum(judged.values(), Counter())), "tables": tables}


def _counts(nets: Sequence[Observed], patience: int) -> Counter[str]:
    """Returns how many nets are dead, healthy, and how many of each the rules end."""
    counts: Counter[str] = Counter()
    for net in nets:
        end = end_of(net)
        counts[end] += 1
        counts[f"ended {end}"] += failure_of(net, patience) is not None
    return counts


def _choose(tables: Sequence[Sequence[Counter[str]]]) -> int:
    """Returns the index of the shortest patience that ends few enough healthy nets, or of the longest one."""
    shares = [_shares(sum(counts, Counter()))["wrong"] or 0.0 for counts in zip(*tables, strict=True)]
    return next((i for i, share in enumerate(shares) if share <= MAX_WRONG), len(shares) - 1)


def _shares(counts: Counter[str]) -> dict[str, float | None]:
    return {
        "recall": _share(counts["ended dead"], counts["dead"]),
        "wrong": _share(counts["ended healthy"], counts["healthy"]),
    }


def summarize(nets: Sequence[Observed]) -> dict[str, Any]:
    """Returns the figures of some trainings."""
    ends, failures = [end_of(net) for net in nets], [failure_of(net) for net in nets]
    dead = [(net, failure) for net, end, failure in zip(nets, ends, failures, strict=True) if end == "dead"]
    ended = [(net, failure) for net, failure in dead if failure is not None]
    wrong = [f for end, f in zip(ends, failures, strict=True) if end == "healthy" and f is not None]
    early, later = ([f[1] for net, f in ended if is_silent_at_start(net) == is_early] for is_early in (True, False))
    epoch = statistics.median(net["batches"] for net in nets)
    return {
        "nets": len(nets),
        **Counter(ends),
        "recall": _share(len(ended), len(dead)),
        "wrong": _share(len(wrong), ends.count("healthy")),
        "wrong_classes": Counter(failure_class for failure_class, _ in wrong),
        "silent_from_the_first_batch": len(early),
        "batches": statistics.median(early) if early else None,
        "share_of_epoch": statistics.median(early) / epoch if early else None,
        "share_of_cifar10_epoch": statistics.median(early) / CIFAR10_BATCHES if early else None,
        "later_batches": statistics.median(later) if later else None,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def end_of(net: Observed) -> End:
    """Returns how a training ended, without the rules."""
    if net["diverged"] is not None or net["accuracy"] <= net["chance"] or _barrier(net, net["rates"][-1]):
        return "dead"
    return "healthy" if net["accuracy"] > 2 * net["chance"] else "between"


def failure_of(net: Observed, patience: int = PATIENCE) -> tuple[str, int] | None:
    """Returns the failure class that the rules find, and the batches until then; None if they end nothing."""
    health = Health(_routes(net), patience=patience)
    batches, checks = net["batches"], {check["batch"]: check for check in net["looks"]}
    batch = 0
    try:
        for epoch in range(1, len(net["rates"]) + 2):
            for batch in range((epoch - 1) * batches + 1, epoch * batches + 1):
                if batch in checks and health.is_due(batch, batches):
                    health.check_batch(*_activities_and_gradients(checks[batch]), batch)
            if epoch <= len(net["rates"]):
                rows = [{"name": name, "spike_rate": float(rate)} for name, rate in net["rates"][epoch - 1].items()]
                health.check({}, rows, batch)
    except TrainingFailure as failure:
        return failure.failure_class, batch
    return None if net["diverged"] is None else ("diverged", net["diverged"])


def is_silent_at_start(net: Observed) -> bool:
    """Returns whether silent layers block all paths to the output in the first batch."""
    return bool(_barrier(net, {name: values[0] for name, values in net["looks"][0]["neurons"].items()}))


def _barrier(net: Observed, rates: Mapping[str, float | str]) -> str | None:
    return first_barrier(_routes(net), [name for name, rate in rates.items() if float(rate) < SILENT_RATE])


def _routes(net: Observed) -> Routes:
    return {name: frozenset(sources) for name, sources in net["routes"].items()}


def _activities_and_gradients(check: Mapping[str, Any]) -> tuple[dict[str, Activity], dict[str, float]]:
    activities = {name: Activity(*map(float, values)) for name, values in check["neurons"].items()}
    return activities, {name: float(norm) for name, norm in check["gradients"].items()}


def short(value: float) -> float | str:
    """Returns a number to four digits, or its name if it is not finite."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


if __name__ == "__main__":
    main()
