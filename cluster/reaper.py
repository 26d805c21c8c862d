"""Finds every process of a run, whoever its parent is now, and ends exactly those.

Each part is started as leader of its own session, with the run's id in its environment. Ray's workers keep the session
but may lose the readable environment (they rewrite their title over it), so a process belongs to the run when its
environment carries the id or when it is in the session of one that does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from rich.console import Console

from cluster.state import StateFolder

RUN_VARIABLE = "SPILLWAY_RUN_ID"


def find(run_id: str, sessions: Iterable[int] | None = None) -> list[psutil.Process]:
    """The processes of run `run_id`, without this one; only those of the given sessions when some are given."""
    marked: list[psutil.Process] = []
    others: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid != os.getpid():
            (marked if _carries(process.pid, run_id) else others).append(process)
    own = _session(os.getpid())
    ours = {session for process in marked if (session := _session(process.pid)) not in (None, own)}
    if sessions is not None:
        ours &= set(sessions)
        marked = [process for process in marked if _session(process.pid) in ours]
    return marked + [process for process in others if _session(process.pid) in ours]


def end(processes: Iterable[psutil.Process], grace_s: float = 5.0) -> int:
    """SIGTERM, then SIGKILL after `grace_s`. Returns how many lived; psutil checks each one's start time first."""
    living = [process for process in processes if _lives(process)]
    for process in living:
        _try(process.terminate)
    _, stubborn = psutil.wait_procs(living, timeout=grace_s)
    for process in stubborn:
        _try(process.kill)
    psutil.wait_procs(stubborn, timeout=grace_s)
    return len(living)


def clear_leftovers(folder: StateFolder, console: Console) -> int:
    """Ends what a killed run has left and forgets it; the caller holds the folder's lock. Returns how many it ended."""
    record = folder.load()
    if record is None:
        return 0
    ended = end(find(record.run_id))
    folder.forget()
    if ended:
        console.print(f"  ended {ended} processes of a run that did not stop by itself")
    return ended


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # ended between the two questions
        return False


def _try(action: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        action()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _carries(pid: int, run_id: str) -> bool:
    try:
        return f"{RUN_VARIABLE}={run_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return False
