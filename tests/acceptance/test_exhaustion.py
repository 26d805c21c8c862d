"""No file descriptors, no memory: the part refuses or dies, and what was accepted is stored."""

from __future__ import annotations

import json
import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.flood import DATABASE, JSON
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

IDLE = 200
BATCH = json.dumps([{"filler": "x" * 7_000}] * 1_000)  # just below the largest body that is taken
BATCHES = 8
# What the HTTP server that Serve starts in a replica says when it cannot take a body in; no code of ours is asked.
BY_SERVE = {400, 499}
PARTS = {"a replica": "ServeReplica", "a BufferActor": "BufferActor", "the MongoWriter": "MongoWriter"}


def test_a_replica_without_file_descriptors_comes_back_by_itself(service: Service, trial: Trials) -> None:
    replica = service.actor("ServeReplica")
    idle: list[socket.socket] = []
    before = resource.prlimit(replica.pid, resource.RLIMIT_NOFILE)

    def exhaust() -> None:
        """No descriptor beyond those it has, and more callers at the door than it could have taken in."""
        resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (replica.num_fds(), before[1]))
        direct = urlsplit(service.addresses["direct_url"])
        for _ in range(IDLE):
            caller = socket.socket()
            caller.setblocking(False)
            with suppress(BlockingIOError):  # it connects, or it does not
                caller.connect((direct.hostname, direct.port))
            with suppress(OSError):
                caller.send(b"G")  # who says nothing is let in a second later
            idle.append(caller)
        with pytest.raises(httpx.TransportError):  # nobody else is let in
            httpx.get(f"{service.addresses['direct_url']}/livez", timeout=2, trust_env=False)

    def relent() -> None:
        for caller in idle:
            caller.close()
        with suppress(ProcessLookupError):  # it has died of it, and another took its place
            resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, before)

    made = trial(service, "a replica without file descriptors for 5 s")
    made.run(Fault(exhaust, relent, lasts_s=5.0))
    assert httpx.get(f"{service.addresses['direct_url']}/livez", timeout=5, trust_env=False).status_code == 200


@pytest.mark.chaos
@pytest.mark.parametrize("name", PARTS)
def test_a_part_without_memory_loses_nothing(service: Service, trial: Trials, name: str) -> None:
    part = service.actor(PARTS[name])
    before = resource.prlimit(part.pid, resource.RLIMIT_AS)
    codes: list[int] = []

    def starve() -> None:
        """Not one page more than it has, and requests that need some."""
        resource.prlimit(part.pid, resource.RLIMIT_AS, (part.memory_info().vms, before[1]))
        with ThreadPoolExecutor(BATCHES) as callers:
            codes.extend(callers.map(_batch, [service.url] * BATCHES))

    def relent() -> None:
        with suppress(ProcessLookupError):  # it has died of it, and another took its place
            resource.prlimit(part.pid, resource.RLIMIT_AS, before)

    trial(service, f"{name} without memory for 5 s").run(Fault(starve, relent, lasts_s=5.0))
    assert set(codes) <= {0, 202, 503, 504} | BY_SERVE


def _batch(url: str) -> int:
    """The status; 0 when there was no answer."""
    try:
        answer = httpx.post(f"{url}/v1/{DATABASE}/batches/batch", content=BATCH, headers=JSON, timeout=30)
    except httpx.TransportError:
        return 0
    if answer.status_code in BY_SERVE:
        assert answer.headers["content-type"].startswith("text/plain"), answer.text
    return answer.status_code
