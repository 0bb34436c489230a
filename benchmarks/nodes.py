"""A search on three nodes, of which one is killed while another one joins: `python -m benchmarks.nodes --json F`.

The nodes are Ray's simulated ones on this machine, each with one CPU and separate processes, which the killed one loses
all at once. Prints a row for each event, and at the end the guarantees.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import results
from benchmarks import report
from tests.support.faulty_trainer import read_log

SPACE = """
study: nodes
base: spikformer/digits
fixed: {{distort: false, embed_dim: 32, batch_size: 32}}
objectives: {{accuracy: maximize, spike_rate: minimize}}
space:
  tau: {{uniform: [1.1, 2.0]}}
  threshold: {{uniform: [0.4, 1.0]}}
  lr: {{log_uniform: [0.005, 0.03]}}
budget: {{trials: {trials}, epochs: {epochs}}}
scheduler: {{name: moasha, grace_epochs: 6, reduction_factor: 2}}
"""
MEMORY_BYTES = 80 * 2**20
"""Object store of a node, the minimum of Ray."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__)
    parser.add_argument("--json", metavar="F", help="write the figures to this file")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument(
        "--storage", action="store_true", help="keep checkpoints in a store instead of the study's folder"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        space = SPACE.format(trials=arguments.trials, epochs=arguments.epochs)
        if arguments.storage:
            space += f"storage: {(folder / 'store').as_uri()}\n"
        (folder / "space.yml").write_text(space)
        rows, holds = run(folder, arguments.trials)
    for row in rows:
        print(f"{row['s']:7.1f} s  {row['what']}")
    for name, is_so in holds.items():
        print(f"{'yes' if is_so else 'NO':>9}  {name.replace('_', ' ')}")
    report.write({"rows": rows, **holds, "machine": report.machine()}, arguments.json)
    return 0 if all(holds.values()) else 1


def run(folder: Path, trials: int) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """Runs the folder's search, kills a node once all have work, adds one; returns the events and the guarantees."""
    from ray.cluster_utils import Cluster

    os.environ["FAULTY_LOG"] = str(folder / "starts.jsonl")  # inherited by the nodes' processes
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=MEMORY_BYTES, include_dashboard=False)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY_BYTES) for _ in range(3)]
    started = time.time()
    rows: list[dict[str, Any]] = []

    def add_row(what: str, at: float | None = None) -> None:
        rows.append({"s": round((at or time.time()) - started, 1), "what": what})

    driver = None
    try:
        add_row("three nodes " + ", ".join(node.node_id[:6] for node in nodes))
        driver = _search(folder, cluster.address)
        _wait(driver, lambda: {e["node"] for e in _starts(folder)} >= {n.node_id for n in nodes})
        _wait(driver, lambda: sum(trial.num_epochs for trial in _trials(folder)) >= 6)
        add_row(f"node {nodes[0].node_id[:6]} is killed, with every process on it")
        kill_tree(nodes[0].all_processes["raylet"][0].process.pid)
        new = cluster.add_node(num_cpus=1, object_store_memory=MEMORY_BYTES)
        add_row(f"node {new.node_id[:6]} joins")
        printed, _ = driver.communicate(timeout=1200)
        add_row(f"the search ends with exit code {driver.returncode}")
        if driver.returncode:
            print(printed)
        replayed = _replay(folder)
        add_row(f"replayed from events.jsonl: {replayed}")
        for start in _starts(folder):
            add_row(f"{start['trial']} starts on {start['node'][:6]} from epoch {start['epoch']}", start["time"])
        rows.sort(key=lambda row: row["s"])
        holds = _holds(folder, trials, nodes[0].node_id, new.node_id)
        return rows, {**holds, "the_replay_decides_the_same": replayed.endswith("all decided as then")}
    finally:
        if driver is not None:
            driver.kill()
        cluster.shutdown()


def _search(folder: Path, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "search.run", str(folder / "space.yml"), "--out", str(folder / "runs")]
    command += ["--address", address, "--insecure-cluster", "--import", "tests.support.faulty_trainer"]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _replay(folder: Path) -> str:
    """Returns the output of `search.replay`, which compares each decision's line byte for byte."""
    command = [sys.executable, "-m", "search.replay", str(folder / "runs" / "nodes")]
    return subprocess.run(command, text=True, capture_output=True, check=False).stdout.strip()


def _holds(folder: Path, trials: int, lost: str, new: str) -> dict[str, bool]:
    """Returns the guarantees after the search, and whether they hold."""
    study = results.load(folder / "runs" / "nodes")
    log = (folder / "runs" / "nodes" / "events.jsonl").read_text().splitlines()
    suggested = Counter(event["trial"] for event in map(json.loads, log) if event["event"] == "ask")
    starts = _starts(folder)
    restarts = [start for i, start in enumerate(starts) if start["trial"] in {s["trial"] for s in starts[:i]}]
    return {
        "every_trial_ended": all(trial.state != "running" for trial in study.trials),
        "each_number_once": suggested == dict.fromkeys(range(trials), 1),
        "no_trial_failed": not study.select("failed"),
        "every_epoch_once": all(
            [epoch["epoch"] for epoch in trial.epochs] == list(range(1, trial.num_epochs + 1)) for trial in study.trials
        ),
        "the_lost_nodes_trial_went_on_elsewhere": any(
            start["node"] != lost and start["epoch"] > 0 for start in restarts
        ),
        "the_new_node_worked": any(start["node"] == new for start in starts),
    }


def _starts(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_log(folder / "starts.jsonl") if event["what"] == "start"]


def _trials(folder: Path) -> tuple[results.TrialResult, ...]:
    return results.load(folder / "runs" / "nodes").trials


def _wait(driver: subprocess.Popen[str], condition: Any, timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if driver.poll() is not None or time.monotonic() > deadline:
            driver.kill()
            raise RuntimeError(f"the search did not get this far: {driver.communicate()[0]}")
        time.sleep(0.5)


def kill_tree(pid: int) -> None:
    """Kills a process and all its descendants."""
    family = [pid, *descendants(pid)]
    for member in family:
        os.kill(member, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    """Yields the processes that a process has started, and those that they have."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            yield int(stat.parent.name)
            yield from descendants(int(stat.parent.name))


if __name__ == "__main__":
    sys.exit(main())
