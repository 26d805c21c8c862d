"""The service as an operator has it: started by `python -m cluster up`, hurt by its process ids, judged outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil

from cluster.embedded.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 240.0  # a first start builds FerretDB
STOP_S = 90.0
# Not the service's fault: another one took a port between our look at it and Ray's use, or Ray's own patience of 30 s
# was not enough for a machine that does a lot at once.
BAD_LUCK = re.compile(r"address already in use|already occupied|timed out during startup", re.IGNORECASE)


def _up(command: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )


@dataclass
class Service:
    """One running `python -m cluster up`."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    addresses: dict[str, Any] = field(default_factory=dict)

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "cluster", "up", "--witness")

    @classmethod
    def start(cls, folder: Path, **settings: str) -> Self:
        """Raises `AssertionError` with the end of its output when it does not get ready."""
        environment = {
            **os.environ,
            "SPILLWAY_STATE_DIR": str(folder / "state"),
            "SPILLWAY_HTTP_PORT": str(free_port(0)),
            "SPILLWAY_DIRECT_PORT": str(free_port(0)),
            **settings,
        }
        environment.pop("RAY_AUTH_MODE", None)  # `up` chooses
        log = folder / "up.log"
        service = cls(folder, environment, _up(cls.command, environment, log), log)
        service._await_running()
        return service

    def restart(self, **settings: str) -> None:
        """Starts it anew after `stop`, on the same data and the same HTTP ports, with some settings changed."""
        self.environment.update(settings)
        self.process = _up(self.command, self.environment, self.log)
        self._await_running()

    def _await_running(self, tries: int = 3) -> None:
        try:
            self.eventually(self._runs, START_S)
        except BaseException as error:  # Ctrl-C as well: nobody else knows of it yet
            self.stop()
            if tries == 1 or not isinstance(error, AssertionError) or not BAD_LUCK.search(str(error)):
                raise
            self.process = _up(self.command, self.environment, self.log)
            self._await_running(tries - 1)
        self.addresses = self.status_of_run()

    def _runs(self) -> bool:
        record = self.status_of_run()
        return bool(record) and record["state"] == "running" and record["owner"]["pid"] == self.process.pid

    @property
    def url(self) -> str:
        return str(self.addresses["http_url"])

    def status_of_run(self) -> dict[str, Any]:
        """The record that `up` keeps, which `python -m cluster status --json` prints; empty while there is none.

        Read from its file: a process started for each look would be half of the load on a small machine.
        """
        try:
            found: dict[str, Any] = json.loads((self.state / "run" / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    @property
    def state(self) -> Path:
        return Path(self.environment["SPILLWAY_STATE_DIR"])

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, or another signal that asks for a stop; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            subprocess.run([sys.executable, "-m", "cluster", "down"], cwd=ROOT, env=self.environment, timeout=60)
            raise AssertionError(f"up did not stop within {STOP_S:.0f} s:\n{self.tail()}") from None

    def well(self) -> bool:
        """Whether it can be used: it runs, and gets ready within 30 s."""
        if self.process.poll() is not None:
            return False
        try:
            self.eventually(self.ready, 30)
        except AssertionError:
            return False
        return True

    def ready(self) -> bool:
        """Whether /readyz says 200; no answer is a no."""
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, ValueError):
            return False

    def aof_loads_s(self) -> list[float]:
        """How long each start of Redis took to read its append-only file."""
        log = (self.state / "logs" / "redis.log").read_text(errors="replace")
        found = re.findall(r"DB loaded from append only file: ([0-9.]+) seconds", log)
        return [float(seconds) for seconds in found]

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Processes of this run whose title begins with `name`; each carries the run's id in its environment."""
        mine = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SPILLWAY_RUN_ID") != self.addresses["run_id"]:
                    continue
                if " ".join(process.cmdline()).startswith(name) and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return mine

    def actor(self, name: str) -> psutil.Process:
        """The process of a Ray actor or replica, by the title that `ps` shows."""
        (found, *_) = self.processes(f"ray::{name}")
        return found

    def find(self, name: str) -> psutil.Process | None:
        """An actor, replica, HAProxy or part by the beginning of its name; None while it is being restarted."""
        if name == "haproxy":
            doors = [process for process in self.processes() if process.name() == "haproxy"]
            return max(doors, key=psutil.Process.create_time, default=None)
        actors = self.processes(f"ray::{name}")
        if actors:
            return actors[0]
        pids = [part["pid"] for known, part in self.status_of_run()["parts"].items() if known.startswith(name)]
        return psutil.Process(pids[0]) if pids and psutil.pid_exists(pids[0]) else None

    def haproxy(self) -> psutil.Process:
        """The process of Serve's front door; after a reload the one before may still be finishing its requests."""
        found = self.find("haproxy")
        assert found is not None, "there is no HAProxy"
        return found

    def part(self, name: str) -> psutil.Process:
        """The process of a part that `up` started; `name` is how its name in the record begins."""
        (found,) = [part for known, part in self.status_of_run()["parts"].items() if known.startswith(name)]
        return psutil.Process(found["pid"])

    def get(self, path: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers (lower case) and JSON body of a GET."""
        return self.request("GET", path)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        request = urllib.request.Request(
            self.url + path, body, {k.replace("_", "-"): v for k, v in headers.items()}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.loads(answer.read())
        except urllib.error.HTTPError as answer:
            return answer.code, {k.lower(): v for k, v in answer.headers.items()}, json.loads(answer.read())

    def told(self, *names: str, within_s: float = 30.0) -> Any:
        """A value of the status, by the names that lead to it, once it is known: whoever does not answer in a second is
        left out of the status, or null in it."""
        found: Any = None

        def is_known() -> bool:
            nonlocal found
            found = self.get("/v1/status")[2]
            for name in names:
                found = (found or {}).get(name)
            return found is not None

        self.eventually(is_known, within_s)
        return found

    def eventually(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"up ended with {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"still not so after {timeout_s:.0f} s:\n{self.tail()}"
            time.sleep(0.2)
