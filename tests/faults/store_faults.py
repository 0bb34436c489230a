"""What may happen to the disks, databases and files of a search, for `benchmarks.faults`; each returns its row."""

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
from tests.faults.process_faults import ALONE, FULL, Bench, Row
from tests.faults.searches import Search, Toll
from tests.support.mlflow_proxies import Front, Mode, serve
from trainers import checkpoint

FEW = {"budget.trials": 4, **FULL}


def mlflow_down(bench: Bench) -> Row:
    """No MLflow from the start: the search ends as ever, and `search.sync` delivers everything once."""
    search = bench.search("mlflow-down", overrides={**FEW, "tracking_uri": "http://127.0.0.1:9"})
    code = search.run()
    said = "MLflow cannot be written" in search.said() and "python -m search.sync" in search.said()
    row = _delivered(bench, search, code)
    cost = tracking.measure(4, 15, 1 if bench.quick else 3)["down_share"]
    return {**row, "slower_share": round(cost, 4), "holds": row["holds"] and said and cost <= 0.01}


def mlflow_dies(bench: Bench) -> Row:
    """MLflow dies midway, and is back for `search.sync`."""
    return _with_front(bench, "mlflow-dies", "well", dies_after=25)


def mlflow_answers_500(bench: Bench) -> Row:
    """MLflow answers every request with an error."""
    return _with_front(bench, "mlflow-500", "error")


def mlflow_slow(bench: Bench) -> Row:
    """MLflow takes a second for each answer."""
    return _with_front(bench, "mlflow-slow", "slow")


def _with_front(bench: Bench, name: str, mode: Mode, dies_after: int | None = None) -> Row:
    search = bench.search(name)
    search.folder.mkdir()
    with serve(search.folder) as server:
        front = Front(server.port, pause_s=1.0)
        front.mode, front.dies_after = mode, dies_after
        search.overrides = {**FEW, "tracking_uri": front.uri}
        code = search.run()
        front.mode = "well"
        front.start()
        row = _delivered(bench, search, code, front.uri, server.store)
        front.close()
    return row


def _delivered(bench: Bench, search: Search, code: int, uri: str | None = None, store: Path | None = None) -> Row:
    """Returns the row of a search whose MLflow was in trouble, after `search.sync` has delivered, twice."""
    store = store or search.store
    more = ["--tracking-uri", uri or f"sqlite:///{store}"]
    synced = [_command("search.sync", search.study, *more) for _ in range(2)]
    toll = Toll(search)
    row = {**toll.row([], exit=code, runs_match=toll.runs_match(store)), "times": 1}
    ended = code == 0 and [done.returncode for done in synced] == [0, 0]
    return {**row, "holds": ended and row["runs_match"] and "nothing was missing" in synced[1].stdout}


def _command(module: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], text=True, capture_output=True, check=False
    )


@contextmanager
def small_disk(place: Path, mib: float) -> Iterator[None]:
    """Makes a folder a disk of its own; needs the right to mount."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(mib * 1024)}k", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def _fill(place: Path, leave_kib: int) -> Path:
    """Fills a disk but for some KiB."""
    path = place / "filler"
    with path.open("wb") as file:
        file.write(b"0" * max(0, shutil.disk_usage(place).free - leave_kib * 1024))
    return path


def disk_full_for_checkpoints(bench: Bench) -> Row:
    """The disk of the checkpoints fills up: the search ends with what is wrong, and goes on when there is room."""
    search = bench.search("disk-checkpoints", overrides=FEW)
    return _disk_full(search, search.study / "checkpoints", 8, 8)


def disk_full_for_study(bench: Bench) -> Row:
    """The disk of the study's database fills up."""
    search = bench.search("disk-study", overrides={**FEW, "tracking_uri": f"sqlite:///{bench.folder}/disk-study.db"})
    return _disk_full(search, search.study, 24, 100, bench.folder / "disk-study.db")


def _disk_full(search: Search, place: Path, mib: float, leave_kib: int, store: Path | None = None) -> Row:
    with small_disk(place, mib):
        search.start()
        search.wait_for_epochs(12)
        filler = _fill(place, leave_kib)
        code, toll = search.end(), Toll(search)
        said = search.said()
        toll.note()
        filler.unlink()
        again = time.time()
        ended = search.run()
        row = toll.row([search.notes("start")[-1]["time"] - again], exit=code, runs_match=toll.runs_match(store))
    told = "full" in said or "No space left" in said
    holds = (
        code == cli.ENVIRONMENT and ended == 0 and told and "Traceback" not in said and "go" in said.split("lost")[-1]
    )
    return {**row, "holds": holds and row["lost"] == row["repeated"] == 0}


def disk_full_for_mlflow(bench: Bench) -> Row:
    """The disk of MLflow's store fills up: the search ends as ever, and `search.sync` delivers when there is room."""
    place = bench.folder / "mlflow-disk"
    with small_disk(place, 8):
        store = place / "mlflow.db"
        search = bench.search("disk-mlflow", overrides={**FEW, "tracking_uri": f"sqlite:///{store}"})
        search.start()
        search.wait_for_epochs(12)
        filler = _fill(place, 0)
        code, said = search.end(), search.said()
        filler.unlink()
        row = _delivered(bench, search, code, f"sqlite:///{store}", store)
    return {**row, "holds": row["holds"] and "MLflow cannot be written" in said}


def study_locked(bench: Bench) -> Row:
    """Another program holds the study's database for ten seconds."""
    search = bench.search("locked", overrides=FEW)
    search.start()
    search.wait_for_epochs(10)
    with closing(sqlite3.connect(search.study / "study.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        toll, locked = Toll(search), time.time()
        time.sleep(10.0)
        other.execute("rollback")
    toll.struck.append((set(), len(search.notes("epoch"))))
    code = search.end()
    late = [note["time"] for note in search.notes("epoch") if note["time"] > locked + 10]
    row = toll.row([late[0] - locked - 10] if late else [], exit=code, runs_match=toll.runs_match())
    return {**row, "holds": code == 0 and row["lost"] == row["repeated"] == 0 and row["runs_match"]}


def study_cut(bench: Bench) -> Row:
    """The study's database cut to half: refused in a sentence, and not written."""

    def cut(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    return _damaged(bench.search("cut", overrides={**FEW, "budget.trials": 2}), cut)


def study_overwritten(bench: Bench) -> Row:
    """The study's database overwritten with something else."""

    def overwrite(path: Path) -> None:
        path.write_bytes(random.Random(0).randbytes(path.stat().st_size))

    return _damaged(bench.search("overwritten", overrides={**FEW, "budget.trials": 2}), overwrite)


def _damaged(search: Search, damage: Callable[[Path], None]) -> Row:
    search.run()
    toll, path = Toll(search), search.study / "study.db"
    toll.note()
    whole = path.read_bytes()
    damage(path)
    damaged = path.read_bytes()
    code, said = search.run(), search.said()
    kept = path.read_bytes() == damaged
    path.write_bytes(whole)
    row = toll.row([], exit=code)
    holds = code == cli.USER and str(path) in said and "Traceback" not in said and kept
    return {**row, "holds": holds and search.run() == 0 and row["lost"] == row["repeated"] == 0}


def checkpoint_damaged(bench: Bench) -> Row:
    """A bit turned in the newest checkpoint of a trial whose driver was killed: it goes on from the one before."""
    search = bench.search("checkpoint", overrides={"budget.trials": 2, "budget.epochs": 20, **FULL, **ALONE})
    search.start()
    search.wait_for_epochs(8)
    search.kill()
    toll = Toll(search)
    toll.note()
    newest = checkpoint.generations(search.study / "checkpoints" / "t0000")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    again, before = time.time(), len(search.notes("start"))
    code = search.run()
    first = search.notes("start")[before]
    row = toll.row([first["time"] - again], exit=code)
    epochs = [note["epoch"] for note in search.notes("epoch") if note["trial"] == "t0000"]
    redone = len(epochs) - len(set(epochs))
    row["max_epochs_lost"] += redone  # the start says what is on the disk, and not that it is damaged
    return {**row, "holds": code == 0 and row["lost"] == row["repeated"] == 0 and row["max_epochs_lost"] <= 2}


def data_gone(bench: Bench) -> Row:
    """The data set vanishes while real trainings read it: the search ends with what is wrong, and goes on later."""
    from PIL import Image

    search, images = bench.search("data"), bench.folder / "images"
    dice = random.Random(0)
    for part, count in (("train", 40), ("val", 8)):
        for name in ("cats", "dogs"):
            (images / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.frombytes("RGB", (32, 32), dice.randbytes(32 * 32 * 3))
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
    search.overrides = {**space, **small, "budget.epochs": 6, "budget.trials": 2, "constraints": "{}", **FULL}
    search.start()
    search.wait_for_epochs(3)
    images.rename(bench.folder / "elsewhere")
    code, said, toll = search.end(), search.said(), Toll(search)
    toll.note()
    without = search.run()
    (bench.folder / "elsewhere").rename(images)
    again = time.time()
    ended = search.run()
    row = toll.row([search.notes("start")[-1]["time"] - again], exit=code)
    holds = code == without == cli.ENVIRONMENT and ended in (0, 3) and str(images) in said
    return {**row, "holds": holds and "Traceback" not in said and row["lost"] == row["repeated"] == 0}


def space_edited(bench: Bench) -> Row:
    """Started again with another space file: what may change does, the rest is refused with the difference."""
    search = bench.search("edited", overrides={**FEW, "budget.trials": 2})
    search.run()
    toll = Toll(search)
    refused = {
        "space.tau": "{uniform: [1.2, 3.0]}",
        "objectives": "{accuracy: maximize}",
        "seed": 1,
        "budget.epochs": 8,
    }
    allowed = {"budget.trials": 3, "concurrency": 1, "tracking_uri": f"sqlite:///{bench.folder}/other.db"}
    usual, codes = search.overrides, []
    for key, value in refused.items():
        search.overrides = {**usual, key: value}
        codes.append(search.run())
        assert search.said().count(" -> ") == 1, search.said()
        toll.note()
    search.overrides = {**usual, **allowed}
    code = search.run()
    row = toll.row([], exit=code)
    return {**row, "holds": set(codes) == {2} and code == 0 and row["lost"] == row["repeated"] == 0}


def too_much_asked(bench: Bench) -> Row:
    """A trial asks for more than any machine has."""
    search = bench.search("greedy", overrides={**FEW, "resources": "{cpu: 1024}"})
    code, toll = search.run(), Toll(search)
    told = "a trial asks for 1024 CPU" in search.said() and "Traceback" not in search.said()
    ended = bench.search("greedy", overrides=FEW).run()
    row = {**toll.row([], exit=code), "times": 1}
    return {**row, "holds": code == cli.ENVIRONMENT and told and ended == 0}


def report_killed(bench: Bench) -> Row:
    """The report's command killed at random moments: its file is whole, old or new, and the same when written again."""
    return _writer_killed(bench, "report", lambda study: ["results.report", str(study)], lambda study: study)


def export_killed(bench: Bench) -> Row:
    """The export's command killed at random moments."""

    def arguments(study: Path) -> list[str]:
        return ["results.export", str(study), "--pick", "front", "--checkpoint", "--out", str(study / "out"), "--force"]

    return _writer_killed(bench, "export", arguments, lambda study: study / "out")


def _writer_killed(
    bench: Bench, name: str, arguments: Callable[[Path], list[str]], place: Callable[[Path], Path]
) -> Row:
    search = bench.search(name, overrides={**FEW, "budget.trials": 3})
    search.run()
    toll, study = Toll(search), search.study
    started = time.monotonic()
    _command(*arguments(study))
    took_s, whole = time.monotonic() - started, _files(place(study))
    same = True
    for _ in range(3 if bench.quick else 10):
        process = subprocess.Popen([sys.executable, "-m", *arguments(study)], stdout=subprocess.DEVNULL)
        time.sleep(bench.dice.uniform(0.5, 1.0) * took_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        toll.note()
        same = same and _files(place(study)).items() <= whole.items()
    done = _command(*arguments(study)).returncode
    row = toll.row([], exit=done)
    return {**row, "holds": done == 0 and same and _files(place(study)) == whole and row["lost"] == 0}


def _files(place: Path) -> dict[str, bytes]:
    """Returns what users find in a folder: no drafts, and not the study's own database."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.suffix in (".html", ".yml", ".csv", ".safetensors") and not path.name.startswith(".")
    }


FAULTS: dict[str, Callable[[Bench], Row]] = {
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
