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
    victim = VICTIMS[name](service)
    trial(service, f"kill -9 of {name}").run(Fault(victim.kill))
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
