"""Ours as a contender: `python -m cluster up`, as an operator starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from loadtests.contender import RECOVERY_S, START_S, STOP_S, Program, await_ready, free_port, kill_parts, tail
from loadtests.laboratory import Target
from loadtests.service import ROOT, Addresses, ServiceError, find_service, is_ready


class Spillway:
    """Ours, by `python -m cluster up --witness`, with settings by SPILLWAY_ variables."""

    def __init__(self, folder: Path, door: str = "direct", settings: Mapping[str, str] | None = None) -> None:
        self.name = "Spillway" if door == "direct" else "Spillway, front door"
        self.about = "synced to disk before the answer, drained within 100 commands/s"
        self._folder = folder
        self._door = door
        self._settings = dict(settings or {})
        self.addresses = Addresses()
        self._up: Program | None = None
        self._environment: dict[str, str] = {}

    def start(self) -> Target:
        """See `Contender`."""
        state = self._folder / f"state-{uuid.uuid4().hex[:6]}"
        own = {
            "SPILLWAY_STATE_DIR": str(state),
            "SPILLWAY_HTTP_PORT": str(free_port()),
            "SPILLWAY_DIRECT_PORT": str(free_port()),
            **self._settings,
        }
        self._environment = {**os.environ, **own}
        self._up = Program([sys.executable, "-m", "cluster", "up", "--witness"], self._folder / "up.log", own)
        self._up.start()
        try:
            self._await_running()
        except BaseException:
            self.stop()
            raise
        return self.target()

    def target(self) -> Target:
        """What is measured."""
        found = self.addresses
        address = found.door(self._door)
        assert address is not None
        assert found.mongodb_uri is not None
        limit = int(self._settings.get("SPILLWAY_RATE_LIMIT_PER_S", "100"))
        target = Target(self.name, (address,), found.mongodb_uri, found.witness_record, found.run_id, found.redis_url)
        return replace(target, limit=limit, roots=(found.owner_pid,) if found.owner_pid else ())

    def kill(self) -> None:
        """See `Contender`."""
        kill_parts(self.target(), "Replicas", "Buffers", "Writer", "Redis")

    def recover(self) -> None:
        """Nothing to start: `up` and Ray do it. Waits for it."""
        assert self._up is not None
        assert self._up.process is not None
        await_ready(self.target().urls[0], self._up.process, self._up.log, RECOVERY_S)

    def stop(self) -> None:
        """See `Contender`."""
        if self._up is not None:
            self._up.stop(signal.SIGINT, STOP_S)
            down = [sys.executable, "-m", "cluster", "down"]  # does nothing after a clean stop
            subprocess.run(down, cwd=ROOT, env=self._environment, capture_output=True, check=False, timeout=STOP_S)

    def _await_running(self) -> None:
        assert self._up is not None
        process = self._up.process
        assert process is not None
        deadline = time.monotonic() + START_S
        while True:
            if process.poll() is not None:
                raise ServiceError(f"`up` ended with {process.returncode}:\n{tail(self._up.log)}")
            if time.monotonic() > deadline:
                raise ServiceError(f"`up` was not ready within {START_S:.0f} s:\n{tail(self._up.log)}")
            try:
                self.addresses = find_service(self._environment)
                address = self.addresses.door(self._door)
                if address and is_ready(address, 0.0):
                    return
            except ServiceError:
                pass
            time.sleep(1.0)
