"""What is looked at once a second while k6 runs: processes, the service's status, the requests recorded so far."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from loadtests.processes import Usage, Watch
from loadtests.service import backlog_of, get_json

PERIOD_S = 1.0


@dataclass(slots=True)
class Sample:
    """One look. `at_s`: s since the epoch; backlog in writes; lag in s; None where the service does not tell."""

    at_s: float
    usage: Usage
    requests: int = 0  # lines recorded since the start
    backlog: int | None = None
    lag_s: float | None = None


@dataclass(slots=True)
class Sampler:
    """Takes samples in a thread of its own until it is stopped, and writes each to `record` at once, one JSON object a
    line: whatever becomes of the judge, they are kept. Use it in a `with`.

    When it cannot go on there are no more samples, and `unwatched` says since when and why."""

    watch: Watch
    status_url: str | None
    answers: Path
    record: Path
    seen: list[Sample] = field(default_factory=list)
    unwatched: str | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _read: int = 0
    _lines: int = 0

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take no more samples; once is enough."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # whatever it is: the run goes on, and its report must not look as if all was seen
            watched_s = self.seen[-1].at_s - self.seen[0].at_s if self.seen else 0.0
            self.unwatched = f"not watched after {watched_s:.0f} s ({type(error).__name__}: {error})"

    def _watch(self) -> None:
        due = time.monotonic()
        with self.record.open("w", encoding="utf-8", buffering=1) as lines:
            while True:
                sample = self.take()
                self.seen.append(sample)
                lines.write(json.dumps(asdict(sample)) + "\n")
                due = max(due + PERIOD_S, time.monotonic())
                if self._stop.wait(due - time.monotonic()):
                    return

    def take(self) -> Sample:
        """Look once."""
        status = get_json(f"{self.status_url}/v1/status", 2.0) if self.status_url else None
        return Sample(time.time(), self.watch.look(), self._count(), backlog_of(status), _lag(status))

    def _count(self) -> int:
        """Lines k6 has recorded; only what is new is read."""
        try:
            with self.answers.open("rb") as record:
                record.seek(self._read)
                while chunk := record.read(1 << 20):
                    self._read += len(chunk)
                    self._lines += chunk.count(b"\n")
        except FileNotFoundError:
            pass
        return self._lines


def _lag(status: dict[str, Any] | None) -> float | None:
    """Age of the oldest write not yet stored (s); None when the status does not tell."""
    lag = (status or {}).get("lag_s")
    return float(lag) if isinstance(lag, int | float) else None


def within(seen: Sequence[Sample], since_s: float, until_s: float) -> list[Sample]:
    """Those whose whole stretch, from the look before to their own, lies between two times (s since the epoch)."""
    return [now for before, now in pairwise(seen) if since_s <= before.at_s and now.at_s <= until_s]
