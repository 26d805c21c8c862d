"""Faults of the disk below Redis: a small one, a slow one, a broken one; and what was synced when.

strace (Debian: `apt-get install strace`) stands between Redis and its disk, and needs the right to trace other
processes; a small disk is a tmpfs, and needs the right to mount.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.acceptance.service import Service

ATTACH_S = 20.0


def need_strace() -> str:
    """The program. Skips without it, in CI too: it is the machine's to have, `.ci/run` only tries."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed: apt-get install strace")
    return found


def need_root() -> None:
    """Mounting needs it. Skips without it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk: run as root, or in a user namespace with a mount of its own")


class Strace:
    """One strace on one process, until `stop` or until the process ends."""

    def __init__(self, pid: int, output: Path, *options: str) -> None:
        self.output = output
        command = [need_strace(), "-f", "-p", str(pid), "-o", str(output), *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + ATTACH_S
        while not self._traces(pid):
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                said = self._process.stderr.read().strip()
                if " attached" in said:
                    return  # and what it did to the process has ended that already, between two looks
                pytest.skip(f"strace may not trace: {said}")
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.02)

    def _traces(self, pid: int) -> bool:
        try:
            return f"TracerPid:\t{self._process.pid}" in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    def stop(self) -> None:
        """Let go of the process; it runs on unharmed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=ATTACH_S)


@dataclass(frozen=True)
class Sync:
    """An fdatasync of the append-only file that has ended: when (wall clock, s), and what it made durable (bytes)."""

    at_s: float
    size: int


def synced_at(syncs: list[Sync], when_s: float, size_before: int) -> int:
    """How much of the file a power cut at `when_s` surely leaves; `size_before` is what was there before the first."""
    return max((sync.size for sync in syncs if sync.at_s <= when_s), default=size_before)


_LINE = re.compile(r"^(?P<thread>\d+) +(?P<at>\d+\.\d+) (?P<what>.*)$")
_BEGUN = re.compile(r"^(?P<call>write|fdatasync)\(\d+<(?P<path>[^>]*)>")
_RESUMED = re.compile(r"^<\.\.\. (?P<call>write|fdatasync) resumed>")
_ENDED = re.compile(r" = (?P<result>-?\d+)[^<]*<(?P<lasted>\d+\.\d+)>$")


def syncs_of(trace: list[str], size_before: int) -> list[Sync]:
    """What `strace -f -ttt -T -y -e trace=write,fdatasync` saw of the append-only file.

    A sync covers what was written before it *began*; it holds from its *end* on.
    """
    size = size_before
    begun: dict[str, tuple[str, float, int]] = {}  # thread -> call, when it began, size of the file then
    syncs: list[Sync] = []
    for line in trace:
        found = _LINE.match(line)
        if not found:
            continue
        thread, at_s, what = found["thread"], float(found["at"]), found["what"]
        first = _BEGUN.match(what)
        if first and ".aof" in first["path"]:
            begun[thread] = (first["call"], at_s, size)
        elif not (_RESUMED.match(what) and thread in begun):
            continue
        ended = _ENDED.search(what)
        if not ended:
            continue  # its end is another line
        call, began_s, before = begun.pop(thread)
        result = int(ended["result"])
        if call == "write" and result > 0:
            size += result
        elif call == "fdatasync" and result == 0:
            syncs.append(Sync(began_s + float(ended["lasted"]), before))
    return syncs


def append_only_file(folder: Path) -> Path:
    """The file that grows: `appendonly.aof`, or the last increment of a Redis 7."""
    found = [path for path in folder.rglob("*.aof") if not path.name.endswith(".base.aof")]
    assert found, f"no append-only file in {folder}"
    return max(found, key=lambda path: path.stat().st_mtime_ns)


@contextmanager
def down(service: Service) -> Iterator[Path]:
    """Redis is killed and nobody starts it again before the block ends; yields its data folder."""
    up = psutil.Process(service.process.pid)
    redis = service.part("Redis")
    up.suspend()
    try:
        redis.kill()
        deadline = time.monotonic() + ATTACH_S
        while redis.is_running() and redis.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "Redis survived kill -9"
            time.sleep(0.02)
        yield data_folder(service)
    finally:
        up.resume()


def data_folder(service: Service) -> Path:
    """Where the run's own Redis keeps its files."""
    return service.state / "data" / "redis"


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A tmpfs of that size on `folder`; yields how to give it another size."""
    need_root()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "spillway-test", str(folder)], check=True)

    def resize(size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
