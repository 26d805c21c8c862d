"""What a power cut leaves of Redis' file, and what of the acknowledged writes is in it.

strace tells which bytes each fdatasync covered and when it ended, so the file as any moment would have left it can be
made afterwards: it is its beginning, up to that length. A Redis started on such a copy is asked for the writes that had
been acknowledged when the power went.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from cluster.embedded import ports, redis_server
from cluster.embedded.child import Child
from tests.acceptance.disk import Strace, append_only_file, synced_at, syncs_of

CUTS = 5
TRACE = ("-ttt", "-T", "-y", "-e", "trace=write,fdatasync", "-s", "0")


@dataclass
class Trace:
    """Redis' writes and syncs; the lines are there when the block has ended."""

    before: int  # size of its file when the trace began
    lines: list[str] = field(default_factory=list)

    def left(self, when_s: float) -> int:
        """How much of the file a power cut at this moment (wall clock) surely leaves."""
        return synced_at(syncs_of(self.lines, self.before), when_s, self.before)


@contextmanager
def traced(redis_pid: int, output: Path, source: Path) -> Iterator[Trace]:
    """Traces the Redis whose file is in `source`.

    It stands still until the trace has begun: it also writes by itself, and a lease renewed between the look at the
    file's size and the first traced write would shift every cut by as much.
    """
    process = psutil.Process(redis_pid)
    process.suspend()
    try:
        strace = Strace(redis_pid, output, *TRACE)
        trace = Trace(append_only_file(source).stat().st_size)
    finally:
        process.resume()
    yield trace
    strace.stop()
    trace.lines += output.read_text().splitlines()


def losses(acknowledged: Mapping[str, float], trace: Trace, source: Path, room: Path, seed: int) -> list[int]:
    """How many writes are missing after each of some power cuts, every one right behind an answer.

    `acknowledged`: when each write was (wall clock, s), by a text that is in it and in no other.
    """
    content = append_only_file(source).read_bytes()
    lost = []
    for when_s in random.Random(seed).sample(sorted(acknowledged.values()), CUTS):
        left = room / f"{when_s}"
        left.mkdir(parents=True)
        # under the name that Redis 6 and 7 both look for
        (left / "appendonly.aof").write_bytes(content[: trace.left(when_s)])
        held = held_by(left)
        lost.append(sum(at_s <= when_s and text.encode() not in held for text, at_s in acknowledged.items()))
    return lost


def held_by(folder: Path) -> bytes:
    """Everything in the streams of a Redis started on the append-only file in `folder`."""
    port = ports.free_port(0)
    child = Child(redis_server.recipe(redis_server.find(folder), port, folder, folder / "redis.log", 1 << 29))
    child.start()
    try:
        child.await_ready()
        with redis.Redis.from_url(redis_server.address(port)) as client:
            entries = [fields for key in client.scan_iter("*:stream:*") for _, fields in client.xrange(key)]
            return b"".join(value for fields in entries for value in fields.values())
    finally:
        child.stop()
