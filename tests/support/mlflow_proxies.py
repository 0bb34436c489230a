"""A real MLflow server behind a proxy that fails as servers and networks do."""

from __future__ import annotations

import http.client
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

Mode = Literal["well", "error", "slow", "hung", "late"]

SERVER = """
from werkzeug.serving import make_server
from mlflow.server import app
server = make_server("127.0.0.1", 0, app, threaded=True)
app.test_client().post("/api/2.0/mlflow/experiments/search", json={"max_results": 1})  # makes the store's tables
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Server:
    """MLflow's own tracking server on loopback, with its SQLite store."""

    port: int
    store: Path


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Runs MLflow's server, without the dozen processes of the `mlflow server` command."""
    store = folder / "mlflow.db"
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{store}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), store)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        log.close()


class FaultyProxy:
    """Forwards requests, or answers with status 500, slowly, never, or too late, depending on `mode`.

    After `stop` the port refuses connections, as if the server had died; `start` opens it.
    """

    def __init__(self, port: int, pause_s: float = 0.3) -> None:
        self.mode: Mode = "well"
        self.dies_after: int | None = None
        """Number of requests after which it stops."""
        self.calls = 0
        self._upstream_port = port
        self.pause_s = pause_s
        self._released = threading.Event()
        self._changing = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                proxy.answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # the base class's names

            def log_message(self, *words: Any) -> None:
                pass

        self.stop()
        self.dies_after = None
        with self._changing:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
            self._server.daemon_threads = True
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        with self._changing:
            if self._server is not None:
                self._server.shutdown()
                self._server.server_close()
            self._server = None

    def close(self) -> None:
        self._released.set()
        self.stop()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.calls += 1
        if self.dies_after is not None and self.calls > self.dies_after:
            request.close_connection = True
            threading.Thread(target=self.stop, daemon=True).start()
            return
        if self.mode == "hung":
            self._released.wait()
            return
        if self.mode == "slow":
            time.sleep(self.pause_s)
        code, content = (500, b"broken") if self.mode == "error" else self._pass_on(request, body)
        if self.mode == "late":
            self._released.wait(self.pause_s)
        try:
            request.send_response(code)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
        except OSError:
            pass  # the client has gone

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream_port, timeout=60)
        try:
            headers = {key: value for key, value in request.headers.items() if key.lower() == "content-type"}
            connection.request(request.command, request.path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


def logged_counts(store: Path, study_id: str) -> tuple[dict[str, int], dict[tuple[str, str, int], int]]:
    """Returns the number of runs of each trial in the store, and of entries of each metric and epoch."""
    runs = (
        "select trial.value, runs.run_uuid from runs join tags trial using (run_uuid) join tags study using (run_uuid) "
        "where trial.key = 'trial' and study.key = 'study_id' and study.value = ? and lifecycle_stage = 'active'"
    )
    metrics = "select key, step, count(*) from metrics where run_uuid = ? group by key, step"
    connection = sqlite3.connect(store)
    try:
        found = connection.execute(runs, (study_id,)).fetchall()
        counts: dict[str, int] = {}
        times: dict[tuple[str, str, int], int] = {}
        for trial, run in found:
            counts[trial] = counts.get(trial, 0) + 1
            times |= {(trial, key, step): n for key, step, n in connection.execute(metrics, (run,))}
        return counts, times
    finally:
        connection.close()
