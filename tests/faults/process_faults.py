"""Faults of the processes of a search, for `benchmarks.faults`; each function returns the row of a fault."""

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
from tests.faults.searches import FaultCosts, Search

Row = dict[str, Any]
ONE_AT_A_TIME = {"concurrency": 1}
NO_RUNGS = {"scheduler.name": "none"}


@dataclass(frozen=True)
class Scenario:
    """The folder of a fault's searches, whether faults are rarer, and the random generator of their times."""

    folder: Path
    quick: bool
    rng: random.Random

    def search(self, name: str, **how: Any) -> Search:
        return Search(self.folder / name, **how)


def driver_killed(scenario: Scenario) -> Row:
    """SIGKILL of the driver at random moments of a search of 20 trials, two at a time."""
    return _killed_repeatedly(scenario.search("killed", overrides={"budget.trials": 20}), scenario, 60)


def driver_killed_alone(scenario: Scenario) -> Row:
    """The same with one trial at a time: the result is that of an undisturbed search."""
    overrides = {"budget.trials": 20, **ONE_AT_A_TIME}
    undisturbed = scenario.search("undisturbed", overrides=overrides)
    undisturbed.run()
    search = scenario.search("alone", overrides=overrides)
    row = _killed_repeatedly(search, scenario, len(undisturbed.events("epoch")))
    return {**row, "same_table": (same := search.table() == undisturbed.table()), "holds": row["holds"] and same}


def driver_killed_real(scenario: Scenario) -> Row:
    """The same with real trainings of digits."""
    overrides = {
        "budget.epochs": 3,
        "budget.trials": 5,
        "fixed.batch_size": 128,
        "fixed.val_fraction": 0.4,
        **ONE_AT_A_TIME,
    }
    undisturbed = scenario.search("undisturbed-real", overrides=overrides, real=True)
    undisturbed.run()
    search = scenario.search("real", overrides=overrides, real=True)
    row = _killed_repeatedly(search, scenario, len(undisturbed.events("epoch")), 2 if scenario.quick else 4)
    return {**row, "same_table": (same := search.table() == undisturbed.table()), "holds": row["holds"] and same}


def _killed_repeatedly(search: Search, scenario: Scenario, epochs: int, times: int = 0) -> Row:
    """Kills and restarts the driver at moments spread over all epochs, then lets the search end."""
    costs, recover_s = FaultCosts(search), []
    for epoch in sorted(scenario.rng.choices(range(epochs), k=times or (3 if scenario.quick else 20))):
        search.start()
        before = len(search.events("start"))
        if scenario.rng.random() < 0.2:  # while it starts
            time.sleep(scenario.rng.uniform(0.0, 5.0))
        else:
            search.wait(lambda before=before: len(search.events("start")) > before)  # type: ignore[misc]
            search.wait_for_epochs(epoch)
            time.sleep(scenario.rng.uniform(0.0, 0.5))
        if search.kill():
            costs.record_fault()
        recover_s += [event["time"] - search.started for event in search.events("start")[before : before + 1]]
    code = search.run()
    row = costs.row(recover_s, exit=code, runs_match=costs.runs_match())
    return {**row, "holds": code == 0 and _is_whole(row) and row["runs_match"]}


def _is_whole(row: Row) -> bool:
    """Returns whether no finished trial is lost or repeated, and running ones lost at most the current epoch."""
    return bool(row["lost"] == row["repeated"] == 0 and row["max_epochs_lost"] <= 1)


def interrupted(scenario: Scenario) -> Row:
    """Ctrl-C once."""
    return _ended_by_signals(scenario.search("ctrl-c"), scenario, [signal.SIGINT], 130)


def interrupted_twice(scenario: Scenario) -> Row:
    """Ctrl-C twice, half a second apart."""
    return _ended_by_signals(scenario.search("ctrl-c-twice"), scenario, [signal.SIGINT] * 2, 130)


def terminated(scenario: Scenario) -> Row:
    """SIGTERM, as Slurm sends it."""
    return _ended_by_signals(scenario.search("sigterm"), scenario, [signal.SIGTERM], 143)


def _ended_by_signals(search: Search, scenario: Scenario, signals: list[signal.Signals], code: int) -> Row:
    costs, took_s, codes = FaultCosts(search), [], set()
    for _ in range(1 if scenario.quick else 3):
        search.start()
        before = len(search.events("epoch"))
        search.wait(lambda before=before: len(search.events("epoch")) > before + 1)  # type: ignore[misc]
        sent = time.monotonic()
        for number in signals:
            search.signal(number)
            time.sleep(0.5 if len(signals) > 1 else 0.0)
        codes.add(search.end())
        took_s.append(time.monotonic() - sent)
        costs.record_fault()
    has_command = len(signals) > 1 or "to resume: python -m search.run" in search.output()
    search.run()
    row = costs.row([], exit=code, end_s=round(max(took_s), 2))
    return {**row, "holds": codes == {code} and max(took_s) <= 15 and has_command and _is_whole(row)}


def clock_jumps(scenario: Scenario) -> Row:
    """The clock of driver and trials jumps an hour forward, then two hours back; no decision depends on it."""
    overrides = {"budget.trials": 4, **ONE_AT_A_TIME}
    undisturbed = scenario.search("steady", overrides=overrides)
    undisturbed.run()
    search = scenario.search("jumps", overrides=overrides)
    code, costs = search.run(FAULTY_CLOCK="3600"), FaultCosts(search)
    costs.record_fault()
    times = [event["time"] - search.started for event in search.events("epoch")]
    row = {**costs.row([], exit=code, runs_match=costs.runs_match()), "times": 2}
    jumped = max(times) > 3000 and min(times) < -3000
    same = search.table() == undisturbed.table()
    return {**row, "same_table": same, "holds": code == 0 and jumped and same and _is_whole(row) and row["runs_match"]}


def second_driver(scenario: Scenario) -> Row:
    """A second driver of a running study."""
    search = scenario.search("second")
    search.start()
    search.wait_for_epochs(1)
    second = Search(search.folder)
    process = search.process
    search.output_file.rename(search.folder / "first-output")
    started = time.monotonic()
    code = second.run()
    took_s = time.monotonic() - started
    costs = FaultCosts(search)
    costs.record_fault()
    search.process = process
    row = costs.row([], exit=code, end_s=round(took_s, 2))
    ended = search.end()
    named = f"is being run by process {process.pid}" in second.output() if process else False
    return {**row, "holds": code == cli.LOCKED and ended == 0 and named and took_s <= 2.0}


def trial_killed(scenario: Scenario) -> Row:
    """SIGKILL of a trial's process: it resumes from its checkpoint."""
    search = scenario.search("trial-killed", overrides={"budget.trials": 3, "budget.epochs": 40, **NO_RUNGS})
    costs, recover_s = FaultCosts(search), []
    search.start()
    for times in range(1 if scenario.quick else 3):
        search.wait_for_epochs(8 + 25 * times)
        last = search.events("epoch")[-1]
        costs.record_fault()
        os.kill(last["pid"], signal.SIGKILL)
        recover_s.append(_recovery_s(search, last["trial"], time.time()))
    code = search.end()
    row = costs.row(recover_s, exit=code, runs_match=costs.runs_match())
    return {**row, "holds": code == 0 and _is_whole(row) and max(recover_s) <= 10 and row["runs_match"]}


def _recovery_s(search: Search, trial: str, since: float) -> float:
    """Returns the seconds until the training of a trial restarts."""

    def starts() -> list[float]:
        return [n["time"] for n in search.events("start") if n["trial"] == trial and n["time"] > since]

    search.wait(starts)
    return starts()[0] - since


def trial_hangs(scenario: Scenario) -> Row:
    """A training that hangs: it is killed after two minutes, and retried once."""
    fault = {"kind": "hang", "trial": "t0001", "epoch": 3, "times": 1}
    search = scenario.search("hung", overrides={"budget.trials": 3, **NO_RUNGS}, fault=fault)
    search.start()
    search.wait(lambda: search.events("fault"))
    costs = FaultCosts(search)
    costs.record_fault()
    recover_s = _recovery_s(search, "t0001", search.events("fault")[0]["time"])
    code = search.end()
    row = costs.row([recover_s], exit=code)
    return {**row, "holds": code == 0 and _is_whole(row) and 120 <= recover_s <= 150 and _states(search) == "complete"}


def trial_raises(scenario: Scenario) -> Row:
    """A training that raises: it fails, and the others continue."""
    fault = {"kind": "raise", "trial": "t0001", "epoch": 2, "times": 1}
    return _failing(scenario.search("raises", overrides={"budget.trials": 3, **NO_RUNGS}, fault=fault), 0, "error")


def every_trial_raises(scenario: Scenario) -> Row:
    """Every training raises: after five equal failures the search stops with the reason of the first."""
    fault = {"kind": "raise", "epoch": 1, "times": 99}
    search = scenario.search("all-raise", overrides={"budget.trials": 20, **NO_RUNGS, **ONE_AT_A_TIME}, fault=fault)
    row = _failing(search, cli.NOTHING_SUCCEEDED, "error")
    is_reported = all(
        t in search.output() for t in ("something in the model is wrong", "in fail_if_due", "tau=", "events.jsonl")
    )
    return {**row, "holds": row["holds"] and is_reported and row["times"] == 5}


def trial_out_of_memory(scenario: Scenario) -> Row:
    """A training that runs out of GPU memory: retried once, with a larger share."""
    fault = {"kind": "memory", "trial": "t0001", "epoch": 2, "times": 1}
    search = scenario.search("memory", overrides={"budget.trials": 3, **NO_RUNGS}, fault=fault)
    return _failing(search, 0, None)


def trial_takes_all_memory(scenario: Scenario) -> Row:
    """A training takes the machine's memory until Ray kills its process; memory in use before does not count."""
    fault = {"kind": "gorge", "trial": "t0001", "epoch": 2, "times": 1}
    search = scenario.search("gorge", overrides={"budget.trials": 3, **NO_RUNGS, **ONE_AT_A_TIME}, fault=fault)
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(meminfo[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    row = _failing(search, 0, None, RAY_memory_usage_threshold=f"{(total - free + 2.5) / total:.3f}")
    is_logged = '"kind": "oom"' in (search.study / "events.jsonl").read_text()
    return {**row, "holds": row["holds"] and is_logged}


def trial_out_of_memory_again(scenario: Scenario) -> Row:
    """It runs out of memory a second time."""
    fault = {"kind": "memory", "trial": "t0001", "epoch": 2, "times": 2}
    search = scenario.search("memory-again", overrides={"budget.trials": 3, **NO_RUNGS}, fault=fault)
    return _failing(search, 0, "oom")


def trial_diverges(scenario: Scenario) -> Row:
    """A real training with infinite images, and so an infinite loss."""
    overrides = {"budget.trials": 2, "budget.epochs": 2, "fixed.std": "[1.0e-40]", "fixed.batch_size": 128}
    search = scenario.search("diverges", overrides=overrides, real=True)
    row = _failing(search, cli.NOTHING_SUCCEEDED, "diverged")
    return {**row, "times": 2}


def _failing(search: Search, code: int, failure_class: str | None, **environment: str) -> Row:
    """Runs a search with failing trainings; `failure_class` is that of their trials, None for complete ones."""
    ended, costs = search.run(**environment), FaultCosts(search)
    found, faulty = search.result(), {event["trial"] for event in search.events("fault")}
    classes = {t.failure_class for t in (found.trials if found else ()) if not faulty or t.key in faulty}
    row = costs.row([], exit=ended)
    row["times"] = len(search.events("fault"))
    return {**row, "holds": ended == code and classes == {failure_class} and "Traceback" not in search.output()}


def _states(search: Search) -> str:
    found = search.result()
    return ", ".join(sorted({trial.state for trial in found.trials})) if found else ""


def node_lost(scenario: Scenario) -> Row:
    """One of two nodes killed: its trials resume on the other."""
    from ray.cluster_utils import Cluster

    search = scenario.search("node-lost", overrides={"budget.trials": 4, "budget.epochs": 60, **NO_RUNGS})
    search.folder.mkdir(parents=True)
    with patch.dict(os.environ, search.environment_variables()):  # inherited by the nodes' processes
        cluster = Cluster()
        cluster.add_node(num_cpus=0, object_store_memory=nodes.MEMORY_BYTES, include_dashboard=False)
        two = [cluster.add_node(num_cpus=2, object_store_memory=nodes.MEMORY_BYTES) for _ in range(2)]
    try:
        search.options = ("--address", cluster.address, "--insecure-cluster")
        search.start()
        search.wait_for_epochs(20)
        nodes_of = {event["trial"]: event["node"] for event in search.events("start")}
        last_node = nodes_of[search.events("epoch")[-1]["trial"]]
        costs, lost = FaultCosts(search), time.time()
        nodes.kill_tree(next(n for n in two if n.node_id == last_node).all_processes["raylet"][0].process.pid)
        costs.record_fault()
        running = [trial for trial in costs.faults[0][0] if nodes_of[trial] == last_node]
        recover_s = [_recovery_s(search, trial, lost) for trial in running]
        code = search.end()
    finally:
        search.kill()
        cluster.shutdown()
    row = costs.row(recover_s, exit=code)
    return {**row, "holds": code == 0 and bool(running) and _is_whole(row) and max(recover_s) <= 60}


def other_ray(scenario: Scenario) -> Row:
    """A cluster of another Ray version: the search ends before its first trial and names both versions."""
    from ray.cluster_utils import Cluster

    search = scenario.search("other-ray", overrides={"budget.trials": 1})
    search.folder.mkdir(parents=True)
    with patch.dict(os.environ, search.environment_variables()):
        cluster = Cluster()
        cluster.add_node(num_cpus=2, object_store_memory=nodes.MEMORY_BYTES, include_dashboard=False)
    try:
        search.options = ("--address", cluster.address, "--insecure-cluster")
        code = search.run(FAULTY_RAY="2.0.0")
        output = search.output()
        ended = search.run()
    finally:
        cluster.shutdown()
    row = {**FaultCosts(search).row([], exit=code), "times": 1}
    is_reported = "2.0.0" in output and version("ray") in output and "Traceback" not in output
    return {**row, "holds": code == cli.ENVIRONMENT and is_reported and ended == 0}


def head_lost(scenario: Scenario) -> Row:
    """The head process of a local Ray killed."""
    search = scenario.search("head-lost", overrides={"budget.trials": 20, **NO_RUNGS})
    search.start()
    search.wait_for_epochs(5)
    assert search.process is not None
    below = nodes.descendants(search.process.pid)
    [head] = [pid for pid in below if Path(f"/proc/{pid}/comm").read_text() == "gcs_server\n"]
    lost = time.monotonic()
    os.kill(head, signal.SIGKILL)
    code = search.end()
    took_s = time.monotonic() - lost
    has_command = "To resume: python -m search.run" in search.output()
    costs = FaultCosts(search)
    costs.record_fault()
    restarted = time.time()
    ended = search.run()
    row = costs.row([search.events("start")[-1]["time"] - restarted], exit=code, end_s=round(took_s, 1))
    holds = code == cli.ENVIRONMENT and took_s <= 90 and has_command and ended == 0 and _is_whole(row)
    return {**row, "holds": holds}
