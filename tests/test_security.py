"""The guarantees of docs/security.md, as far as a test can check them."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import cli, strict_yaml, uris
from search import run
from search.execution import cluster
from search.space import reader
from search.storage.database import open_storage
from search.storage.study import Study
from trainers.data import cifar
from trainers.distributed import ray_environment

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for name in ("config", "search", "models", "trainers", "results")
    for path in sorted((ROOT / name).rglob("*.py"))
]
SECRET = "s3cr3t"
SPACE = f"""\
study: small
base: spikformer/digits
objectives: {{accuracy: maximize}}
space: {{tau: {{uniform: [1.1, 3.0]}}}}
budget: {{trials: 5, epochs: 4}}
tracking_uri: http://me:{SECRET}@127.0.0.1:9/
"""


def calls(pattern: str) -> Iterator[tuple[str, str]]:
    for path in SOURCES:
        for found in re.findall(pattern, path.read_text(), re.DOTALL):
            yield str(path.relative_to(ROOT)), found


def test_only_plain_data_is_read() -> None:
    loads = dict(calls(r"torch\.load\(([^)]*)\)"))
    assert set(loads) == {"trainers/checkpoint.py", "results/weights.py", "models/published/weights_file.py"}
    assert all("weights_only=True" in found for found in loads.values())
    assert all("allow_pickle=False" in found for _, found in calls(r"np\.load\((.*?)\) as"))
    assert {path for path, _ in calls(r"(\n(?:import|from) (?:pickle|cloudpickle|dill|joblib|shelve|marshal))")} == {
        "trainers/data/cifar.py"
    }
    assert not list(calls(r"(yaml\.(?:load|unsafe_load|full_load)\()"))


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_among_the_data_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Hostile(tmp_path / "made"), "labels": [0]}))
    with pytest.raises(ValueError, match="which is not an array"):
        cifar._read(tmp_path / "data_batch_1", 10)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:s3cr3t@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg2://me:s3c/r@3t@host/db", "postgresql+psycopg2://***@host/db"),
        ("failed for url https://token-s3cr3t@host (again)", "failed for url https://***@host (again)"),
        ("postgresql://host/db?user=me&password=s3cr3t&ssl=1", "postgresql://host/db?user=me&password=***&ssl=1"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_a_uri_is_shown_without_its_credentials(text: str, shown: str) -> None:
    assert uris.redact(text) == shown


def test_a_password_in_the_space_file_is_used_and_stored_nowhere(tmp_path: Path) -> None:
    space = reader.read(strict_yaml.parse(SPACE, "x.yml"))
    assert SECRET in str(space.settings.tracking_uri)
    study = Study(space, tmp_path, open_storage(tmp_path))
    study.next_task()
    study.close()
    reopened = Study(space, tmp_path, open_storage(tmp_path))
    text = space.yaml() + json.dumps(reopened.result().attrs) + (tmp_path / "events.jsonl").read_text()
    reopened.close()
    assert "http://***@127.0.0.1:9/" in text
    assert SECRET not in text
    assert SECRET.encode() not in (tmp_path / "study.db").read_bytes()


@pytest.mark.parametrize(
    "text", [SPACE.replace("http:", "ftp:"), SPACE.replace("tau", "tao"), SPACE.replace(":9/", ":999999/")]
)
def test_no_error_shows_a_password(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yml").write_text(text)
    assert run.main([str(tmp_path / "x.yml"), "--set", f"tracking_uri=ftp://me:{SECRET}@host"]) == 2
    output = capsys.readouterr()
    assert "***@" in output.err
    assert SECRET not in output.err + output.out


def test_no_failure_or_warning_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    def body() -> int:
        warnings.warn(f"cannot reach http://me:{SECRET}@host", stacklevel=1)
        raise cli.CommandError(4, f"cannot reach http://me:{SECRET}@host")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.run(body) == 4
    assert capsys.readouterr().err.count("http://***@host") == 2


def test_rays_token_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / ".ray" / "auth_token"
    ray_environment.keep_token_private()
    token = path.read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    path.chmod(0o644)
    ray_environment.keep_token_private()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (token, 0o600)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("10.0.0.1", False), ("head", False), ("", False)],
)
def test_only_loopback_addresses_count_as_local(host: str, is_local: bool) -> None:
    assert cluster.is_loopback(host) is is_local


@pytest.mark.parametrize(
    ("address", "has_token", "requires_token", "insecure", "is_joined"),
    [
        ("10.0.0.1:6379", False, False, False, False),
        ("10.0.0.1:6379", True, False, False, False),
        ("10.0.0.1:6379", True, True, False, True),
        ("10.0.0.1:6379", False, False, True, True),
        ("127.0.0.1:6379", False, False, False, True),
    ],
)
def test_an_unauthenticated_cluster_needs_a_flag(
    address: str,
    has_token: bool,
    requires_token: bool,
    insecure: bool,
    is_joined: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from search.execution import cluster

    left: list[bool] = []
    context = type("Context", (), {"gcs_address": address})
    monkeypatch.setattr(cluster.ray, "init", lambda **options: None)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: left.append(True))
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(cluster, "current_nodes", lambda: cluster.Cluster((cluster.Node("a", "a", 2.0, 0.0),)))
    monkeypatch.setattr(cluster, "_requires_token", lambda address: requires_token)
    monkeypatch.setenv("RAY_AUTH_MODE", "token" if has_token else "disabled")
    if is_joined:
        assert cluster.start(address, insecure).cpus == 2.0
    else:
        with pytest.raises(
            cluster.ClusterError, match=r"unauthenticated: anyone who can reach it.* --insecure-cluster"
        ):
            cluster.start(address, insecure)
    assert bool(left) is not is_joined


LOCAL_RAY = """
import os
from search.execution import cluster
import ray
cluster.start()
address = ray.get_runtime_context().gcs_address
assert os.environ["RAY_AUTH_MODE"] == "token"
assert cluster._requires_token(address)
assert not ray._private.worker.global_worker.node.webui_url
cluster.stop()
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_local_ray_requires_its_token_and_has_no_dashboard_in_any_environment() -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", LOCAL_RAY], cwd=ROOT, env=environment, check=False,
                          text=True, capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_database_address_is_stored_with_its_user_but_without_secrets() -> None:
    assert (
        uris.without_secrets("postgresql://team@db.example.org/studies") == "postgresql://team@db.example.org/studies"
    )
    assert "secret" not in uris.without_secrets("postgresql://team:secret@db.example.org/studies")
    assert "me" not in uris.without_secrets("https://me@host:5000")
    from results import report

    given = argparse.Namespace(folders=[], tracking_uri="http://me:secret@host:5000", experiment="x")
    assert "secret" not in report._sources(given)[0]
