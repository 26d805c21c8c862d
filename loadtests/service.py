"""The service under test as its users see it: addresses from its command line, figures from its HTTP status."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The service's figures may be this old (s); a backlog counts as empty when it stayed empty for longer.
STATUS_AGE_S = 2.0
POLL_S = 0.25
URI_VARIABLE = "LOADTESTS_MONGODB_URI"  # a password on a command line is seen by whoever lists processes

# Proxies of the environment are for the internet, not for the service next door.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServiceError(RuntimeError):
    """The service cannot be found or does not answer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a running service are; what is unknown is None."""

    http_url: str | None = None
    direct_url: str | None = None
    mongodb_uri: str | None = None
    witness_record: Path | None = None
    redis_url: str | None = None
    run_id: str | None = None
    owner_pid: int | None = None
    dashboard_url: str | None = None
    token_file: Path | None = None

    def door(self, name: str | None) -> str | None:
        """The address of a door: `direct`, `front`, or None: the direct port when there is one."""
        doors = {"direct": self.direct_url, "front": self.http_url, None: self.direct_url or self.http_url}
        return doors[name]


def find_service(environment: Mapping[str, str] | None = None) -> Addresses:
    """Ask `python -m cluster status --json` in the project's root. Raises ServiceError when nothing runs."""
    command = [sys.executable, "-m", "cluster", "status", "--json", "--secrets"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ServiceError(
            "no running service was found: start it with `make up` in another terminal, or name one that runs "
            "elsewhere by both --base-url and --mongodb-uri"
        ) from error
    if not isinstance(found, dict):
        raise ServiceError(f"`python -m cluster status --json` answered no object: {str(found)[:80]}")
    record, token = found.get("witness_record"), found.get("ray_token_file")
    return Addresses(
        http_url=found.get("http_url"),
        direct_url=found.get("direct_url"),
        mongodb_uri=found.get("mongodb_uri"),
        witness_record=Path(record) if record else None,
        redis_url=found.get("redis_url"),
        run_id=found.get("run_id"),
        owner_pid=(found.get("owner") or {}).get("pid"),
        dashboard_url=found.get("dashboard_url"),
        token_file=Path(token) if token else None,
    )


def tool(name: str) -> str | None:
    """The path of a program that `python -m cluster tool` finds or builds, as it shows; None when it gave none."""
    asked = subprocess.run(
        [sys.executable, "-m", "cluster", "tool", name], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    lines = asked.stdout.strip().splitlines()
    return lines[-1].strip() if lines and asked.returncode == 0 else None


def get_json(url: str, timeout_s: float = 5.0) -> dict[str, Any] | None:
    """The JSON object a URL answers 200 with; None for anything else. Never raises for a service that is down."""
    try:
        with _opener.open(url, timeout=timeout_s) as answer:
            found = json.load(answer)
    except (OSError, HTTPException, ValueError):  # HTTPException: it died in the middle of its answer
        return None
    return found if isinstance(found, dict) else None


def is_ready(base_url: str, wait_s: float) -> bool:
    """Whether `/readyz` answers 200 within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with _opener.open(f"{base_url}/readyz", timeout=5.0):
                return True
        except (OSError, HTTPException):
            if time.monotonic() >= deadline:
                return False
        time.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Drain:
    """How the backlog went down: `seconds` until it was empty, None when it was not by the deadline."""

    seconds: float | None
    backlog: int | None


def wait_for_drain(
    base_url: str,
    timeout_s: float,
    progress: Callable[[int], None] = lambda backlog: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Drain:
    """Poll `/v1/status` until the backlog has been 0 writes for longer than the status may be old.

    A service that does not answer is asked again until the deadline: it may be restarting. `progress` is told every
    backlog seen (writes).
    """
    began = clock()
    empty_since: float | None = None
    backlog: int | None = None
    while clock() - began < timeout_s:
        status = get_json(f"{base_url}/v1/status")
        backlog = backlog_of(status)
        now = clock()
        if backlog is not None:
            progress(backlog)
        if backlog == 0:
            empty_since = now if empty_since is None else empty_since
            if now - empty_since > STATUS_AGE_S:
                return Drain(empty_since - began, 0)
        else:
            empty_since = None
        sleep(POLL_S)
    return Drain(None, backlog)


def backlog_of(status: dict[str, Any] | None) -> int | None:
    """The number of writes that wait in the log, according to a status; None when it does not say."""
    return _number(status, "backlog", "writes")


def worst_window_of(status: dict[str, Any] | None) -> int | None:
    """The service's own worst window (commands), since its writer began; None when it does not tell."""
    return _number(status, "commands", "worst_window")


def writer_of(status: dict[str, Any] | None) -> int | None:
    """Which writer it is, by its epoch; None when the status does not tell, or it has not begun."""
    return _number(status, "writer", "epoch") or None


def _number(status: dict[str, Any] | None, part: str, name: str) -> int | None:
    found = status.get(part) if isinstance(status, dict) else None
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, int) else None
