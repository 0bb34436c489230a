"""What may happen to the processes of a search, for `benchmarks.faults`; each function returns the row of a fault."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import nodes
from config import cli
from tests.faults.searches import Search, Toll

Row = dict[str, Any]
ALONE = {"concurrency": 1}
FULL = {"scheduler.name": "none"}


@dataclass(frozen=True)
class Bench:
    """Where faults happen, how often, and the dice for when."""

    folder: Path
    quick: bool
    dice: random.Random

    def search(self, name: str, **how: Any) -> Search:
        return Search(self.folder / name, **how)


def driver_killed(bench: Bench) -> Row:
    """SIGKILL of the driver at random moments of a search of 20 trials, two at a time."""
    return _killed_again_and_again(bench.search("killed", overrides={"budget.trials": 20}), bench, 60)


def driver_killed_alone(bench: Bench) -> Row:
    """The same with one trial at a time: what comes out is what an undisturbed search gives."""
    overrides = {"budget.trials": 20, **ALONE}
    undisturbed = bench.search("undisturbed", overrides=overrides)
    undisturbed.run()
    search = bench.search("alone", overrides=overrides)
    row = _killed_again_and_again(search, bench, len(undisturbed.notes("epoch")))
    return {**row, "same_table": (same := search.table() == undisturbed.table()), "holds": row["holds"] and same}


def driver_killed_real(bench: Bench) -> Row:
    """The same with real trainings of digits."""
    overrides = {"budget.epochs": 3, "budget.trials": 5, "fixed.batch_size": 128, "fixed.val_fraction": 0.4, **ALONE}
    undisturbed = bench.search("undisturbed-real", overrides=overrides, real=True)
    undisturbed.run()
    search = bench.search("real", overrides=overrides, real=True)
    row = _killed_again_and_again(search, bench, len(undisturbed.notes("epoch")), 2 if bench.quick else 4)
    return {**row, "same_table": (same := search.table() == undisturbed.table()), "holds": row["holds"] and same}


def _killed_again_and_again(search: Search, bench: Bench, epochs: int, times: int = 0) -> Row:
    """Kills the driver of a search and starts it again, at moments spread over all its epochs, then lets it end."""
    toll, recover_s = Toll(search), []
    for epoch in sorted(bench.dice.choices(range(epochs), k=times or (3 if bench.quick else 20))):
        search.start()
        before = len(search.notes("start"))
        if bench.dice.random() < 0.2:  # while it starts
            time.sleep(bench.dice.uniform(0.0, 5.0))
        else:
            search.wait(lambda before=before: len(search.notes("start")) > before)  # type: ignore[misc]
            search.wait_for_epochs(epoch)
            time.sleep(bench.dice.uniform(0.0, 0.5))
        if search.kill():
            toll.note()
        recover_s += [note["time"] - search.started for note in search.notes("start")[before : before + 1]]
    code = search.run()
    row = toll.row(recover_s, exit=code, runs_match=toll.runs_match())
    return {**row, "holds": code == 0 and _is_whole(row) and row["runs_match"]}


def _is_whole(row: Row) -> bool:
    """Returns whether nothing that was finished is lost or repeated, and of what ran no more than the epoch begun."""
    return bool(row["lost"] == row["repeated"] == 0 and row["max_epochs_lost"] <= 1)


def interrupted(bench: Bench) -> Row:
    """Ctrl-C once."""
    return _told_to_end(bench.search("ctrl-c"), bench, [signal.SIGINT], 130)


def interrupted_twice(bench: Bench) -> Row:
    """Ctrl-C, and again half a second later."""
    return _told_to_end(bench.search("ctrl-c-twice"), bench, [signal.SIGINT] * 2, 130)


def terminated(bench: Bench) -> Row:
    """SIGTERM, as Slurm gives it."""
    return _told_to_end(bench.search("sigterm"), bench, [signal.SIGTERM], 143)


def _told_to_end(search: Search, bench: Bench, signals: list[signal.Signals], code: int) -> Row:
    toll, took_s, codes = Toll(search), [], set()
    for _ in range(1 if bench.quick else 3):
        search.start()
        before = len(search.notes("epoch"))
        search.wait(lambda before=before: len(search.notes("epoch")) > before + 1)  # type: ignore[misc]
        asked = time.monotonic()
        for number in signals:
            search.signal(number)
            time.sleep(0.5 if len(signals) > 1 else 0.0)
        codes.add(search.end())
        took_s.append(time.monotonic() - asked)
        toll.note()
    says_how = len(signals) > 1 or "to go on: python -m search.run" in search.said()
    search.run()
    row = toll.row([], exit=code, end_s=round(max(took_s), 2))
    return {**row, "holds": codes == {code} and max(took_s) <= 15 and says_how and _is_whole(row)}


def clock_jumps(bench: Bench) -> Row:
    """The clock of driver and trials goes an hour ahead, then two hours back: nothing is decided by it."""
    overrides = {"budget.trials": 4, **ALONE}
    undisturbed = bench.search("steady", overrides=overrides)
    undisturbed.run()
    search = bench.search("jumps", overrides=overrides)
    code, toll = search.run(FAULTY_CLOCK="3600"), Toll(search)
    toll.note()
    noted = [note["time"] - search.started for note in search.notes("epoch")]
    row = {**toll.row([], exit=code, runs_match=toll.runs_match()), "times": 2}
    jumped = max(noted) > 3000 and min(noted) < -3000
    same = search.table() == undisturbed.table()
    return {**row, "same_table": same, "holds": code == 0 and jumped and same and _is_whole(row) and row["runs_match"]}


def second_driver(bench: Bench) -> Row:
    """A second driver on a study that runs."""
    search = bench.search("second")
    search.start()
    search.wait_for_epochs(1)
    second = Search(search.folder)
    said, process = search.folder / "said", search.process
    said.rename(search.folder / "said-first")
    started = time.monotonic()
    code = second.run()
    took_s = time.monotonic() - started
    toll = Toll(search)
    toll.note()
    search.process = process
    row = toll.row([], exit=code, end_s=round(took_s, 2))
    ended = search.end()
    named = f"is being run by process {process.pid}" in second.said() if process else False
    return {**row, "holds": code == cli.LOCKED and ended == 0 and named and took_s <= 2.0}


def trial_killed(bench: Bench) -> Row:
    """SIGKILL of a trial's process: back in training from its checkpoint."""
    search = bench.search("trial-killed", overrides={"budget.trials": 3, "budget.epochs": 40, **FULL})
    toll, recover_s = Toll(search), []
    search.start()
    for times in range(1 if bench.quick else 3):
        search.wait_for_epochs(8 + 25 * times)
        last = search.notes("epoch")[-1]
        toll.note()
        os.kill(last["pid"], signal.SIGKILL)
        recover_s.append(_back_s(search, last["trial"], time.time()))
    code = search.end()
    row = toll.row(recover_s, exit=code, runs_match=toll.runs_match())
    return {**row, "holds": code == 0 and _is_whole(row) and max(recover_s) <= 10 and row["runs_match"]}


def _back_s(search: Search, trial: str, since: float) -> float:
    """Returns the seconds until a trial is trained again: until its training starts."""

    def starts() -> list[float]:
        return [n["time"] for n in search.notes("start") if n["trial"] == trial and n["time"] > since]

    search.wait(starts)
    return starts()[0] - since


def trial_hangs(bench: Bench) -> Row:
    """A training that stands still: it is ended after two minutes, and tried once more."""
    fault = {"kind": "hang", "trial": "t0001", "epoch": 3, "times": 1}
    search = bench.search("hung", overrides={"budget.trials": 3, **FULL}, fault=fault)
    search.start()
    search.wait(lambda: search.notes("fault"))
    toll = Toll(search)
    toll.note()
    recover_s = _back_s(search, "t0001", search.notes("fault")[0]["time"])
    code = search.end()
    row = toll.row([recover_s], exit=code)
    return {**row, "holds": code == 0 and _is_whole(row) and 120 <= recover_s <= 150 and _states(search) == "complete"}


def trial_raises(bench: Bench) -> Row:
    """A training that raises: it has failed, and the others go on."""
    fault = {"kind": "raise", "trial": "t0001", "epoch": 2, "times": 1}
    return _failing(bench.search("raises", overrides={"budget.trials": 3, **FULL}, fault=fault), 0, "error")


def every_trial_raises(bench: Bench) -> Row:
    """Every training raises: after five alike the search says what the first one said."""
    fault = {"kind": "raise", "epoch": 1, "times": 99}
    search = bench.search("all-raise", overrides={"budget.trials": 20, **FULL, **ALONE}, fault=fault)
    row = _failing(search, cli.NOTHING_SUCCEEDED, "error")
    told = all(t in search.said() for t in ("something in the model is wrong", "in strike", "tau=", "events.jsonl"))
    return {**row, "holds": row["holds"] and told and row["times"] == 5}


def trial_out_of_memory(bench: Bench) -> Row:
    """A training that runs out of the card's memory: tried once more, with a bigger share."""
    fault = {"kind": "memory", "trial": "t0001", "epoch": 2, "times": 1}
    search = bench.search("memory", overrides={"budget.trials": 3, **FULL}, fault=fault)
    return _failing(search, 0, None)


def trial_takes_all_memory(bench: Bench) -> Row:
    """A training takes the machine's memory, until Ray ends its process; what was taken before is not its fault."""
    fault = {"kind": "gorge", "trial": "t0001", "epoch": 2, "times": 1}
    search = bench.search("gorge", overrides={"budget.trials": 3, **FULL, **ALONE}, fault=fault)
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(facts[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    row = _failing(search, 0, None, RAY_memory_usage_threshold=f"{(total - free + 2.5) / total:.3f}")
    noticed = '"kind": "oom"' in (search.study / "events.jsonl").read_text()
    return {**row, "holds": row["holds"] and noticed}


def trial_out_of_memory_again(bench: Bench) -> Row:
    """It runs out of memory again."""
    fault = {"kind": "memory", "trial": "t0001", "epoch": 2, "times": 2}
    search = bench.search("memory-again", overrides={"budget.trials": 3, **FULL}, fault=fault)
    return _failing(search, 0, "oom")


def trial_diverges(bench: Bench) -> Row:
    """A real training whose images are infinite, and so its loss."""
    overrides = {"budget.trials": 2, "budget.epochs": 2, "fixed.std": "[1.0e-40]", "fixed.batch_size": 128}
    search = bench.search("diverges", overrides=overrides, real=True)
    row = _failing(search, cli.NOTHING_SUCCEEDED, "diverged")
    return {**row, "times": 2}


def _failing(search: Search, code: int, kind: str | None, **environment: str) -> Row:
    """Runs a search whose trainings fail by themselves; `kind` is what their trials are then, None for complete."""
    ended, toll = search.run(**environment), Toll(search)
    found, struck = search.result(), {note["trial"] for note in search.notes("fault")}
    kinds = {t.failure_class for t in (found.trials if found else ()) if not struck or t.key in struck}
    row = toll.row([], exit=ended)
    row["times"] = len(search.notes("fault"))
    return {**row, "holds": ended == code and kinds == {kind} and "Traceback" not in search.said()}


def _states(search: Search) -> str:
    found = search.result()
    return ", ".join(sorted({trial.state for trial in found.trials})) if found else ""


def node_lost(bench: Bench) -> Row:
    """One of two nodes killed: its trials go on on the other."""
    from ray.cluster_utils import Cluster

    search = bench.search("node-lost", overrides={"budget.trials": 4, "budget.epochs": 60, **FULL})
    search.folder.mkdir(parents=True)
    with patch.dict(os.environ, search.variables()):  # which the nodes' processes inherit
        cluster = Cluster()
        cluster.add_node(num_cpus=0, object_store_memory=nodes.MEMORY_BYTES, include_dashboard=False)
        two = [cluster.add_node(num_cpus=2, object_store_memory=nodes.MEMORY_BYTES) for _ in range(2)]
    try:
        search.options = ("--address", cluster.address, "--insecure-cluster")
        search.start()
        search.wait_for_epochs(20)
        places = {note["trial"]: note["node"] for note in search.notes("start")}
        of_last = places[search.notes("epoch")[-1]["trial"]]
        toll, lost = Toll(search), time.time()
        nodes.kill_family(next(n for n in two if n.node_id == of_last).all_processes["raylet"][0].process.pid)
        toll.note()
        running = [trial for trial in toll.struck[0][0] if places[trial] == of_last]
        recover_s = [_back_s(search, trial, lost) for trial in running]
        code = search.end()
    finally:
        search.kill()
        cluster.shutdown()
    row = toll.row(recover_s, exit=code)
    return {**row, "holds": code == 0 and bool(running) and _is_whole(row) and max(recover_s) <= 60}


def other_ray(bench: Bench) -> Row:
    """A cluster of another Ray version: the search ends before its first trial, and says which versions differ."""
    from ray.cluster_utils import Cluster

    search = bench.search("other-ray", overrides={"budget.trials": 1})
    search.folder.mkdir(parents=True)
    with patch.dict(os.environ, search.variables()):
        cluster = Cluster()
        cluster.add_node(num_cpus=2, object_store_memory=nodes.MEMORY_BYTES, include_dashboard=False)
    try:
        search.options = ("--address", cluster.address, "--insecure-cluster")
        code = search.run(FAULTY_RAY="2.0.0")
        said = search.said()
        ended = search.run()
    finally:
        cluster.shutdown()
    row = {**Toll(search).row([], exit=code), "times": 1}
    told = "2.0.0" in said and version("ray") in said and "Traceback" not in said
    return {**row, "holds": code == cli.ENVIRONMENT and told and ended == 0}


def head_lost(bench: Bench) -> Row:
    """The cluster's head killed under a driver with a Ray of its own."""
    search = bench.search("head-lost", overrides={"budget.trials": 20, **FULL})
    search.start()
    search.wait_for_epochs(5)
    assert search.process is not None
    below = nodes.descendants(search.process.pid)
    [head] = [pid for pid in below if Path(f"/proc/{pid}/comm").read_text() == "gcs_server\n"]
    lost = time.monotonic()
    os.kill(head, signal.SIGKILL)
    code = search.end()
    took_s = time.monotonic() - lost
    says_how = "To go on: python -m search.run" in search.said()
    toll = Toll(search)
    toll.note()
    again = time.time()
    ended = search.run()
    row = toll.row([search.notes("start")[-1]["time"] - again], exit=code, end_s=round(took_s, 1))
    holds = code == cli.ENVIRONMENT and took_s <= 90 and says_how and ended == 0 and _is_whole(row)
    return {**row, "holds": holds}
