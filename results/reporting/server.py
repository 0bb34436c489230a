"""Server of a report on this machine: a page that follows its study while the search runs.

It reads the study and writes nothing. It answers on the loopback interface alone, and only requests whose Host header
names this machine, so that a web page of another site cannot reach it under a name of its own (DNS rebinding). It
knows two paths and opens no files for a request.
"""

from __future__ import annotations

import json
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from config import cli
from config.errors import ConfigError
from config.interrupts import Interrupted, cancel_forced_exit
from config.lock_file import holder
from config.uris import redact
from results.folder import DATABASE_FILE
from results.metrics import ResultsError
from results.reporting.page import Page

HOST = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine in a Host header; the port may be that of an SSH tunnel."""
PORT = 8800
MAX_PORT = 65_535
MIN_INTERVAL_S = 2.0
BUSY_SHARE = 0.1
"""Largest share of the time in which the page is made, so that a large study leaves the machine to the search."""
TIMEOUT_S = 30.0

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageSource:
    """The newest page of studies, made again after their databases changed, but not too often."""

    def __init__(self, make: Callable[[], Page], folders: Sequence[Path]) -> None:
        self._make = make
        self._folders = folders
        self._lock = threading.Lock()
        self._state = self._read_state()
        self._page, self._problem, self._next = make(), "", 0.0

    def current(self) -> tuple[Page, str]:
        """Returns the page, and why it could not be updated, if so."""
        with self._lock:
            started, state = time.monotonic(), self._read_state()
            if started >= self._next and (state is None or state != self._state or self._problem):
                self._update()
                self._state = state
                took = time.monotonic() - started
                self._next = started + max(MIN_INTERVAL_S, took / BUSY_SHARE)
            return self._page, self._problem

    def _update(self) -> None:
        try:
            self._page, self._problem = self._make(), ""
        except (ConfigError, OSError) as error:  # the folder was moved, or the database is being replaced
            self._problem = redact(str(error))

    def _read_state(self) -> object:
        """Returns what differs after a write to the local databases, or after a driver has started or ended.

        None for studies elsewhere, which may differ.
        """
        files = [folder / f"{DATABASE_FILE}{ending}" for folder in self._folders for ending in ("", "-wal")]
        if not files or not all((folder / DATABASE_FILE).is_file() for folder in self._folders):
            return None
        stats = [(found.st_mtime_ns, found.st_size, found.st_ino) for found in map(_stat, files) if found]
        return stats, [holder(folder) is not None for folder in self._folders]


class PageServer(ThreadingHTTPServer):
    """A server of one page on the loopback interface."""

    def __init__(self, port: int, source: PageSource) -> None:
        self.source = source
        super().__init__((HOST, port), Handler)

    def server_bind(self) -> None:
        """Binds the socket without the look-up of the host's name, which may wait for a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints an error, unless the browser has closed its connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers with the page at `/`, and at `/update` with its parts if its version is not the browser's."""

    server: PageServer
    timeout = TIMEOUT_S
    server_version, sys_version = "report", ""

    def do_GET(self) -> None:
        """Answers a request."""
        if not self._is_for_this_machine():
            self._send(HTTPStatus.FORBIDDEN, f"The Host header must be one of {', '.join(HOSTS)}.")
            return
        address = urlsplit(self.path)
        if address.path == "/":
            page, _ = self.server.source.current()
            self._send(HTTPStatus.OK, page.html(live=True), "text/html")
        elif address.path == "/update":
            self._send_update(parse_qs(address.query).get("version", [""])[0])
        else:
            self._send(HTTPStatus.NOT_FOUND, "There is no such page; the report is at /.")

    def do_HEAD(self) -> None:
        """Answers a request with the headers alone."""
        self.do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Prints no line for each request."""

    def _is_for_this_machine(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            return False
        name, colon, port = hosts[0].strip().lower().rpartition(":")
        return (name if colon and port.isdecimal() else hosts[0].strip().lower()) in HOSTS

    def _send_update(self, version: str) -> None:
        page, problem = self.server.source.current()
        if problem:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"The study cannot be read now: {problem}.")
        elif page.version == version:
            self._send(HTTPStatus.NO_CONTENT, "")
        else:
            head = json.dumps({"version": page.version, "title": page.title, "body": page.body})
            self._send(HTTPStatus.OK, f'{head[:-1]}, "data": {page.data}}}', "application/json")

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def serve(make: Callable[[], Page], folders: Sequence[Path], port: int | None = None) -> int:
    """Serves the page that `make` returns until Ctrl-C, and returns the exit code 0. Prints the address.

    Raises ResultsError for a wrong port, and CommandError for one that is in use.
    """
    if port is not None and not 0 <= port <= MAX_PORT:
        raise ResultsError(f"--port: must be from 0 to {MAX_PORT} (got {port}); 0 is a free one")
    source = PageSource(make, folders)
    with _open(port, source) as server:
        print(f"http://{HOST}:{server.server_port}/ follows the study; Ctrl-C ends this server", flush=True)
        try:
            server.serve_forever()
        except Interrupted as interrupted:
            cancel_forced_exit()
            return cli.OK if interrupted.code == 128 + signal.SIGINT else interrupted.code
    return cli.OK


def _open(port: int | None, source: PageSource) -> PageServer:
    """Returns a server at the port; at the default port, or a free one if it is in use, if none is given."""
    try:
        return PageServer(PORT if port is None else port, source)
    except OSError as error:
        if port is None:
            return PageServer(0, source)
        text = f"--port {port}: {error.strerror}; choose another, or leave --port out"
        raise cli.CommandError(cli.ENVIRONMENT, text) from error


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:
        return None
