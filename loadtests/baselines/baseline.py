"""A baseline as a contender: its uvicorn, its drain worker, a Redis and a FerretDB of its own."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.contender import (
    RECOVERY_S,
    Program,
    await_ready,
    free_port,
    kill,
    kill_parts,
    pids_of,
    stop_all,
    undisturbed,
)
from loadtests.laboratory import Target
from loadtests.processes import RUN_VARIABLE
from loadtests.servers import ferretdb_command, redis_command


@dataclass(frozen=True, slots=True)
class Kind:
    """A baseline: its app, how many uvicorn workers, its drain worker, its Redis' fsync; None: it has none."""

    name: str
    about: str
    app: str
    workers: int
    drain: str | None
    appendfsync: str | None
    drain_timeout_s: float = 120.0


KINDS = (
    Kind(
        "FastAPI + Redis + drain",
        "two workers, five documents pipelined into a stream, appendfsync no, a drain worker",
        *("loadtests.baselines.queued:app", 2, "loadtests.baselines.drain", "no"),
    ),
    Kind(
        "FastAPI, straight to MongoDB",
        "one worker, each document inserted before the answer",
        *("loadtests.baselines.straight:app", 1, None, None),
    ),
    Kind(
        "toy",
        "two workers, messages without payload, a drain of 100 documents/s that never catches up",
        *("loadtests.baselines.toy:app", 2, "loadtests.baselines.toy_drain", "everysec"),
        drain_timeout_s=3.0,
    ),
)


class Baseline:
    """A service of `loadtests/baselines`, with a Redis and a FerretDB of its own."""

    def __init__(self, kind: Kind, folder: Path, ferretdb: str, redis_server: str) -> None:
        self.name, self.about = kind.name, kind.about
        self._kind = kind
        self._folder = folder
        self._ferretdb = ferretdb
        self._redis_server = redis_server
        self._programs: dict[str, Program] = {}
        self._target: Target | None = None

    def start(self) -> Target:
        """See `Contender`."""
        run_id, folder = uuid.uuid4().hex, self._folder / f"run-{uuid.uuid4().hex[:6]}"
        redis_port, mongodb_port, port = free_port(), free_port(), free_port()
        redis_url, mongodb_uri = f"redis://127.0.0.1:{redis_port}/0", f"mongodb://127.0.0.1:{mongodb_port}"
        environment = {RUN_VARIABLE: run_id, "REDIS_URL": redis_url, "MONGODB_URI": mongodb_uri}
        for name, command in self._commands(folder, redis_port, mongodb_port, port).items():
            self._programs[name] = Program(command, folder / f"{name}.log", environment)
        address = f"http://127.0.0.1:{port}"
        has_redis = redis_url if self._kind.appendfsync else None
        target = Target(self.name, (address,), mongodb_uri, run_id=run_id, redis_url=has_redis, limit=None)
        self._target = replace(target, drain_timeout_s=self._kind.drain_timeout_s)
        try:
            self._start(lambda name: True)
        except BaseException:
            self.stop()
            raise
        return self._target

    def _commands(self, folder: Path, redis_port: int, mongodb_port: int, port: int) -> dict[str, list[str]]:
        """Each program's command line, in the order of their start."""
        for name in ("redis", "ferretdb"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        commands = {"ferretdb": ferretdb_command(self._ferretdb, mongodb_port, folder / "ferretdb")}
        if self._kind.appendfsync:
            commands["redis"] = redis_command(self._redis_server, redis_port, folder / "redis", self._kind.appendfsync)
        uvicorn = [sys.executable, "-m", "uvicorn", self._kind.app, "--port", str(port), "--no-access-log"]
        uvicorn += ["--loop", "uvloop", "--http", "httptools", "--log-level", "warning", "--backlog", "4096"]
        commands["uvicorn"] = [*uvicorn, "--workers", str(self._kind.workers)]
        if self._kind.drain:
            commands["drain"] = [sys.executable, "-m", self._kind.drain]
        return commands

    def kill(self) -> None:
        """See `Contender`."""
        assert self._target is not None
        parts = {"uvicorn": "uvicorn", "drain": "Drain worker", "redis": "Redis"}
        kill_parts(self._target, *(part for name, part in parts.items() if name in self._programs))

    def recover(self) -> None:
        """See `Contender`."""
        self._start(lambda name: name != "ferretdb")

    def _start(self, wanted: Callable[[str], bool]) -> None:
        assert self._target is not None
        for name, program in self._programs.items():
            if wanted(name):
                program.start()
        pids = [program.process.pid for program in self._programs.values() if program.process]
        self._target = replace(self._target, roots=tuple(pids))
        uvicorn = self._programs["uvicorn"]
        assert uvicorn.process is not None
        await_ready(self._target.urls[0], uvicorn.process, uvicorn.log, RECOVERY_S)

    def stop(self) -> None:
        """See `Contender`."""
        programs, self._programs = list(self._programs.values()), {}
        with undisturbed():
            try:
                stop_all(programs)
            finally:
                if self._target is not None:
                    kill(pids_of(self._target, "uvicorn", "Drain worker", "Redis", "FerretDB"))
