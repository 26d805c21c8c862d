"""What `compare` and `scale` put under load: services they start themselves, in folders and on ports of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from cluster.embedded import ports
from loadtests.laboratory import Target
from loadtests.processes import Watch
from loadtests.service import ROOT, ServiceError, is_ready

START_S = 300.0
STOP_S = 120.0
RECOVERY_S = 120.0
PATIENCE_S = 15.0  # with a program that is told to end


# What the service takes for settings beside SPILLWAY_*: in the shell of somebody who has a MongoDB of his own, they
# would lead a comparison into it.
SETTINGS = ("BATCH_SIZE", "BATCH_TIMEOUT_MS", "CACHE_TTL", "MAX_QUEUE_SIZE", "MONGODB_URI", "MONGO_URI", "REDIS_URL")


def inherited() -> dict[str, str]:
    """This process' environment without anybody's settings of a service: those of a contender are the laboratory's."""
    return {
        name: value for name, value in os.environ.items() if name not in SETTINGS and not name.startswith("SPILLWAY_")
    }


class Contender(Protocol):
    """A service that can be started, killed as a crash would, and stopped."""

    name: str
    about: str

    def start(self) -> Target:
        """Start on empty data; returns when it is ready. Raises ServiceError with the end of its output."""

    def kill(self) -> None:
        """`kill -9` of everything that answers, keeps or drains; MongoDB stays."""

    def recover(self) -> None:
        """Start what does not start by itself, on the same data; returns when it is ready. Raises ServiceError."""

    def stop(self) -> None:
        """End it; its data stay in the folder."""


def free_port() -> int:
    """A port nobody listens on now, and none that the kernel gives to a connection before it is used."""
    return ports.free_port(0)


def kill(pids: list[int]) -> None:
    """`kill -9` each process that still lives, and wait until they are gone."""
    victims = []
    for pid in pids:
        try:
            victims.append(psutil.Process(pid))
            os.kill(pid, signal.SIGKILL)
        except (psutil.Error, ProcessLookupError):
            continue
    psutil.wait_procs(victims, timeout=10.0)


def pids_of(target: Target, *parts: str) -> list[int]:
    """The processes of a target that are these parts, as they are now."""
    return Watch(target.run_id, target.roots).pids(*parts)


def kill_parts(target: Target, *parts: str) -> None:
    """`kill -9` every process of these parts. Raises ServiceError when a part has none: that would prove nothing."""
    found = {part: pids_of(target, part) for part in parts}
    missing = [part for part, pids in found.items() if not pids]
    if missing:
        raise ServiceError(f"{target.name} has no process that is its {', '.join(missing)}, so it cannot be killed")
    kill([pid for pids in found.values() for pid in pids])


def await_ready(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Return when `/readyz` answers 200. Raises ServiceError when it does not, or the process has ended."""
    deadline = time.monotonic() + timeout_s
    while not is_ready(url, 1.0):
        if process.poll() is not None:
            raise ServiceError(f"it ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise ServiceError(f"{url}/readyz did not answer 200 within {timeout_s:.0f} s:\n{tail(log)}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would end this process do nothing in the block: what it ends must not stay behind half ended.

    For the main thread. Children find the signals as they were; those in a session of their own do not see Ctrl-C.
    """
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ends}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_all(programs: Sequence[Program]) -> None:
    """SIGTERM to each, the last one first, and the end of each that does not heed it; one's failure keeps no other."""
    with ExitStack() as stopping:
        for program in programs:
            stopping.callback(program.stop, signal.SIGTERM, PATIENCE_S)


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else ""


@dataclass(slots=True)
class Program:
    """A program of a contender: how it is started, and where its output goes."""

    command: list[str]
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, away from this terminal's Ctrl-C: who started it ends it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**inherited(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: int, patience_s: float) -> None:
        """Ask it to end, then end it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
