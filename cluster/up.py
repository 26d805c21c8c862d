"""A run from start to stop, in the foreground: brings the parts, looks after them, drains, ends what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from cluster import board, reaper, telegraph
from cluster.embedded.child import Child, Recipe, State, tail
from cluster.embedded.steps import Steps, is_alive
from cluster.parts import HEAD, WITNESS, Parts
from cluster.ray_environment import client_environment
from cluster.settings import Settings
from cluster.state import PROJECT_ROOT, Process, Record, StateFolder
from cluster.terminal import silence, unusable
from cluster.welcome import welcome

TICK_S = 0.25
SAMPLE_S = 1.0
PLAIN_LINE_S = 10.0
"""Seconds between status lines when the output is no terminal."""
DRAIN_MARGIN_S = 40.0
"""For the drain's process to import Ray and join it, which takes long on a busy machine, and for its answers."""
PARTS_STOP_S = 100.0
"""Longest that all parts take to end, one after the other."""


class CannotStart(RuntimeError):
    """Something outside of the run is in its way; the message says what, and what to do."""


class StopRequested(Exception):
    """Ctrl-C or SIGTERM arrived while the parts were still starting."""


class Run:
    """One `up`: `start`, `watch`, `stop`, in this order; `stop` also after a failed or interrupted start."""

    def __init__(self, settings: Settings, folder: StateFolder, console: Console) -> None:
        owner = Process.of(os.getpid())
        assert owner is not None
        self.record = Record(run_id=uuid.uuid4().hex, owner=owner)
        self._settings = settings
        self._folder = folder
        self._console = console
        self._steps = Steps(console, self._interruptible)
        self._parts = Parts(settings, folder, self.record, self._steps)
        self._children: list[Child] = []
        self._backlog: int | None = None  # the last one that was known
        self._stops = 0
        # The drain itself, then the writer that lets its lease go.
        self._drain_s = settings.drain_timeout_s + settings.mongodb_timeout_s + DRAIN_MARGIN_S
        self.record.stop_s = self._drain_s + PARTS_STOP_S

    def listen_for_signals(self) -> None:
        """From here on Ctrl-C, SIGTERM and SIGHUP (a closed terminal) ask for a stop instead of ending the process.

        A SIGHUP that is ignored, as under nohup, stays so.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def start(self, witness: bool | None) -> None:
        """Brings every part up to a service that has its log; `witness` None means: when MongoDB is ours.

        Raises `CannotStart`, `Unsuitable`, `ChildFailed`, `NoRedisServer`, `NoMongoServer`, `BuildFailed`, `OSError` or
        `StopRequested`.
        """
        parts = self._parts
        parts.claim_public_port()
        self._save("starting")  # from here on `make down` finds the run, also while a tool is built
        self._provide("Redis", parts.redis())  # before a MongoDB may be built, for minutes: its port is free now
        mongodb = parts.mongodb()
        self._provide("MongoDB", mongodb)
        if witness and mongodb is None:
            raise CannotStart("The witness stands before a MongoDB of ours, and your settings name one: --no-witness")
        if mongodb is not None and witness is not False:
            if WITNESS.exists():
                self._bring(parts.witness(urlsplit(self.record.mongodb_uri).port or 0), "Starting the witness")
            elif witness:
                raise CannotStart(f"{WITNESS} is missing")
        try:
            head = parts.head()
        except ValueError as error:
            raise CannotStart(str(error)) from None
        parts.tell_of_another_log()
        self._folder.note_left(None, parts.log)  # writes are accepted from here on; if it is killed, nobody knows
        self._bring(head, "Starting Ray and Serve (15 to 30 s)")
        parts.ask_direct_port()
        self._save("running")

    def watch(self) -> None:
        """Shows the live line and restarts what dies, until a stop is asked for."""
        welcome(self._console, self.record, self._folder)
        sampled, printed = 0.0, time.monotonic()
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            while not self._stops:
                self._tend()
                now = time.monotonic()
                if now - sampled >= SAMPLE_S:
                    sampled = now
                    line = self._sample()
                    live.update(line)
                    if not is_alive(self._console) and now - printed >= PLAIN_LINE_S:
                        printed = now
                        self._console.print(line, soft_wrap=True)
                time.sleep(TICK_S)

    def stop(self) -> int | None:
        """Drains, then ends everything the run has started, last first. Returns how many writes it has left in the log,
        None when nobody knows."""
        left: int | None = 0
        head = next((child for child in self._children if child.name == HEAD), None)
        if head is not None:
            try:
                left = self._drain() if head.state is State.RUNNING else None
            except OSError as error:  # whatever happens, the parts are ended
                self._event(f"the drain could not begin: {error}")
                left = self._backlog
            self._keep(lambda: self._folder.note_left(left, self._parts.log))
        for child in reversed(self._children):
            if child.state is not State.STOPPED:
                with self._steps.step(f"Stopping {child.name}"):
                    child.stop()
        strays = reaper.end(reaper.find(self.record.run_id))
        if strays:
            self._steps.note(f"ended {strays} processes that had outlived their parents")
        self._keep(self._folder.forget)
        self._parts.release()
        return left

    def _provide(self, what: str, recipe: Recipe | None) -> None:
        self._interruptible()
        if recipe is not None:
            self._bring(recipe, f"Starting {recipe.name}")
        else:
            self._steps.note(f"{what} is the one your settings name")

    def _bring(self, recipe: Recipe, title: str) -> None:
        child = Child(recipe)
        self._children.append(child)
        with self._steps.step(title) as tick:
            child.start()
            self._save("starting")

            def meanwhile() -> None:
                tick()
                self._tend(besides=child)

            child.await_ready(meanwhile)

    def _tend(self, besides: Child | None = None) -> None:
        """Lets every child do what is due, shows what happened, and keeps the record's process ids true."""
        before = [child.pid for child in self._children]
        for child in self._children:
            for event in child.tend() if child is not besides else []:
                self._event(event)
        if [child.pid for child in self._children] != before:
            self._save(self.record.state)

    def _event(self, text: str) -> None:
        self._console.print(f"[yellow]![/yellow] {time.strftime('%H:%M:%S')} {escape(text)}", soft_wrap=True)

    def _sample(self) -> Text:
        waiting = [child.name for child in self._children if child.state is not State.RUNNING]
        return board.line(self._status(), f"restarting {', '.join(waiting)}" if waiting else "")

    def _status(self, timeout_s: float = 1.5) -> dict[str, Any] | None:
        status = telegraph.status(self.record.http_url, timeout_s)
        writes = board.number(status, "backlog", "writes")
        self._backlog = self._backlog if writes is None else int(writes)
        return status

    def _drain(self) -> int | None:
        """Runs `python -m cluster drain` and shows the backlog until it ends, is out of time, or Ctrl-C comes again."""
        self._save("draining")
        self._stops = 1
        self._status()
        log = self._folder.logs / "drain.log"
        environment = {
            **os.environ,
            **client_environment(str(self.record.ray_token_file), str(self.record.ray_address)),
            "SPILLWAY_STATE_DIR": str(self._folder.path),  # there it finds this run, whatever the files say by now
            reaper.RUN_VARIABLE: self.record.run_id,
        }
        outcome, deadline = "", time.monotonic() + self._drain_s
        self._console.print(f"Draining: at most {self._settings.drain_timeout_s:g} s; Ctrl-C again skips it")
        with log.open("wb") as output, Live(console=self._console, refresh_per_second=4, transient=True) as live:
            drain = subprocess.Popen(
                [sys.executable, "-m", "cluster", "drain", "--timeout", str(self._settings.drain_timeout_s)],
                cwd=PROJECT_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            while drain.poll() is None:
                self._tend()
                live.update(self._drain_line())
                if self._stops > 1 or time.monotonic() > deadline:
                    outcome = "skipped" if self._stops > 1 else "not finished in time"
                    drain.kill()
                    drain.wait()
                    break
                time.sleep(TICK_S)
        left = drained_to(tail(log, 3))
        if left is None:  # then the last number the service told is the best we have
            left = self._backlog
            self._event(f"the drain was {outcome or 'broken off'}, log: {log}")
        elif left == 0:
            self._console.print("[green]✓[/green] Drained")
        return left

    def _drain_line(self) -> Text:
        self._status(timeout_s=0.5)
        return Text(f"draining: {board.count(self._backlog)} writes left")

    def _save(self, state: str) -> None:
        self.record.state = state
        found = {child.name: Process.of(child.pid) for child in self._children if child.pid is not None}
        self.record.parts.update({name: process for name, process in found.items() if process is not None})
        self._keep(lambda: self._folder.save(self.record))

    def _keep(self, note: Callable[[], None]) -> None:
        """What is kept for other programs to read is not worth a run, which a full disk would end."""
        try:
            note()
        except OSError as error:
            self._event(f"make status and make down may say what is no longer true: {error}")

    def _interruptible(self) -> None:
        if self._stops:
            raise StopRequested

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # of one closed terminal several may come, and none of them means: skip the drain
            silence()
            self._stops = max(1, self._stops)
        else:
            self._stops += 1


def up(settings: Settings, folder: StateFolder, console: Console, witness: bool | None) -> int:
    """Runs until Ctrl-C. Returns the exit code: 0 after a clean stop, 1 when it could not start."""
    try:
        folder.create()
        lock = folder.lock()
    except OSError as error:
        console.print(f"[red]{escape(unusable(error))}[/red]", soft_wrap=True)
        return 1
    if lock is None:
        other = folder.load()
        where = f" ({other.http_url or 'just starting'}, pid {other.owner.pid})" if other else ""
        console.print(f"Spillway is running already{where}. Its addresses: make status", soft_wrap=True)
        return 1
    with lock, folder.kept():
        reaper.clear_leftovers(folder, console)
        run = Run(settings, folder, console)
        run.listen_for_signals()
        code = 0
        try:
            run.start(witness)
            run.watch()
        except StopRequested:
            console.print("Stopped before it was ready.")
        except (RuntimeError, OSError) as error:  # CannotStart, ChildFailed and the like; a full disk
            remedy = "\nWhat is lacking: make doctor" if isinstance(error, OSError) else ""
            console.print(f"[red]{escape(str(error))}{remedy}[/red]", soft_wrap=True)
            code = 1
        finally:
            left = run.stop()
        if left != 0:
            console.print(board.left(left), soft_wrap=True)
    return code


def drained_to(lines: list[str]) -> int | None:
    """How many writes `python -m cluster drain` has left, from the end of its output; None when it does not say."""
    for line in reversed(lines):
        word, _, number = line.partition(" ")
        if word == "left" and number.isdigit():
            return int(number)
    return None
