"""Faults of disks, databases and files of a search, for `benchmarks.faults`; each function returns its row."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import tracking
from config import cli
from tests.faults.process_faults import NO_RUNGS, ONE_AT_A_TIME, Row, Scenario
from tests.faults.searches import FaultCosts, Search
from tests.support.mlflow_proxies import FaultyProxy, Mode, serve
from trainers import checkpoint

FEW_TRIALS = {"budget.trials": 4, **NO_RUNGS}


def mlflow_down(scenario: Scenario) -> Row:
    """No MLflow from the start: the search ends as usual, and `search.sync` uploads everything once."""
    search = scenario.search("mlflow-down", overrides={**FEW_TRIALS, "tracking_uri": "http://127.0.0.1:9"})
    code = search.run()
    is_reported = "MLflow cannot be written" in search.output() and "python -m search.sync" in search.output()
    row = _delivered(scenario, search, code)
    cost = tracking.measure(4, 15, 1 if scenario.quick else 3)["down_share"]
    return {**row, "slower_share": round(cost, 4), "holds": row["holds"] and is_reported and cost <= 0.01}


def mlflow_dies(scenario: Scenario) -> Row:
    """MLflow stops midway, and is available again for `search.sync`."""
    return _with_proxy(scenario, "mlflow-dies", "well", dies_after=25)


def mlflow_answers_500(scenario: Scenario) -> Row:
    """MLflow answers every request with an error."""
    return _with_proxy(scenario, "mlflow-500", "error")


def mlflow_slow(scenario: Scenario) -> Row:
    """MLflow takes a second for each answer."""
    return _with_proxy(scenario, "mlflow-slow", "slow")


def _with_proxy(scenario: Scenario, name: str, mode: Mode, dies_after: int | None = None) -> Row:
    search = scenario.search(name)
    search.folder.mkdir()
    with serve(search.folder) as server:
        proxy = FaultyProxy(server.port, pause_s=1.0)
        proxy.mode, proxy.dies_after = mode, dies_after
        search.overrides = {**FEW_TRIALS, "tracking_uri": proxy.uri}
        code = search.run()
        proxy.mode = "well"
        proxy.start()
        row = _delivered(scenario, search, code, proxy.uri, server.store)
        proxy.close()
    return row


def _delivered(scenario: Scenario, search: Search, code: int, uri: str | None = None, store: Path | None = None) -> Row:
    """Returns the row of a search with MLflow faults, after `search.sync` has run twice."""
    store = store or search.store
    more = ["--tracking-uri", uri or f"sqlite:///{store}"]
    synced = [_command("search.sync", search.study, *more) for _ in range(2)]
    costs = FaultCosts(search)
    row = {**costs.row([], exit=code, runs_match=costs.runs_match(store)), "times": 1}
    ended = code == 0 and [done.returncode for done in synced] == [0, 0]
    return {**row, "holds": ended and row["runs_match"] and "nothing was missing" in synced[1].stdout}


def _command(module: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], text=True, capture_output=True, check=False
    )


@contextmanager
def small_disk(folder: Path, mib: float) -> Iterator[None]:
    """Makes a folder a separate small disk; needs the right to mount."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(mib * 1024)}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(folder: Path, leave_kib: int) -> Path:
    """Fills a disk except for some KiB."""
    path = folder / "filler"
    with path.open("wb") as file:
        file.write(b"0" * max(0, shutil.disk_usage(folder).free - leave_kib * 1024))
    return path


def disk_full_for_checkpoints(scenario: Scenario) -> Row:
    """The disk of the checkpoints fills up: the search ends with the reason, and resumes when there is space."""
    search = scenario.search("disk-checkpoints", overrides=FEW_TRIALS)
    return _disk_full(search, search.study / "checkpoints", 8, 8)


def disk_full_for_study(scenario: Scenario) -> Row:
    """The disk of the study's database fills up."""
    search = scenario.search(
        "disk-study", overrides={**FEW_TRIALS, "tracking_uri": f"sqlite:///{scenario.folder}/disk-study.db"}
    )
    return _disk_full(search, search.study, 24, 100, scenario.folder / "disk-study.db")


def _disk_full(search: Search, folder: Path, mib: float, leave_kib: int, store: Path | None = None) -> Row:
    with small_disk(folder, mib):
        search.start()
        search.wait_for_epochs(12)
        filler = _fill(folder, leave_kib)
        code, costs = search.end(), FaultCosts(search)
        output = search.output()
        costs.record_fault()
        filler.unlink()
        restarted = time.time()
        ended = search.run()
        row = costs.row([search.events("start")[-1]["time"] - restarted], exit=code, runs_match=costs.runs_match(store))
    is_reported = "full" in output or "No space left" in output
    holds = (
        code == cli.ENVIRONMENT
        and ended == 0
        and is_reported
        and "Traceback" not in output
        and "To resume" in output.split("lost")[-1]
    )
    return {**row, "holds": holds and row["lost"] == row["repeated"] == 0}


def disk_full_for_mlflow(scenario: Scenario) -> Row:
    """The disk of MLflow's store fills up: the search ends as usual, and `search.sync` uploads once there is space."""
    disk = scenario.folder / "mlflow-disk"
    with small_disk(disk, 8):
        store = disk / "mlflow.db"
        search = scenario.search("disk-mlflow", overrides={**FEW_TRIALS, "tracking_uri": f"sqlite:///{store}"})
        search.start()
        search.wait_for_epochs(12)
        filler = _fill(disk, 0)
        code, output = search.end(), search.output()
        filler.unlink()
        row = _delivered(scenario, search, code, f"sqlite:///{store}", store)
    return {**row, "holds": row["holds"] and "MLflow cannot be written" in output}


def study_locked(scenario: Scenario) -> Row:
    """Another program holds the study's database for ten seconds."""
    search = scenario.search("locked", overrides=FEW_TRIALS)
    search.start()
    search.wait_for_epochs(10)
    with closing(sqlite3.connect(search.study / "study.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        costs, locked = FaultCosts(search), time.time()
        time.sleep(10.0)
        other.execute("rollback")
    costs.faults.append((set(), len(search.events("epoch"))))
    code = search.end()
    late = [event["time"] for event in search.events("epoch") if event["time"] > locked + 10]
    row = costs.row([late[0] - locked - 10] if late else [], exit=code, runs_match=costs.runs_match())
    return {**row, "holds": code == 0 and row["lost"] == row["repeated"] == 0 and row["runs_match"]}


def study_cut(scenario: Scenario) -> Row:
    """The study's database cut to half: refused in one sentence, and not changed."""

    def cut(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    return _damaged(scenario.search("cut", overrides={**FEW_TRIALS, "budget.trials": 2}), cut)


def study_overwritten(scenario: Scenario) -> Row:
    """The study's database overwritten with random bytes."""

    def overwrite(path: Path) -> None:
        path.write_bytes(random.Random(0).randbytes(path.stat().st_size))

    return _damaged(scenario.search("overwritten", overrides={**FEW_TRIALS, "budget.trials": 2}), overwrite)


def _damaged(search: Search, damage: Callable[[Path], None]) -> Row:
    search.run()
    costs, path = FaultCosts(search), search.study / "study.db"
    costs.record_fault()
    intact = path.read_bytes()
    damage(path)
    damaged = path.read_bytes()
    code, output = search.run(), search.output()
    is_unchanged = path.read_bytes() == damaged
    path.write_bytes(intact)
    row = costs.row([], exit=code)
    holds = code == cli.USER and str(path) in output and "Traceback" not in output and is_unchanged
    return {**row, "holds": holds and search.run() == 0 and row["lost"] == row["repeated"] == 0}


def checkpoint_damaged(scenario: Scenario) -> Row:
    """A flipped bit in the newest checkpoint of a trial whose driver was killed: it resumes from the one before."""
    search = scenario.search(
        "checkpoint", overrides={"budget.trials": 2, "budget.epochs": 20, **NO_RUNGS, **ONE_AT_A_TIME}
    )
    search.start()
    search.wait_for_epochs(8)
    search.kill()
    costs = FaultCosts(search)
    costs.record_fault()
    newest = checkpoint.generations(search.study / "checkpoints" / "t0000")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    restarted, before = time.time(), len(search.events("start"))
    code = search.run()
    first = search.events("start")[before]
    row = costs.row([first["time"] - restarted], exit=code)
    epochs = [event["epoch"] for event in search.events("epoch") if event["trial"] == "t0000"]
    redone = len(epochs) - len(set(epochs))
    row["max_epochs_lost"] += redone  # the log of the start names the damaged checkpoint
    return {**row, "holds": code == 0 and row["lost"] == row["repeated"] == 0 and row["max_epochs_lost"] <= 2}


def data_gone(scenario: Scenario) -> Row:
    """The data set vanishes while real trainings read it: the search ends with the reason, and resumes later."""
    from PIL import Image

    search, images = scenario.search("data"), scenario.folder / "images"
    rng = random.Random(0)
    for part, count in (("train", 40), ("val", 8)):
        for name in ("cats", "dogs"):
            (images / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.frombytes("RGB", (32, 32), rng.randbytes(32 * 32 * 3))
                image.save(images / part / name / f"{number}.png")
    search.real = True
    space = {"base": "spikformer/cifar10", "fixed.dataset": "imagefolder", "fixed.data_dir": images}
    small: dict[str, Any] = {
        "fixed.embed_dim": 16,
        "fixed.depths": 1,
        "fixed.num_heads": 2,
        "fixed.num_classes": 2,
        "fixed.step": 1,
    }
    small |= {"fixed.batch_size": 16, "fixed.workers": 0, "fixed.mixup": 0, "fixed.cutmix": 0, "fixed.aa": "null"}
    search.overrides = {**space, **small, "budget.epochs": 6, "budget.trials": 2, "constraints": "{}", **NO_RUNGS}
    search.start()
    search.wait_for_epochs(3)
    images.rename(scenario.folder / "elsewhere")
    code, output, costs = search.end(), search.output(), FaultCosts(search)
    costs.record_fault()
    without = search.run()
    (scenario.folder / "elsewhere").rename(images)
    restarted = time.time()
    ended = search.run()
    row = costs.row([search.events("start")[-1]["time"] - restarted], exit=code)
    holds = code == without == cli.ENVIRONMENT and ended in (0, 3) and str(images) in output
    return {**row, "holds": holds and "Traceback" not in output and row["lost"] == row["repeated"] == 0}


def space_edited(scenario: Scenario) -> Row:
    """Resumed with another space file: allowed changes take effect, all others are refused with the difference."""
    search = scenario.search("edited", overrides={**FEW_TRIALS, "budget.trials": 2})
    search.run()
    costs = FaultCosts(search)
    refused = {
        "space.tau": "{uniform: [1.2, 3.0]}",
        "objectives": "{accuracy: maximize}",
        "seed": 1,
        "budget.epochs": 8,
    }
    allowed = {"budget.trials": 3, "concurrency": 1, "tracking_uri": f"sqlite:///{scenario.folder}/other.db"}
    usual, codes = search.overrides, []
    for key, value in refused.items():
        search.overrides = {**usual, key: value}
        codes.append(search.run())
        assert search.output().count(" -> ") == 1, search.output()
        costs.record_fault()
    search.overrides = {**usual, **allowed}
    code = search.run()
    row = costs.row([], exit=code)
    return {**row, "holds": set(codes) == {2} and code == 0 and row["lost"] == row["repeated"] == 0}


def too_much_asked(scenario: Scenario) -> Row:
    """A trial asks for more than any machine has."""
    search = scenario.search("greedy", overrides={**FEW_TRIALS, "resources": "{cpu: 1024}"})
    code, costs = search.run(), FaultCosts(search)
    is_reported = "a trial asks for 1024 CPU" in search.output() and "Traceback" not in search.output()
    ended = scenario.search("greedy", overrides=FEW_TRIALS).run()
    row = {**costs.row([], exit=code), "times": 1}
    return {**row, "holds": code == cli.ENVIRONMENT and is_reported and ended == 0}


def report_killed(scenario: Scenario) -> Row:
    """The report command killed at random moments: its file is complete, old or new, and repeatable."""
    return _writer_killed(scenario, "report", lambda study: ["results.report", str(study)], lambda study: study)


def export_killed(scenario: Scenario) -> Row:
    """The export command killed at random moments."""

    def arguments(study: Path) -> list[str]:
        return ["results.export", str(study), "--pick", "front", "--checkpoint", "--out", str(study / "out"), "--force"]

    return _writer_killed(scenario, "export", arguments, lambda study: study / "out")


def _writer_killed(
    scenario: Scenario, name: str, arguments: Callable[[Path], list[str]], written: Callable[[Path], Path]
) -> Row:
    search = scenario.search(name, overrides={**FEW_TRIALS, "budget.trials": 3})
    search.run()
    costs, study = FaultCosts(search), search.study
    started = time.monotonic()
    _command(*arguments(study))
    took_s, whole = time.monotonic() - started, _files(written(study))
    same = True
    for _ in range(3 if scenario.quick else 10):
        process = subprocess.Popen([sys.executable, "-m", *arguments(study)], stdout=subprocess.DEVNULL)
        time.sleep(scenario.rng.uniform(0.5, 1.0) * took_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        costs.record_fault()
        same = same and _files(written(study)).items() <= whole.items()
    done = _command(*arguments(study)).returncode
    row = costs.row([], exit=done)
    return {**row, "holds": done == 0 and same and _files(written(study)) == whole and row["lost"] == 0}


def _files(folder: Path) -> dict[str, bytes]:
    """Returns the results in a folder, without partial files and the study's database."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".html", ".yml", ".csv", ".safetensors") and not path.name.startswith(".")
    }


FAULTS: dict[str, Callable[[Scenario], Row]] = {
    "MLflow down": mlflow_down,
    "MLflow dies midway": mlflow_dies,
    "MLflow answers 500": mlflow_answers_500,
    "MLflow slow": mlflow_slow,
    "disk full, checkpoints": disk_full_for_checkpoints,
    "disk full, study": disk_full_for_study,
    "disk full, MLflow": disk_full_for_mlflow,
    "study locked": study_locked,
    "study cut": study_cut,
    "study overwritten": study_overwritten,
    "checkpoint damaged": checkpoint_damaged,
    "data set vanishes, real training": data_gone,
    "space file edited": space_edited,
    "resources that no node has": too_much_asked,
    "report killed": report_killed,
    "export killed": export_killed,
}
