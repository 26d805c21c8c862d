"""The processes of a run: which part of the service each is, and what CPU and memory each part takes."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass, field

import psutil

RUN_VARIABLE = "SPILLWAY_RUN_ID"  # in the environment of every process of a run
DISCOVERY_S = 3.0
GENERATOR = "k6"
LABORATORY = "laboratory"  # this process: it watches, and asks for the status once a second
LISTENERS = ("Replicas", "HAProxy", "uvicorn")

# The first word found in a command line names the part; order matters, Ray's workers have each other's paths.
_PARTS = (
    ("ray::ServeReplica:hello:", "Hello world"),  # of `limits`
    ("ray::ServeReplica", "Replicas"),
    ("ray::BufferActor", "Buffers"),
    ("ray::MongoWriter", "Writer"),
    ("ray::", "Serve's own actors"),
    ("haproxy", "HAProxy"),
    ("redis-server", "Redis"),
    ("valkey-server", "Redis"),
    ("mongod", "MongoDB"),
    ("ferretdb", "FerretDB"),
    ("witness.py", "Witness"),
    ("gcs_server", "Ray"),
    ("raylet", "Ray"),
    ("ray/dashboard", "Ray"),
    ("ray/_private", "Ray"),
    ("cluster.head", "Serve head"),
    ("cluster up", "make up"),
    ("baselines.drain", "Drain worker"),
    ("baselines.toy_drain", "Drain worker"),
    ("uvicorn", "uvicorn"),
    ("multiprocessing.spawn", "uvicorn"),
)


def part_of(command_line: str) -> str:
    """The part a process belongs to, by its command line."""
    return next((part for word, part in _PARTS if word in command_line), "other")


@dataclass(frozen=True, slots=True)
class Usage:
    """What each part took since the last look: CPU in cores, memory (resident) in bytes, number of processes."""

    cpu_cores: dict[str, float] = field(default_factory=dict)
    rss_bytes: dict[str, int] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    machine_busy: float = 0.0  # share of all cores, 0 to 1


class Watch:
    """Looks at the processes of one run, and at k6. Not thread-safe: one thread looks."""

    def __init__(self, run_id: str | None, roots: tuple[int, ...] = ()) -> None:
        """A process is the run's when its environment says so, or when it is below one of `roots` (process ids).

        Both are needed: Redis writes its title over its environment, and Ray's workers outlive their parents.
        """
        self._run_id = run_id
        self._roots = roots
        self._known: dict[int, tuple[psutil.Process, str]] = {}
        self._spent: dict[int, float] = {}
        self._looked_s = time.monotonic()
        self._discovered_s = float("-inf")
        psutil.cpu_percent()  # from here on

    def follow(self, generator_pid: int) -> None:
        """Look at this k6 too, from its start on, and at the laboratory itself: neither is a stranger."""
        self._known[os.getpid()] = (psutil.Process(), LABORATORY)
        self._known[generator_pid] = (psutil.Process(generator_pid), GENERATOR)

    def look(self) -> Usage:
        """The usage since the last look. A process that came meanwhile counts from the next look on."""
        now = time.monotonic()
        elapsed, self._looked_s = max(now - self._looked_s, 1e-3), now
        if now - self._discovered_s >= DISCOVERY_S:
            self._discover()
            self._discovered_s = now
        cpu_cores: dict[str, float] = defaultdict(float)
        rss_bytes: dict[str, int] = defaultdict(int)
        count: dict[str, int] = defaultdict(int)
        for pid, (process, part) in list(self._known.items()):
            try:
                times, rss = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                del self._known[pid]
                self._spent.pop(pid, None)
                continue
            spent = times.user + times.system
            cpu_cores[part] += (spent - self._spent.get(pid, spent)) / elapsed
            rss_bytes[part] += rss
            count[part] += 1
            self._spent[pid] = spent
        return Usage(dict(cpu_cores), dict(rss_bytes), dict(count), psutil.cpu_percent() / 100)

    def pids(self, *parts: str) -> list[int]:
        """Process ids of these parts."""
        if not self._known:
            self._discover()
        return [pid for pid, (_, part) in self._known.items() if part in parts]

    def _discover(self) -> None:
        """Reading every process' environment is dear; it is done now and then."""
        below = self._below()
        for process in psutil.process_iter():
            if process.pid in self._known and self._known[process.pid][1] not in ("other", "Serve's own actors"):
                continue
            try:
                if process.pid in below or (self._run_id and process.environ().get(RUN_VARIABLE) == self._run_id):
                    self._known[process.pid] = (process, part_of(" ".join(process.cmdline())))
            except psutil.Error:
                continue

    def _below(self) -> set[int]:
        found = set()
        for root in self._roots:
            try:
                process = psutil.Process(root)
                found |= {root, *(child.pid for child in process.children(recursive=True))}
            except psutil.Error:
                continue
        return found
