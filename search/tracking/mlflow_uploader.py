"""Carries a search to MLflow from a thread of its own, so that the search never waits for it.

The study's database is the spool: what is carried was recorded there first, and whatever MLflow does not take is still
there for a later try, the next start, or `python -m search.sync`.
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
    from search.tracking.mlflow_mirror import End, MlflowMirror

START_S = 15.0
"""Seconds for which a search leaves the cores to the start of Ray and of the first trials: MLflow takes some of them to
import and to set up a database."""
EVERY_S = 2.0
"""Seconds between two deliveries: what trials report meanwhile goes in one."""
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""The first pause after a failure and the longest; each is twice the one before."""
FIRST_S, DOWN_S = 15.0, 2.0
"""At the end, how long a store is waited for that was never reached yet, and one that failed at the last try."""


class _StoppedError(Exception):
    """The search has ended, and nobody waits for the rest."""


class MlflowUploader:
    """Keeps MLflow up with a study: `changed` and `tick` cost next to nothing and never wait."""

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        folder: Path,
        read: Callable[[], StudyResult],
        watches_machine: bool = False,
        start_s: float = 0.0,
    ) -> None:
        """`read` returns the study as it stands; it is called in the caller's thread only.

        The store is opened after `start_s` seconds, or when the search ends before.
        """
        self.problem: str | None = None
        self._uri = uri
        self._artifacts = artifacts
        self._folder = folder
        self._read = read
        self._watches_machine = watches_machine
        self._is_changed = self._is_told = self._is_open = self._is_free = False
        self._due = 0.0
        self._start_s = start_s
        self._is_begun, self._enough = threading.Event(), threading.Event()
        self._queue: queue.Queue[tuple[StudyResult, End | None] | None] = queue.Queue()
        self._queue.put((read(), None))
        self._thread = threading.Thread(target=self._work, daemon=True, name="mlflow")
        self._thread.start()

    def mark_changed(self) -> None:
        """Takes note that there is something to deliver."""
        self._is_changed = True

    def tick(self) -> str | None:
        """Hands over what is due when the thread is free to take it; returns what to tell the user, once."""
        if self._is_changed and self._is_free and time.monotonic() >= self._due:
            self._is_changed = self._is_free = False
            self._due = time.monotonic() + EVERY_S
            self._queue.put((self._read(), None))
        if self.problem is None or self._is_told:
            return None
        self._is_told = True
        return f"{self.problem}. The search goes on, and this is tried again from time to time"

    def finish(self, end: End, timeout_s: float) -> str | None:
        """Delivers the study as it ended, and waits for at most so long; returns what to tell the user of the rest."""
        self._queue.put((self._read(), end))
        self._is_begun.set()
        patience = DOWN_S if self.problem is not None else timeout_s if self._is_open else FIRST_S
        self._thread.join(min(timeout_s, patience))
        if self._thread.is_alive():
            self.problem = self.problem or f"MLflow is not done: {redact(self._uri)} did not take everything in time"
        self.stop()
        if self.problem is None:
            return None
        command = f"python -m search.sync {shlex.quote(str(self._folder))}"
        return f"{self.problem}. Nothing is lost: the next start delivers what is missing, or {command}"

    def stop(self) -> None:
        """Delivers no more."""
        self._enough.set()
        self._is_begun.set()
        self._queue.put(None)

    def _work(self) -> None:
        mirror: MlflowMirror | None = None
        pause = PAUSE_S
        self._is_begun.wait(self._start_s)
        load = self._queue.get()
        while load is not None and not self._enough.is_set():
            study, end = load
            try:
                mirror = mirror or self._open(study)
                if end is not None:
                    mirror.finish(study, self._folder, end)
                else:
                    mirror.write(study)
            except _StoppedError:
                return
            except Exception as error:  # whatever the store does must leave the search alone
                if mirror is not None:
                    mirror.close()
                mirror = None
                self.problem = f"MLflow cannot be written: {redact(self._uri)}: {redact(root_cause(error))}"
                if end is not None:
                    return
                with suppress(queue.Empty):  # the end of the search, which cuts the pause short
                    load = self._queue.get(timeout=pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self.problem, pause = None, PAUSE_S
                if end is not None:
                    return
                self._is_free = True
                load = self._queue.get()

    def _open(self, study: StudyResult) -> MlflowMirror:
        from search.tracking.mlflow_mirror import MlflowMirror

        mirror = MlflowMirror.open(self._uri, study, self._artifacts, self._check)
        if self._watches_machine:
            mirror.watch_machine()
        self._is_open = True
        return mirror

    def _check(self) -> None:
        if self._enough.is_set():
            raise _StoppedError
