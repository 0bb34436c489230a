"""MLflow and the study on a real PostgreSQL server, with a password that must not be stored or printed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import results
from config import strict_yaml
from config.cli import CommandError
from config.errors import ConfigError
from config.strict_yaml import override
from config.uris import redact
from search.space import reader
from search.space.space import Space
from search.storage.database import open_database
from search.storage.lock import LockedError
from search.storage.study import Study
from search.sync import deliver
from trainers.epoch_metrics import EpochMetrics

ROOT = Path(__file__).parents[2]
PASSWORD = "not-to-be-found-anywhere"
SPACE = """\
study: team
base: spikformer/digits
fixed: {{distort: false, embed_dim: 16, batch_size: 128, val_fraction: 0.4}}
objectives: {{accuracy: maximize, spike_rate: minimize}}
space:
  tau: {{uniform: [1.1, 1.6]}}
  lr: {{log_uniform: [0.01, 0.03]}}
budget: {{trials: 3, epochs: 2}}
scheduler: {{name: none}}
storage: {storage}
tracking_uri: {tracking_uri}
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Team:
    """The two servers, and the environment with the password."""

    storage: str
    tracking_uri: str
    environment: dict[str, str]

    def run(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=400, check=False
        )

    def sql(self, database: str, text: str) -> str:
        command = [_program("psql"), "-At", "-c", text, self._url(database)]
        return subprocess.run(command, env=self.environment, text=True, capture_output=True, check=True).stdout.strip()

    def _url(self, database: str) -> str:
        return self.storage.replace("/study", f"/{database}")


def _program(name: str) -> str:
    folders = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not installed; `make test-cluster` as root installs it")
    return found


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _postgres(folder: Path) -> Iterator[int]:
    """Runs PostgreSQL on loopback, as another user if we are root, since PostgreSQL refuses to run as root."""
    port, data = _port(), folder / "data"
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True}
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        shutil.chown(folder / "password", "nobody")
        options["user"] = "nobody"
    made = subprocess.run(
        [_program("initdb"), "-D", data, "-U", "team", "-A", "scram-sha-256", f"--pwfile={folder}/password"],
        check=False, **options,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"PostgreSQL's initdb is not allowed here: {made.stderr.strip()}")
    control = [_program("pg_ctl"), "-D", data, "-w", "-l", folder / "log"]
    subprocess.run(
        [*control, "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start"], check=True, **options
    )
    try:
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, **options)


@contextmanager
def _mlflow(store: str, artifacts: Path, environment: dict[str, str]) -> Iterator[str]:
    """Runs the `mlflow server` command on loopback."""
    port = _port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
    log = (artifacts.parent / "mlflow.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed; `make test-cluster` installs it")
    folder = Path(tempfile.mkdtemp(prefix="team-"))
    environment = {**os.environ, "PGPASSWORD": PASSWORD, "OMP_NUM_THREADS": "1"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven processes that outlive the server
    try:
        with _postgres(folder) as port:
            address = f"postgresql://team@127.0.0.1:{port}"
            psql = [_program("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "team", "-d", "postgres"]
            for name in ("study", "mlflow"):
                subprocess.run([*psql, "-c", f"create database {name}"], env=environment, check=True)
            artifacts = tmp_path_factory.mktemp("mlflow") / "artifacts"
            with _mlflow(f"{address}/mlflow", artifacts, environment) as tracking_uri:
                yield Team(f"{address}/study", tracking_uri, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


def _space(team: Team, name: str, trials: int) -> Space:
    text = SPACE.format(storage=team.storage, tracking_uri=team.tracking_uri)
    overrides = [f"study={name}", f"budget.trials={trials}"]
    return reader.read(override(strict_yaml.parse(text, "team.yml"), overrides))


def _resume(team: Team, folder: Path, trials: int) -> str:
    """Resumes a study with synthetic epochs in that folder and returns the message of the delivery to MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    space = _space(team, folder.name, trials)
    with open_database(folder, space.study, space.settings.database) as storage:
        assert storage is not None
        study = Study(space, folder, storage)
        while (task := study.next_task()) is not None:
            for epoch in (1, 2):
                study.on_result(task.number, _epoch(epoch, 80.0 + task.number, 0.1 + task.number / 100))
        study.close()
    return deliver(folder, None)


def _epoch(number: int, accuracy: float, rate: float) -> EpochMetrics:
    metrics = {"accuracy": accuracy, "loss": 0.5, "spike_rate": rate, "spikes": 1e3 * rate, "synops": 1e6 * rate}
    metrics |= {"macs": 1e4, "energy_mj": 1e-3 * rate, "params_m": 1.0, "images_per_s": 9.0, "peak_mem_gib": 0.1}
    return EpochMetrics(number, metrics, [{"read_step": 4, "chance": 13.0, **metrics}], [])


def test_the_folder_the_database_and_mlflow_hold_one_study_also_when_it_resumes(team: Team, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "resumed"
    assert _resume(team, folder, 3) == f"{team.tracking_uri}: 3 runs and 6 epochs delivered"
    assert _resume(team, folder, 4) == f"{team.tracking_uri}: 1 run and 2 epochs delivered"
    assert deliver(folder, None) == f"{team.tracking_uri}: nothing was missing"
    assert (folder / "study.url").read_text() == team.storage + "\n"
    assert not (folder / "study.db").exists()
    found = results.load(folder)
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    assert results.load(tracking_uri=team.tracking_uri, experiment="resumed") == found


def test_a_metric_of_an_epoch_is_in_mlflows_database_once(team: Team, tmp_path: Path) -> None:
    _resume(team, tmp_path / "runs" / "once", 2)
    doubled = "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1) found"
    assert team.sql("mlflow", doubled) == "0"
    assert int(team.sql("mlflow", "select count(*) from metrics where key = 'accuracy'")) >= 4


def test_another_folder_cannot_open_a_study_of_that_name(team: Team, tmp_path: Path) -> None:
    _resume(team, tmp_path / "mine" / "named", 1)
    with pytest.raises(ConfigError, match="already holds a study named of another folder"):
        _resume(team, tmp_path / "yours" / "named", 1)


def test_a_driver_on_another_machine_excludes_others_until_it_ends(team: Team, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "held"
    folder.mkdir(parents=True)
    with open_database(folder, "held", team.storage):
        with (
            pytest.raises(LockedError, match="is being run by another driver"),
            open_database(folder, "held", team.storage),
        ):
            pass
        with open_database(tmp_path, "other", team.storage):
            pass
    with open_database(folder, "held", team.storage):
        pass


def test_a_database_that_drops_its_connections_is_an_error_of_the_environment(team: Team, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="What was recorded there is not lost"):
        _search_and_drop(team, _space(team, "dropped", 2), tmp_path)


def _search_and_drop(team: Team, space: Space, folder: Path) -> None:
    with open_database(folder, space.study, space.settings.database) as storage:
        assert storage is not None
        study = Study(space, folder, storage)
        study.next_task()
        team.sql("postgres", "alter database study with allow_connections false")
        team.sql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'study'")
        try:
            study.next_task()
        finally:
            study._events.close()
            team.sql("postgres", "alter database study with allow_connections true")


def test_a_search_uses_both_servers_and_writes_the_password_nowhere(team: Team, tmp_path: Path) -> None:
    (tmp_path / "team.yml").write_text(SPACE.format(storage=team.storage, tracking_uri=team.tracking_uri))
    done = team.run("search.run", str(tmp_path / "team.yml"), "--out", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"study      {redact(team.storage)}" in done.stdout
    assert "Nothing is lost" not in done.stdout
    found = results.load(tmp_path / "runs" / "team")
    assert [trial.state for trial in found.trials] == ["complete"] * 3
    assert results.load(tracking_uri=team.tracking_uri, experiment="team") == found
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), path
    dump = [_program("pg_dumpall"), "-d", team.storage]
    dumped = subprocess.run(dump, env=team.environment, capture_output=True, check=True).stdout
    assert b"budget" in dumped
    assert PASSWORD.encode() not in dumped
