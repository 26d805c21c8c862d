"""`kill -9` of a contender in the midst of its load, on a thread beside it, and its recovery."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.contender import Contender
from loadtests.service import ServiceError

POLL_S = 0.05
_STARTED = b"started "  # with this k6's record begins, right before the first request


@dataclass(slots=True)
class Strike:
    """One kill, `after_s` after the load began, which k6's `record` tells. Use it in a `with` around the load.

    A record of an earlier run is removed: its beginning is not this load's.
    """

    contender: Contender
    record: Path
    after_s: float
    killed_s: float | None = None  # s since the epoch, when everything was dead
    back_s: float = 0.0  # from the kill until it was ready again
    failed: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Strike:
        self.record.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self.run, name="kill")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def wait(self) -> None:
        """For the end of the load: a kill that has not begun is left out, one that has is waited for."""
        self.over.set()
        if self._thread is not None:
            self._thread.join()

    def run(self) -> None:
        """Wait for the load, kill, recover."""
        while not self._is_begun():
            if self.over.wait(POLL_S):
                return
        if self.over.wait(self.after_s):
            return
        began = time.monotonic()
        try:
            self.contender.kill()
            self.killed_s = time.time()
            self.contender.recover()
        except Exception as error:  # told by `check`, on the thread that may raise it
            self.failed = error
        self.back_s = time.monotonic() - began

    def check(self, load_ended_s: float) -> None:
        """Raises ServiceError when it did not come back, or when the kill was not under load, which proves nothing."""
        name = self.contender.name
        if self.failed is not None:
            raise ServiceError(f"{name} did not come back: {self.failed}") from self.failed
        if self.killed_s is None:
            raise ServiceError(f"{name} was not killed, its load ended before: {self.record} and k6.log beside it")
        if self.killed_s > load_ended_s:
            late = f"{name} was dead only {self.killed_s - load_ended_s:.1f} s after its load had ended"
            raise ServiceError(f"{late}, so nothing was tried: give it more --seconds")

    def _is_begun(self) -> bool:
        try:
            with self.record.open("rb") as lines:
                return lines.read(len(_STARTED)) == _STARTED
        except FileNotFoundError:
            return False
