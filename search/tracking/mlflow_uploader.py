"""MLflow uploader: a thread that mirrors a running study without blocking the search.

The study's database is the queue: everything uploaded was saved there first. What MLflow does not accept stays there
for a later try, the next start, or `python -m search.sync`.
"""

from __future__ import annotations

import queue
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from config.messages import root_cause
from config.uris import redact
from results.study import StudyResult

if TYPE_CHECKING:
    from search.tracking.mlflow_mirror import EndStatus, MlflowMirror

START_DELAY_S = 15.0
"""Seconds for which a search leaves the cores to the start of Ray and of the first trials: MLflow's import and the
set-up of its database take some of them."""
INTERVAL_S = 2.0
"""Seconds between two uploads: all that trials report in between goes into one."""
RETRY_S, MAX_RETRY_S = 1.0, 60.0
"""The first and the longest pause after a failure; each is twice the one before."""
CONNECT_TIMEOUT_S, FAILED_TIMEOUT_S = 15.0, 2.0
"""Timeouts at the end of a search: for a store that was never reached, and for one that failed at the last try."""


class _StoppedError(Exception):
    """The search has ended without waiting for the rest."""


class MlflowUploader:
    """Keeps MLflow up to date with a study: `mark_changed` and `tick` return at once."""

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        folder: Path,
        read: Callable[[], StudyResult],
        system_metrics: bool = False,
        start_delay_s: float = 0.0,
    ) -> None:
        """`read` returns the current study; it is called in the caller's thread only.

        The store is opened after `start_delay_s` seconds, or earlier if the search ends before.
        """
        self.problem: str | None = None
        self._uri = uri
        self._artifacts = artifacts
        self._folder = folder
        self._read = read
        self._system_metrics = system_metrics
        self._start_delay_s = start_delay_s
        self._mirror: MlflowMirror | None = None
        self._is_changed = self._is_problem_shown = self._was_opened = self._is_idle = False
        self._next_upload = 0.0
        self._started, self._stopped = threading.Event(), threading.Event()
        self._queue: queue.Queue[tuple[StudyResult, EndStatus | None] | None] = queue.Queue()
        self._queue.put((read(), None))
        self._thread = threading.Thread(target=self._run, daemon=True, name="mlflow")
        self._thread.start()

    def mark_changed(self) -> None:
        """Marks the study as changed since the last upload."""
        self._is_changed = True

    def tick(self) -> str | None:
        """Queues an upload if one is due and the thread is idle; returns a message for the user, once."""
        if self._is_changed and self._is_idle and time.monotonic() >= self._next_upload:
            self._is_changed = self._is_idle = False
            self._next_upload = time.monotonic() + INTERVAL_S
            self._queue.put((self._read(), None))
        if self.problem is None or self._is_problem_shown:
            return None
        self._is_problem_shown = True
        return f"{self.problem}. The search continues, and the upload is retried"

    def finish(self, end: EndStatus, timeout_s: float) -> str | None:
        """Uploads the final study and waits for at most `timeout_s`; returns a message if something is missing."""
        self._queue.put((self._read(), end))
        self._started.set()
        if self.problem is not None:
            timeout_s = min(timeout_s, FAILED_TIMEOUT_S)
        elif not self._was_opened:
            timeout_s = min(timeout_s, CONNECT_TIMEOUT_S)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.problem = self.problem or f"MLflow lacks data: {redact(self._uri)} did not accept everything in time"
        self.stop()
        if self.problem is None:
            return None
        command = f"python -m search.sync {shlex.quote(str(self._folder))}"
        return f"{self.problem}. Nothing is lost: the next start delivers what is missing, or {command}"

    def stop(self) -> None:
        """Ends the thread after its current call."""
        self._stopped.set()
        self._started.set()
        self._queue.put(None)

    def _run(self) -> None:
        """Uploads each queued study; after a failure the same one again, unless a newer one comes."""
        self._started.wait(self._start_delay_s)
        pause = RETRY_S
        item = self._queue.get()
        while item is not None and not self._stopped.is_set():
            study, end = item
            is_uploaded = self._upload(study, end)
            if end is not None:
                return
            if is_uploaded:
                pause = RETRY_S
                self._is_idle = True
                item = self._queue.get()
            else:
                with suppress(queue.Empty):  # the end of the search cuts the pause short
                    item = self._queue.get(timeout=pause)
                pause = min(2 * pause, MAX_RETRY_S)

    def _upload(self, study: StudyResult, end: EndStatus | None) -> bool:
        """Returns whether the store accepted everything; if not, `problem` is the reason."""
        try:
            self._mirror = self._mirror or self._open(study)
            if end is None:
                self._mirror.write(study)
            else:
                self._mirror.finish(study, self._folder, end)
        except _StoppedError:
            return False
        except Exception as error:  # no error of the store may end the search
            if self._mirror is not None:
                self._mirror.close()
            self._mirror = None
            self.problem = f"MLflow cannot be written: {redact(self._uri)}: {redact(root_cause(error))}"
            return False
        self.problem = None
        return True

    def _open(self, study: StudyResult) -> MlflowMirror:
        from search.tracking.mlflow_mirror import MlflowMirror

        mirror = MlflowMirror.open(self._uri, study, self._artifacts, self._check_stopped)
        if self._system_metrics:
            mirror.log_system_metrics()
        self._was_opened = True
        return mirror

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError
