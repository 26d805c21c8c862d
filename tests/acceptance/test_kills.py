"""Kill each part under load: nothing lost or doubled, never over 100 commands a second, and it comes back by itself."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

VICTIMS: dict[str, Callable[[Service], psutil.Process]] = {
    "a replica": lambda service: service.actor("ServeReplica"),
    "a BufferActor": lambda service: service.actor("BufferActor"),
    "the MongoWriter": lambda service: service.actor("MongoWriter"),
    "HAProxy": lambda service: service.haproxy(),
    "Redis": lambda service: service.part("Redis"),
    "MongoDB": lambda service: service.part("MongoDB"),
}


@pytest.mark.parametrize("name", VICTIMS)
def test_kill_minus_nine(service: Service, trial: Trials, name: str) -> None:
    victims: list[psutil.Process] = []

    def strike() -> None:
        """Looked up only now: a HAProxy that has just started is soon replaced by one with the replica's address."""
        victims.append(VICTIMS[name](service))
        victims[0].kill()

    trial(service, f"kill -9 of {name}").run(Fault(strike))
    assert not victims[0].is_running() or victims[0].status() == psutil.STATUS_ZOMBIE
