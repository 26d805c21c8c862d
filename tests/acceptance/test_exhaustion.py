"""No file descriptors, no memory: the part refuses or dies, and what was accepted is stored."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import psutil
import pytest

from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

IDLE = 200
HEADROOM_BYTES = 4 * 1024 * 1024
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
            idle.append(caller)

    def relent() -> None:
        for caller in idle:
            caller.close()
        with suppress(ProcessLookupError):  # it has died of it, and another took its place
            resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, before)

    trial(service, "a replica without file descriptors for 5 s").run(Fault(exhaust, relent, lasts_s=5.0))


@pytest.mark.chaos
@pytest.mark.parametrize("name", PARTS)
def test_a_part_without_memory_loses_nothing(service: Service, trial: Trials, name: str) -> None:
    part = service.actor(PARTS[name])
    before = resource.prlimit(part.pid, resource.RLIMIT_AS)
    starve, relent = _limits_of(part, before)
    trial(service, f"{name} without memory for 5 s").run(Fault(starve, relent, lasts_s=5.0))


def _limits_of(part: psutil.Process, before: tuple[int, int]) -> tuple[Callable[[], None], Callable[[], None]]:
    def starve() -> None:
        resource.prlimit(part.pid, resource.RLIMIT_AS, (part.memory_info().vms + HEADROOM_BYTES, before[1]))

    def relent() -> None:
        with suppress(ProcessLookupError):  # it has died of it, and another took its place
            resource.prlimit(part.pid, resource.RLIMIT_AS, before)

    return starve, relent
