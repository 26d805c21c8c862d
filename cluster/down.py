"""Stopping a run, cleaning up after one that was killed, and removing what runs leave on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
from rich.console import Console
from rich.markup import escape

from cluster import board
from cluster.embedded.steps import Steps
from cluster.reaper import clear_leftovers
from cluster.state import Record, StateFolder
from cluster.terminal import UNREADABLE, unusable

DELETE = "delete"
"""What has to be typed before data is deleted."""


def down(folder: StateFolder, console: Console) -> int:
    """Asks a living run to stop as Ctrl-C would, cleans up after a dead one. Returns the exit code: 1 if it resists."""
    record = folder.load()
    try:
        unreadable = record is None and folder.is_locked()
    except OSError as error:
        console.print(f"[red]{escape(unusable(error))}[/red]", soft_wrap=True)
        return 1
    if unreadable:
        console.print(UNREADABLE, soft_wrap=True)
        return 1
    if record is None:
        console.print(f"Nothing to clean up.{_left(folder)}", soft_wrap=True)
        return 0
    lived = record.owner.lives()
    if lived and not _stopped(record, console):
        return 1
    lock = folder.lock()
    if lock is None:
        console.print("Another run has begun meanwhile; it is left alone.")
        return 1
    with lock:
        clear_leftovers(folder, console)
    console.print(f"{'Stopped.' if lived else 'Clean now.'}{_left(folder)}", soft_wrap=True)
    return 0


def clean(folder: StateFolder, console: Console, data: bool, ask: Callable[[str], str] = input) -> int:
    """Removes logs and run files, and the data as well if the user says so. Returns the exit code: 1 if it did not."""
    try:
        if not folder.path.exists():
            return 0
        folder.run.mkdir(mode=0o700, exist_ok=True)
        lock = folder.lock()  # held while the user thinks: nothing is taken away from under a run that begins meanwhile
    except OSError as error:
        console.print(f"[red]{escape(unusable(error))}[/red]", soft_wrap=True)
        return 1
    if lock is None:
        console.print("A Spillway runs here; stop it first: make down")
        return 1
    with lock:
        if data and not _agreed(folder, console, ask):
            console.print("Nothing was deleted.")
            return 1
        try:
            for path in (folder.logs, folder.run, folder.sockets, *([folder.data] if data else [])):
                if path.exists():
                    shutil.rmtree(path)
        except OSError as error:
            console.print(f"[red]It cannot be removed: {escape(str(error))}[/red]", soft_wrap=True)
            return 1
    return 0


def _agreed(folder: StateFolder, console: Console, ask: Callable[[str], str]) -> bool:
    text = (
        f"{folder.data} holds the log with writes that were accepted and may not be in MongoDB yet, the dead letters, "
        f"and all data of a MongoDB that `make up` has brought.{_left(folder)}"
    )
    console.print(escape(text), soft_wrap=True)
    try:
        return ask(f"Type {DELETE} to delete it for ever: ").strip() == DELETE
    except EOFError:
        return False


def _stopped(record: Record, console: Console) -> bool:
    """Asks the run to stop, unless it does so already, and waits. Says what to do when it takes too long."""
    with suppress(psutil.NoSuchProcess):  # it has ended just now
        owner = psutil.Process(record.owner.pid)
        if record.state != "draining":  # a second request would make it skip the drain
            owner.terminate()
        owner.resume()  # one that Ctrl-Z has stopped would hear of it only when somebody has it go on
    pid, deadline = record.owner.pid, time.monotonic() + record.stop_s
    how = f"How far it is: make status. To skip the drain: kill {pid}; the next `make up` stores what is left."
    console.print(how, soft_wrap=True)
    with Steps(console).step(f"Stopping the run of pid {pid}: it drains first") as tick:
        while record.owner.lives() and time.monotonic() < deadline:
            tick()
            time.sleep(0.2)
    if not record.owner.lives():
        return True
    console.print(f"It has not stopped in {record.stop_s:.0f} s and may still be draining. {how}", soft_wrap=True)
    return False


def _left(folder: StateFolder) -> str:
    left = board.left(folder.left())
    return left and f" {left}"
