"""Ours as a contender: `python -m cluster up`, as an operator starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from loadtests import stored
from loadtests.contender import (
    RECOVERY_S,
    START_S,
    STOP_S,
    Program,
    await_ready,
    free_port,
    inherited,
    kill_parts,
    stop_all,
    tail,
    undisturbed,
)
from loadtests.laboratory import Target
from loadtests.servers import ferretdb_command, path_of
from loadtests.service import ROOT, Addresses, ServiceError, find_service, is_ready

MONGODB_S = 30.0


class Spillway:
    """Ours, by `python -m cluster up`, with settings by SPILLWAY_ variables.

    Its MongoDB is the FerretDB that the baselines have, whatever `up` would find, behind a witness of the laboratory.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.name = "Spillway"
        self.about = "synced to disk before the answer, drained within 100 commands/s"
        self._folder = folder
        self._settings = dict(settings or {})
        self.addresses = Addresses()
        self._programs: dict[str, Program] = {}  # in the order of their start
        self._mongodb_uri = ""
        self._record = Path()
        self._environment: dict[str, str] = {}

    def start(self) -> Target:
        """See `Contender`."""
        number = uuid.uuid4().hex[:6]
        run, mongodb_port, witness_port = self._folder / f"run-{number}", free_port(), free_port()
        self._mongodb_uri, witness_uri = _uri(mongodb_port), _uri(witness_port)
        self._record = run / "witness.record"
        own = {
            "SPILLWAY_STATE_DIR": str(self._folder / f"state-{number}"),
            "SPILLWAY_HTTP_PORT": str(free_port()),
            "SPILLWAY_DIRECT_PORT": str(free_port()),
            "SPILLWAY_MONGODB_URI": witness_uri,
            **self._settings,
        }
        self._environment = {**inherited(), **own}
        (run / "ferretdb").mkdir(parents=True)
        witness = [sys.executable, str(ROOT / "loadtests" / "witness.py"), "--record", str(self._record)]
        witness += ["--listen", f"127.0.0.1:{witness_port}", "--upstream", f"127.0.0.1:{mongodb_port}"]
        try:
            self._start("ferretdb", ferretdb_command(path_of("ferretdb"), mongodb_port, run / "ferretdb"), {})
            self._start("witness", witness, {})
            stored.check(witness_uri, MONGODB_S)
            self._await_running(self._start("up", [sys.executable, "-m", "cluster", "up"], own))
        except stored.StoreError as error:
            self.stop()
            raise ServiceError(f"FerretDB behind the witness: {error}; their logs are in {self._folder}") from error
        except BaseException:
            self.stop()
            raise
        return self.target()

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> Program:
        program = self._programs[name] = Program(command, self._folder / f"{name}.log", environment)
        program.start()
        return program

    def target(self) -> Target:
        """What is measured."""
        found = self.addresses
        address = found.door("direct")
        assert address is not None
        limit = int(self._settings.get("SPILLWAY_RATE_LIMIT_PER_S", "100"))
        target = Target(self.name, (address,), self._mongodb_uri, self._record, found.run_id, found.redis_url)
        roots = [program.process.pid for program in self._programs.values() if program.process]
        return replace(target, limit=limit, roots=tuple(roots))

    def kill(self) -> None:
        """See `Contender`."""
        kill_parts(self.target(), "Replicas", "Buffers", "Writer", "Redis")

    def recover(self) -> None:
        """Nothing to start: `up` and Ray do it. Waits for it."""
        up = self._programs["up"]
        assert up.process is not None
        await_ready(self.target().urls[0], up.process, up.log, RECOVERY_S)

    def stop(self) -> None:
        """See `Contender`. Raises ServiceError when something may be left, after everything else has ended."""
        up = self._programs.pop("up", None)
        others, self._programs = list(self._programs.values()), {}
        with undisturbed():
            try:
                if up is not None:
                    self._down(up)
            finally:
                stop_all(others)

    def _down(self, up: Program) -> None:
        again = f"try it again: SPILLWAY_STATE_DIR={self._environment['SPILLWAY_STATE_DIR']} python -m cluster down"
        try:
            up.stop(signal.SIGINT, STOP_S)
        finally:
            down = [sys.executable, "-m", "cluster", "down"]  # does nothing after a clean stop
            try:
                done = subprocess.run(
                    down, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    timeout=STOP_S, start_new_session=True,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise ServiceError(f"`down` did not end within {STOP_S:.0f} s, {again}") from error
        if done.returncode:
            raise ServiceError(f"`down` ended with {done.returncode}, {again}:\n{done.stdout[-500:]}")

    def _await_running(self, up: Program) -> None:
        assert up.process is not None
        deadline = time.monotonic() + START_S
        while True:
            if up.process.poll() is not None:
                raise ServiceError(f"`up` ended with {up.process.returncode}:\n{tail(up.log)}")
            if time.monotonic() > deadline:
                raise ServiceError(f"`up` was not ready within {START_S:.0f} s:\n{tail(up.log)}")
            try:
                self.addresses = find_service(self._environment)
                address = self.addresses.door("direct")
                if address and is_ready(address, 0.0):
                    return
            except ServiceError:
                pass
            time.sleep(1.0)


def _uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"  # else the driver would go around the witness
