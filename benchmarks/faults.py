"""Costs of faults during a search: `python -m benchmarks.faults --json F` prints a row for each fault.

A row has the number of faults, the finished trials that were lost or repeated, and the median seconds until training
resumed. It also has the most epochs that a running trial had to repeat, and whether all guarantees held. Trainings take
0.05 s per epoch unless the fault is in the training itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from tests.faults import process_faults as processes
from tests.faults import store_faults as stores
from tests.faults.process_faults import Row, Scenario

Fault = Callable[[Scenario], Row]

FAULTS: dict[str, Fault] = {
    "driver killed": processes.driver_killed,
    "driver killed, one trial at a time": processes.driver_killed_alone,
    "driver killed, real training": processes.driver_killed_real,
    "Ctrl-C": processes.interrupted,
    "Ctrl-C twice": processes.interrupted_twice,
    "SIGTERM": processes.terminated,
    "clock jumps": processes.clock_jumps,
    "second driver": processes.second_driver,
    "trial killed": processes.trial_killed,
    "trial hung": processes.trial_hangs,
    "trial raises": processes.trial_raises,
    "every trial raises": processes.every_trial_raises,
    "trial out of memory": processes.trial_out_of_memory,
    "trial out of memory, ended by Ray": processes.trial_takes_all_memory,
    "trial out of memory twice": processes.trial_out_of_memory_again,
    "trial diverges, real training": processes.trial_diverges,
    "node lost": processes.node_lost,
    "head lost": processes.head_lost,
    "cluster of another Ray version": processes.other_ray,
    **stores.FAULTS,
}
LONG = (
    "trial hung",
    "trial out of memory, ended by Ray",
    "node lost",
    "head lost",
    "driver killed, one trial at a time",
    "trial out of memory twice",
)
"""Faults that `--quick` leaves out."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, without the faults that take minutes")
    parser.add_argument(
        "--only", action="append", choices=FAULTS, metavar="FAULT", help="only this fault; repeat for more"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments at which a driver is killed")
    arguments = parser.parse_args()
    names = arguments.only or [name for name in FAULTS if not (arguments.quick and name in LONG)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        for fault in names:
            started, load = time.monotonic(), os.getloadavg()[0]
            row = FAULTS[fault](Scenario(Path(folder), arguments.quick, random.Random(arguments.seed)))
            rows.append({"fault": fault, **row, "took_s": round(time.monotonic() - started, 1), "load": round(load, 1)})
            print(line(rows[-1]), flush=True)
            if arguments.json is not None:  # after each row, since all take long
                found = {"rows": rows, "seed": arguments.seed, "machine": report.machine()}
                Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(row["holds"] for row in rows) else 1


def line(row: Row) -> str:
    """Returns a row as text."""
    known = ("fault", "times", "lost", "repeated", "recover_s", "max_epochs_lost", "holds", "took_s", "load")
    others = ", ".join(f"{key} {value}" for key, value in row.items() if key not in known)
    recovered = "" if row["recover_s"] is None else f", recovers in {row['recover_s']} s"
    return (
        f"{'ok  ' if row['holds'] else 'FAIL'} {row['fault']:36} {row['times']:3} times, {row['lost']} lost, "
        f"{row['repeated']} repeated{recovered}, {row['max_epochs_lost']} epochs lost at most, {others}"
    )


if __name__ == "__main__":
    sys.exit(main())
