"""What k6 recorded of a flood: the ids the service accepted, and how many requests ended otherwise."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITES_PER_REQUEST = 5
FOUND = -1


@dataclass(slots=True)
class Answers:
    """The recorded outcome of one run. Times in seconds since the epoch, on the clock of the machine that ran k6."""

    # Each accepted id, and its place in its answer until MongoDB was seen to have it, then FOUND: one dictionary for
    # both, as there are millions.
    accepted: dict[str, int] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    requests: int = 0
    read_count: int = 0
    short_reads: int = 0  # accepted answers with fewer documents read than writes, after one that had as many
    # Accepted writes whose id had been given to another accepted write: at most one of them can be stored.
    repeated: list[str] = field(default_factory=list)
    # Requests without a usable answer: each may have stored up to `writes_per_request` documents, or none.
    unknown: int = 0
    refused: int = 0
    started_s: float | None = None
    stopped_s: float | None = None
    is_cut: bool = False  # k6 left no whole end, so nobody knows whether it had asked more
    status_at_start: dict[str, Any] | None = None
    status_at_stop: dict[str, Any] | None = None
    writes_per_request: int = WRITES_PER_REQUEST
    # When each accepted answer came and how long it took, where k6 recorded it: two arrays, as there are millions.
    ends_s: array[float] = field(default_factory=lambda: array("d"))
    took_ms: array[float] = field(default_factory=lambda: array("f"))
    failed_ends_s: array[float] = field(default_factory=lambda: array("d"))
    _was_full: bool = False

    @property
    def writes(self) -> int:
        """Accepted writes, those with a repeated id included."""
        return len(self.accepted) + len(self.repeated)

    @property
    def duration_s(self) -> float:
        """From the first request to the last answer; 0 when the run left no start or no stop."""
        return max(self.stopped_s - self.started_s, 0.0) if self.started_s and self.stopped_s else 0.0

    def ended(self, from_s: float, seconds: float) -> int:
        """Accepted answers that came in `[from_s, from_s + seconds)` of the run, of those recorded with their time."""
        since = (self.started_s or 0.0) + from_s
        return sum(since <= end < since + seconds for end in self.ends_s)

    def take(self, line: str) -> None:
        """Count one recorded line. A line that cannot be understood is a request with unknown outcome."""
        if line.startswith("{"):
            self._accept(line)
        elif line[:1].isdigit():
            self._accept_timed(line)
        elif line.startswith("refused "):
            self.refused += 1
            self._fail(line)
        elif line.startswith("started "):
            _word, at, *more = line.split(" ", 3)
            self.started_s = int(at) / 1000
            self.writes_per_request = int(more[0]) if more else WRITES_PER_REQUEST
            with suppress(ValueError, IndexError):  # a judge can do without it, and says so
                self.status_at_start = json.loads(more[1])
        elif line.startswith("stopped "):
            self._stop(line)
        elif line.strip():
            self.unknown += 1
            self._fail(line)

    def _stop(self, line: str) -> None:
        """The end of the run; a line that is cut short, as a full disk leaves it, is none."""
        with suppress(ValueError):
            _word, at, status = line.split(" ", 2)
            self.stopped_s, self.status_at_stop = int(at) / 1000, json.loads(status)

    def _accept_timed(self, line: str) -> None:
        try:
            at, took, answer = line.split(" ", 2)
            end_s, took_ms = int(at) / 1000, float(took)
        except ValueError:
            self.unknown += 1
            return
        if self._accept(answer):
            self.ends_s.append(end_s)
            self.took_ms.append(took_ms)
        else:
            self.failed_ends_s.append(end_s)

    def _fail(self, line: str) -> None:
        """Remember when a request without a usable answer ended, if its line says so."""
        words = line.split()
        if len(words) == 5 and words[3].isdigit():
            self.failed_ends_s.append(int(words[3]) / 1000)

    def _accept(self, line: str) -> bool:
        try:
            answer = json.loads(line)
            writes, reads = answer["writes"], answer["reads"]
            good = answer["status"] == "success" and len(writes) == self.writes_per_request
            good = good and len(reads) <= len(writes)
            good = good and all(isinstance(identity, str) for identity in (*writes, *reads))
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            self.unknown += 1
            return False
        self.requests += 1
        self.read_count += len(reads)
        self.reads.update(reads)
        is_full = len(set(reads)) == self.writes_per_request  # an empty collection cannot fill one, later it can
        self.short_reads += self._was_full and not is_full
        self._was_full = self._was_full or is_full
        for place, identity in enumerate(writes):
            if identity in self.accepted:
                self.repeated.append(identity)
            else:
                self.accepted[identity] = place
        return True


def read_answers(lines: Iterable[str]) -> Answers:
    """Count every line, one at a time. Raises ValueError when the `started` line is damaged."""
    answers = Answers()
    for line in lines:
        answers.take(line)
    return answers


def load_answers(path: Path) -> Answers:
    """The answers in a file of k6. Raises OSError when it cannot be read, ValueError as `read_answers` does."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return read_answers(lines)
