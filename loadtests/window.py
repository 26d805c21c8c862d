"""The witness' record: one line per command, and the busiest window in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SECOND_NS = 1_000_000_000
WRITING = ("insert", "update", "delete", "findAndModify", "bulkWrite")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One counted command: when its last byte went to the server (monotonic ns, wall-clock s); its size in bytes."""

    monotonic_ns: int
    wall_s: float
    command: str
    size: int

    def line(self) -> str:
        """The record's form: `monotonic_ns wall_s command bytes` and a newline."""
        return f"{self.monotonic_ns} {self.wall_s:.3f} {self.command} {self.size}\n"

    @classmethod
    def parse(cls, line: str) -> Stamp:
        """The stamp in a line of the record. Raises ValueError when it is none."""
        monotonic_ns, wall_s, command, size = line.split(" ")
        return cls(int(monotonic_ns), float(wall_s), command, int(size))


def worst_window(stamps_ns: Sequence[int], window_ns: int = SECOND_NS) -> tuple[int, int]:
    """The largest number of stamps in any half-open window `[s, s + window_ns)`, over **all** real `s`, and where.

    Stamps in any order. Of several windows equally full, the earliest. No stamps: `(0, 0)`. A fullest window can always
    be moved right until it begins at a stamp, so only those need a look. Raises ValueError for an empty window.
    """
    if window_ns <= 0:
        raise ValueError("a window has a positive length")
    ordered = sorted(stamps_ns)
    worst, start, last = 0, 0, 0
    for first, stamp in enumerate(ordered):
        while last < len(ordered) and ordered[last] < stamp + window_ns:
            last += 1
        if last - first > worst:
            worst, start = last - first, stamp
    return worst, start


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a witness saw in a stretch of time: the worst 1 s window (commands), the commands by name, and the bytes of
    those that write."""

    worst: int
    commands: dict[str, int]
    written_bytes: int
    reaches_back: bool = True  # False: what it saw first has been dropped since

    @property
    def total(self) -> int:
        """All counted commands."""
        return sum(self.commands.values())


def traffic(stamps: Iterable[Stamp], since_s: float, until_s: float) -> Traffic:
    """The traffic between two wall-clock times (s since the epoch), both included.

    The wall clock only selects; the windows are measured on the monotonic one.
    """
    inside = [stamp for stamp in stamps if since_s <= stamp.wall_s <= until_s]
    worst, _start = worst_window([stamp.monotonic_ns for stamp in inside])
    written_bytes = sum(stamp.size for stamp in inside if stamp.command in WRITING)
    return Traffic(worst, dict(Counter(stamp.command for stamp in inside).most_common()), written_bytes)


def witnessed(record: Path, since_s: float, until_s: float) -> Traffic:
    """The traffic in a record between two times, and whether the record still reaches back to the first of them.

    Raises OSError, and ValueError as `read_record` does.
    """
    seen = traffic(read_record(record), since_s, until_s)
    older = earlier(record)
    if not older or number_of(older[0]) == 1:
        return seen
    oldest = next(read_record(record), None)
    return replace(seen, reaches_back=oldest is not None and oldest.wall_s <= since_s)


def earlier(record: Path) -> list[Path]:
    """The records before this one, the oldest first: `NAME.1`, `NAME.2` and so on. Those that were dropped leave their
    numbers missing."""
    near = record.parent.iterdir()
    return sorted((path for path in near if path.stem == record.name and path.suffix[1:].isdecimal()), key=number_of)


def number_of(earlier_record: Path) -> int:
    """Its number: the how many-th it is of all that there were."""
    return int(earlier_record.suffix[1:])


def read_record(record: Path) -> Iterator[Stamp]:
    """The stamps of a record and of those before it, so that a witness restarted in mid-run hides nothing.

    A line cut short at the end of a file (the witness was killed there) is passed over; any other line that is no stamp
    raises ValueError, as does a record that does not exist.
    """
    if not record.exists():
        raise ValueError(f"there is no record at {record}")
    for path in (*earlier(record), record):
        with path.open(encoding="ascii", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith("\n"):
                    continue
                try:
                    yield Stamp.parse(line)
                except ValueError as error:
                    raise ValueError(f"{path}:{number} is no stamp: {line[:80]!r}") from error
