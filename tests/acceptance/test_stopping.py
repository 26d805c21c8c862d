"""The ways to stop a service other than one Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.acceptance.service import ROOT, STOP_S, Service

Start = Callable[..., Service]


def write(service: Service, count: int) -> list[str]:
    """Writes so many documents; returns where they are read, once they were answered 202."""
    places = []
    for _ in range(count):
        status, _, answer = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
        assert status == 202
        places.append(f"/v1/shop/orders/{answer['id']}")
    return places


def stored(service: Service, places: list[str]) -> bool:
    """Whether all of them are in MongoDB and nothing waits."""
    found = [service.request("GET", place, Cache_Control="no-cache") for place in places]
    sources = {headers.get("x-spillway-source") for _, headers, _ in found}
    return {status for status, _, _ in found} == {200} and "buffer" not in sources


def down(service: Service) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster", "down"]
    return subprocess.run(
        command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.chaos
def test_a_second_ctrl_c_leaves_the_backlog_to_the_next_start(start: Start) -> None:
    service = start()
    service.part("MongoDB").suspend()
    places = write(service, 100)
    service.process.send_signal(signal.SIGINT)
    service.eventually(lambda: "Ctrl-C again skips it" in service.log.read_text(), 30)
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(STOP_S) == 0
    assert "accepted writes are still in the log" in service.log.read_text()
    assert "Drained" not in service.log.read_text()
    service.restart()
    service.eventually(lambda: stored(service, places), 60)


@pytest.mark.chaos
def test_down_drains_a_living_run_and_ends_exactly_what_a_killed_one_left(start: Start) -> None:
    service = start()
    places = write(service, 100)
    done = down(service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.process.wait(10) == 0
    assert "✓ Drained" in service.log.read_text()
    assert done.stdout.splitlines()[-1] == "Stopped.", "nothing is left in the log"
    service.restart()
    service.eventually(lambda: stored(service, places), 60)

    parts = service.processes()
    assert len(parts) > 5
    bystander = subprocess.Popen(["sleep", "600"], env={**os.environ, "SPILLWAY_RUN_ID": "another"})
    try:
        service.process.kill()
        service.process.wait(10)
        done = down(service)
        assert done.returncode == 0, done.stdout + done.stderr
        _, living = psutil.wait_procs(parts, timeout=10)
        assert living == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    unknown = "How many accepted writes are in the log is not known; the next `make up` stores them."
    assert done.stdout.splitlines()[-1] == f"Clean now. {unknown}"
    assert down(service).stdout.splitlines()[-1] == f"Nothing to clean up. {unknown}"
