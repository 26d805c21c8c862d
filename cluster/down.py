"""Cleaning up after a run that was killed."""

from __future__ import annotations

import time

import psutil
from rich.console import Console

from cluster.embedded.steps import Steps
from cluster.reaper import clear_leftovers
from cluster.state import StateFolder

OWNER_TIMEOUT_S = 150.0


def down(folder: StateFolder, console: Console) -> int:
    """Asks a living run to stop as Ctrl-C would, cleans up after a dead one. Returns the exit code: 1 if it resists."""
    record = folder.load()
    if record is None:
        console.print("Nothing to clean up.")
        return 0
    if record.owner.lives():
        psutil.Process(record.owner.pid).terminate()
        deadline = time.monotonic() + OWNER_TIMEOUT_S
        with Steps(console).step(f"Stopping the run of pid {record.owner.pid}: it drains first") as tick:
            while record.owner.lives() and time.monotonic() < deadline:
                tick()
                time.sleep(0.2)
        if record.owner.lives():
            console.print(f"It has not stopped in {OWNER_TIMEOUT_S:.0f} s: kill -9 {record.owner.pid}; make down")
            return 1
    lock = folder.lock()
    if lock is None:
        console.print("Another run has begun meanwhile; it is left alone.")
        return 1
    with lock:
        ended = clear_leftovers(folder, console)
    console.print("Clean." if ended == 0 else "Clean now.")
    return 0
