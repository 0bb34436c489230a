from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from results import ResultsError, load
from results.report import main
from results.reporting import server
from results.reporting.page import Page, study_page
from results.reporting.server import PageServer, PageSource
from search.storage import lock

ROOT = Path(__file__).parents[3]
WAIT_S = 120.0


@contextmanager
def served(source: PageSource) -> Iterator[PageServer]:
    with PageServer(0, source) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


@pytest.fixture(scope="module")
def fixed() -> Iterator[PageServer]:
    """A server of a small page that never changes."""
    with served(PageSource(lambda: Page("x: report", "<header id='header'></header>", "{}"), [])) as running:
        yield running


def test_the_page_asks_its_own_server_for_updates(fixed: PageServer) -> None:
    status, text, headers = ask(fixed.server_port)
    assert status == 200
    assert "connect-src 'self'" in text
    assert 'class="live"' in text
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_server_listens_on_loopback_alone(fixed: PageServer) -> None:
    assert fixed.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil", "0.0.0.0"]
)
def test_a_request_under_another_name_is_refused(fixed: PageServer, host: str) -> None:
    for path in ("/", "/update"):
        status, text, _ = ask(fixed.server_port, path, Host=host)
        assert status == 403
        assert "x: report" not in text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9000", "[::1]", "[::1]:80"])
def test_this_machine_may_be_named_in_several_ways(fixed: PageServer, host: str) -> None:
    assert ask(fixed.server_port, Host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../study.db",
        "/study.db",
        "//etc/passwd",
        "/%2e%2e/study.db",
        "/update/../../x",
        "/favicon.ico",
    ],
)
def test_no_file_is_read_for_a_request(fixed: PageServer, path: str) -> None:
    status, text, _ = ask(fixed.server_port, path)
    assert (status, text) == (404, "There is no such page; the report is at /.")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 501), ("PUT", 501), ("DELETE", 501)])
def test_requests_only_read(fixed: PageServer, method: str, status: int) -> None:
    assert ask(fixed.server_port, method=method)[0] == status
    assert method != "HEAD" or ask(fixed.server_port, method=method)[1] == ""


def test_an_update_is_sent_only_if_the_browser_has_another_version(fixed: PageServer) -> None:
    status, text, _ = ask(fixed.server_port, "/update?version=old")
    found = json.loads(text)
    assert status == 200
    assert found.keys() == {"version", "title", "body", "data"}
    assert ask(fixed.server_port, f"/update?version={found['version']}")[:2] == (204, "")


def change(folder: Path, number: int = 6) -> None:
    """Writes to the study's database as a driver does: a trial ends."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    study = optuna.load_study(study_name="quickstart", storage=storage)
    storage.set_trial_state_values(study.trials[number]._trial_id, optuna.trial.TrialState.COMPLETE, [60.0, 0.07])
    storage.engine.dispose()


def test_the_page_follows_the_study_while_a_driver_holds_it(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(server, "BUSY_SHARE", 1e9)
    made: list[Page] = []

    def make() -> Page:
        made.append(study_page(load(study_folder), "runs/quickstart"))
        return made[-1]

    with lock.hold(study_folder):
        source = PageSource(make, [study_folder])
        first, _ = source.current()
        assert source.current()[0] is first, "an unchanged study is not read again"
        assert len(made) == 1
        change(study_folder)
        second, problem = source.current()
    assert (first.version != second.version, problem) == (True, "")
    assert "4 complete" in first.body
    assert "5 complete" in second.body
    assert source.current()[0] is not second, "the driver has ended"


def test_a_study_that_cannot_be_read_for_a_while_leaves_the_last_page(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(server, "BUSY_SHARE", 1e9)
    source = PageSource(lambda: study_page(load(study_folder), "runs/x"), [study_folder])
    first, _ = source.current()
    moved = study_folder.rename(study_folder.with_name("moved"))
    with served(source) as running:
        status, text, _ = ask(running.server_port, f"/update?version={first.version}")
        assert status == 503
        assert "The study cannot be read now" in text
        assert ask(running.server_port)[0] == 200
        moved.rename(study_folder)
        assert ask(running.server_port, f"/update?version={first.version}")[0] == 204


def test_a_page_that_takes_long_is_made_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    made: list[float] = []

    def make() -> Page:
        made.append(clock[0])
        clock[0] += 3.0
        return Page("x", str(len(made)), "{}")

    source = PageSource(make, [])
    for _ in range(100):
        clock[0] += 1.0
        source.current()
    assert 4 <= len(made) <= 5
    assert min(later - earlier for earlier, later in pairwise(made[1:])) >= 30


SCRIPT = """
import sys
from results.report import main
code = main(sys.argv[1:])
print(*sorted({"ray", "mlflow", "torch", "search"} & sys.modules.keys()), file=sys.stderr)
sys.exit(code)
"""


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yields a running `results.report --serve` and its port."""
    words = [sys.executable, "-c", SCRIPT, *arguments, "--serve"]
    with subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), line + process.communicate()[1]
            yield process, int(line.split(":")[2].split("/")[0])
        finally:
            process.kill()


def test_the_command_serves_without_touching_the_study_and_ends_quietly(study_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in study_folder.iterdir()}
    with lock.hold(study_folder), command(str(study_folder), "--port", "0") as (process, port):
        assert "quickstart" in ask(port)[1]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output, errors) == (0, "", "\n"), "no other line, and no module of an engine"
    assert {path.name: path.read_bytes() for path in study_folder.iterdir() if path.suffix != ".lock"} == before


def test_a_port_in_use_is_reported(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([str(study_folder), "--serve", "--port", str(port)]) == 4
    assert capsys.readouterr().err == f"--port {port}: Address already in use; choose another, or leave --port out\n"


def test_the_default_port_is_replaced_by_a_free_one_if_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PageSource(lambda: Page("x", "", "{}"), [])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        with server._open(None, source) as running:
            assert running.server_port not in (0, server.PORT)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_must_exist(port: int) -> None:
    with pytest.raises(ResultsError, match=f"--port: must be from 0 to 65535 .got {port}."):
        server.serve(lambda: Page("x", "", "{}"), [], port)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/x", "--port", "1"], "--port: needs --serve"),
        (["runs/x", "--serve", "--out", "a.html"], "--out: --serve writes no files; leave one of them out"),
        (["runs/x", "--serve", "--latex", "a.tex"], "--latex: --serve writes no files; leave one of them out"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"


def test_a_missing_study_is_reported_before_a_server_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(server, "PageServer", never)
    assert main([str(tmp_path), "--serve"]) == 2
    assert "there is no study.db in it" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
