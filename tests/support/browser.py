"""A page in a headless Chromium, and MLflow's web interface over a store, for tests and for pictures."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
"""The system's browser, which gets security updates; Playwright would download a separate one."""
START_S, WAIT_S, POLL_S = 600.0, 300.0, 0.2
"""Timeout, far above the usual time."""


@contextmanager
def browse(width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light") -> Iterator[Page]:
    """Yields an empty page of a new browser, with a light or dark color scheme."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, timeout=1000 * START_S)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(1000 * WAIT_S)
        yield page
        browser.close()


@contextmanager
def serve_mlflow(tracking_uri: str) -> Iterator[str]:
    """Yields the address of MLflow's web interface over a store, on this machine only, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen([sys.executable, *words, "--backend-store-uri", tracking_uri], env=environment,
                              start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(START_S)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    opener = build_opener(ProxyHandler({}))
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with suppress(URLError, OSError), opener.open(f"{address}/health", timeout=POLL_S * 25):
            return
        time.sleep(POLL_S)
    raise TimeoutError(f"MLflow does not answer at {address}")
