"""The service as an operator has it: started by `python -m cluster up`, hurt by its process ids, judged outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_S = 240.0  # a first start builds FerretDB
STOP_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """One running `python -m cluster up`."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    addresses: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, **settings: str) -> Service:
        """Raises `AssertionError` with the end of its output when it does not get ready."""
        environment = {
            **os.environ,
            "SPILLWAY_STATE_DIR": str(folder / "state"),
            "SPILLWAY_HTTP_PORT": str(free_port()),
            "SPILLWAY_DIRECT_PORT": str(free_port()),
            **settings,
        }
        environment.pop("RAY_AUTH_MODE", None)  # `up` chooses
        log = folder / "up.log"
        command = [sys.executable, "-m", "cluster", "up", "--witness"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        service = cls(folder, environment, process, log)
        try:
            service.eventually(lambda: service.status_of_run().get("state") == "running", START_S)
        except AssertionError:
            service.stop()
            raise
        service.addresses = service.status_of_run()
        return service

    @property
    def url(self) -> str:
        return str(self.addresses["http_url"])

    def status_of_run(self) -> dict[str, Any]:
        """What `python -m cluster status --json` says; empty when it says that nothing runs."""
        command = [sys.executable, "-m", "cluster", "status", "--json"]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            subprocess.run([sys.executable, "-m", "cluster", "down"], cwd=ROOT, env=self.environment, timeout=60)
            raise AssertionError(f"up did not stop within {STOP_S:.0f} s:\n{self.tail()}") from None

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

    def eventually(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"up ended with {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"still not so after {timeout_s:.0f} s:\n{self.tail()}"
            time.sleep(0.2)


class Flood:
    """Users on GET /api/data who record every outcome the way `loadtests/verify.py` reads it."""

    def __init__(self, service: Service, folder: Path, users: int = 16) -> None:
        self.outcomes: Counter[str] = Counter()
        self._service = service
        self._folder = folder
        self._users = users
        self._stop = asyncio.Event()

    def run(self, seconds: float, *faults: tuple[float, Callable[[], Any]]) -> None:
        """Load for `seconds`; each fault strikes at its second."""
        asyncio.run(self._run(seconds, faults))

    def verify(self) -> str:
        """The verifier's output; raises `AssertionError` with it unless it found nothing wrong."""
        addresses = self._service.status_of_run()
        command = [sys.executable, "loadtests/verify.py", str(self._folder), "--base-url", addresses["http_url"]]
        command += ["--mongodb-uri", addresses["mongodb_uri"], "--witness", addresses["witness_record"]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.outcomes}"
        return done.stdout

    async def _run(self, seconds: float, faults: tuple[tuple[float, Callable[[], Any]], ...]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "answers.log").open("w") as record:
            record.write(f"started {int(time.time() * 1000)}\n")
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=30, limits=limits, trust_env=False) as session:  # it repeats nothing
                strikes: list[Awaitable[None]] = [self._strike(at, fault) for at, fault in faults]
                users = [self._user(session, record.write) for _ in range(self._users)]
                await asyncio.gather(self._end(seconds), *strikes, *users)
            stopped = int(time.time() * 1000)
            status = json.dumps(self._service.get("/v1/status")[2])
            record.write(f"stopped {stopped} {status}\n")

    async def _end(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._stop.set()

    @staticmethod
    async def _strike(at: float, fault: Callable[[], Any]) -> None:
        await asyncio.sleep(at)
        await asyncio.to_thread(fault)

    async def _user(self, session: httpx.AsyncClient, write: Callable[[str], Any]) -> None:
        while not self._stop.is_set():
            try:
                answer = await session.get(f"{self._service.url}/api/data")
            except httpx.ConnectError:
                write("refused 0 1212\n")  # no connection was made, so nothing was sent
                self.outcomes["fail"] += 1
                await asyncio.sleep(0.05)
                continue
            except httpx.HTTPError:
                write("unknown 0 0\n")
                self.outcomes["unknown"] += 1
                continue
            status, body = answer.status_code, answer.text
            if status == 200:
                write(body.replace("\n", " ") + "\n")
                self.outcomes["ok"] += 1
            elif status == 503 or 400 <= status < 500:
                write(f"refused {status} 0\n")
                self.outcomes["fail"] += 1
                await asyncio.sleep(0.05)
            else:
                write(f"unknown {status} 0\n")
                self.outcomes["unknown"] += 1
