"""One child process: started, watched, restarted on the same data, stopped.

Nothing here waits in the background: `tend` is called from the owner's loop and does whatever is due. All children
must be started from one thread that lives as long as the owner: the kernel ties the guard's signal to that thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from cluster.embedded import ports

GUARD = Path(__file__).with_name("guard.py")
LOG_LIMIT_BYTES = 16 * 1024 * 1024
FIRST_BACKOFF_S = 0.25
LAST_BACKOFF_S = 3.0
"""Short, because writes must be accepted again within 5 s of whatever keeps Redis from starting."""
SETTLED_S = 60.0
"""Seconds a child must have run before its next restart is prompt again."""


class ChildFailed(RuntimeError):
    """A child ended or stayed unready at its first start; the message holds the reason, the log's end, what to do."""


class Process(Protocol):
    """The part of `subprocess.Popen` that is used here; tests bring their own."""

    pid: int

    def poll(self) -> int | None: ...


class State(Enum):
    """Where a child is between `start` and `stop`."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting to be restarted"


@dataclass(frozen=True)
class Recipe:
    """All there is to know to run a child."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    """Asked often, must answer within about a second and not raise."""
    port: int = 0
    """On which it listens, and nobody else: then what is ready there is the child. 0 when it has none."""
    host: str = ports.LOOPBACK
    other_port: str = "start again, and another port is taken"
    """What a person can do when another program has that port and is not to end."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's own environment."""
    ready_timeout_s: float = 20.0
    stop_timeout_s: float = 10.0
    advice: str = ""
    """What a person can do when it does not start."""
    before_start: Callable[[], None] = lambda: None
    """Runs before every start, to clear what a dead predecessor left behind."""


def launch(recipe: Recipe) -> Process:
    """Starts the command in a session of its own, so that Ctrl-C reaches only us; its output goes to the log."""
    recipe.log.parent.mkdir(parents=True, exist_ok=True)
    if recipe.log.exists() and recipe.log.stat().st_size > LOG_LIMIT_BYTES:
        recipe.log.replace(recipe.log.with_suffix(".old.log"))
    with recipe.log.open("ab") as log:
        log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} start of {recipe.name}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *recipe.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **recipe.environment},
            start_new_session=True,
        )


def send(pid: int, number: int) -> None:
    """Signals a child; one that is gone already is fine.

    SIGTERM goes to the child alone, which ends its own children in the order they need; SIGKILL to its whole group.
    """
    with suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


class Child:
    """Keeps one recipe running. `clock` counts seconds; all but the recipe are parameters for the tests.

    It counts as ready when the recipe says so and nobody else listens on its port.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        spawn: Callable[[Recipe], Process] = launch,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        kill: Callable[[int, int], None] = send,
        intruder: Callable[[int, str, int], str | None] = ports.intruder,
    ) -> None:
        self.recipe = recipe
        self.state = State.STOPPED
        self.restarts = 0
        self._spawn = spawn
        self._clock = clock
        self._pause = pause
        self._kill = kill
        self._intruder = intruder
        self._process: Process | None = None
        self._since = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._explained = False

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def pid(self) -> int | None:
        """Process id, which is also the id of its session; None while nothing runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the child and returns at once; `await_ready` or `tend` tell when it can be used. Raises `OSError`."""
        self.recipe.before_start()
        self._process = self._spawn(self.recipe)
        self._enter(State.STARTING)

    def await_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Waits for the first readiness, calling `meanwhile` about ten times a second.

        Raises `ChildFailed` when the child ends first, is not ready in `ready_timeout_s`, or finds its port taken; it
        is then stopped.
        """
        while self.state is State.STARTING:
            code = self._exit_code()
            if code is not None:
                reason = self._taken() or f"{self.name} ended {describe_exit(code)} before it was ready"
                self._enter(State.STOPPED)
                raise ChildFailed(self._report(reason))
            trouble = self._trouble()
            if trouble == "":
                self._enter(State.RUNNING)
                return
            if trouble:
                self.stop()
                raise ChildFailed(self._report(trouble))
            meanwhile()
            self._pause(0.1)

    def tend(self) -> list[str]:
        """Does what is due, without waiting: notices an end, restarts, notices readiness. Returns lines to show."""
        now = self._clock()
        if self.state is State.RUNNING and now - self._since > SETTLED_S:
            self._backoff_s = FIRST_BACKOFF_S
        if self.state in (State.STARTING, State.RUNNING):
            code = self._exit_code()
            if code is not None:
                reason = self._taken() if self.state is State.STARTING else ""
                return [self._fall(reason or f"{self.name} ended {describe_exit(code)}")]
        if self.state is State.STARTING:
            trouble = self._trouble()
            if trouble == "":
                lasted = now - self._since
                self._explained = False
                self._enter(State.RUNNING)
                return [f"{self.name} is back on the same data after {lasted:.1f} s (restart {self.restarts})"]
            if trouble:
                self._end()
                return [self._fall(trouble)]
        if self.state is State.WAITING and now >= self._since + self._backoff_s:
            self._backoff_s = min(2 * self._backoff_s, LAST_BACKOFF_S)
            self.restarts += 1
            try:
                self.start()
            except OSError as error:
                return [self._fall(f"{self.name} could not be started: {error}")]
        return []

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to its whole group after `stop_timeout_s`. Returns when the child has ended."""
        self._end()
        self._enter(State.STOPPED)

    def _trouble(self) -> str | None:
        """Why a child that starts will not do; empty when it is ready, None while nobody knows."""
        ready = self.recipe.ready()
        if not ready and self._clock() - self._since <= self.recipe.ready_timeout_s:
            return None
        late = "" if ready else f"{self.name} was not ready within {self.recipe.ready_timeout_s:.0f} s"
        return self._taken() or late

    def _taken(self) -> str:
        """Who has its port, and what to do; empty when nobody else has."""
        port = self.recipe.port
        other = self._intruder(port, self.recipe.host, self.pid) if port and self.pid is not None else None
        remedy = f"End that program, or {self.recipe.other_port}"
        return f"{self.name} cannot have port {port}, which is held by {other}. {remedy}" if other else ""

    def _end(self) -> None:
        if self._process is None:
            return
        deadline = self._clock() + self.recipe.stop_timeout_s
        if self._process.poll() is None:
            self._kill(self._process.pid, signal.SIGTERM)
        while self._process.poll() is None and self._clock() < deadline:
            self._pause(0.05)
        self._kill(self._process.pid, signal.SIGKILL)
        while self._process.poll() is None:
            self._pause(0.05)
        self._process = None

    def _fall(self, reason: str) -> str:
        """A child that does not come back is explained once; the same lines every few seconds would help nobody."""
        explain = self.state is State.STARTING and not self._explained
        self._explained = self._explained or explain
        self._process = None
        self._enter(State.WAITING)
        again = f"it is started again in {self._backoff_s:g} s"
        return f"{self._report(reason)}\n{again}" if explain else f"{reason}; {again}, log: {self.recipe.log}"

    def _exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def _enter(self, state: State) -> None:
        self.state = state
        self._since = self._clock()

    def _report(self, reason: str) -> str:
        lines = [f"{reason}. The end of {self.recipe.log}:", *(f"    {line}" for line in tail(self.recipe.log))]
        return "\n".join([*lines, self.recipe.advice] if self.recipe.advice else lines)


def describe_exit(code: int) -> str:
    """An exit code of `poll`, in words."""
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log file; a missing file has none."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []
