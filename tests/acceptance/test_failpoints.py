"""Killed at one exact step of a write's way. No code for it is in the product: a proxy holds what was just sent.

The two ways out of each point are both tried: what was held when its sender died never arrives (`cut`), or it arrives
late, when the successor is at work already (`heal`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.acceptance.proxy import FaultProxy, Held, Matching, Way
from tests.acceptance.trial import Fault, Trials
from tests.acceptance.wired import ACKNOWLEDGE, APPEND, INSERT, Wired

CAUGHT_S = 30.0


class Point(NamedTuple):
    """Who is killed when what is under way between the service and which server; `late`: it arrives all the same."""

    victim: str
    server: Callable[[Wired], FaultProxy]
    way: Way
    matching: Matching
    late: bool = False


def to_mongodb(it: Wired) -> FaultProxy:
    return it.mongodb


def to_redis(it: Wired) -> FaultProxy:
    return it.redis


POINTS = {
    "the writer, its command not yet with MongoDB": Point("MongoWriter", to_mongodb, Way.REQUEST, INSERT),
    "the writer, its command arriving after its death": Point("MongoWriter", to_mongodb, Way.REQUEST, INSERT, True),
    "the writer, its command done and not answered": Point("MongoWriter", to_mongodb, Way.REPLY, INSERT),
    "the writer, its command answered and not acknowledged": Point("MongoWriter", to_redis, Way.REQUEST, ACKNOWLEDGE),
    "a buffer, its batch stored and not acknowledged": Point("BufferActor", to_redis, Way.REQUEST, ACKNOWLEDGE),
    "a buffer, acknowledging after its death": Point("BufferActor", to_redis, Way.REQUEST, ACKNOWLEDGE, True),
    "a buffer, its append not yet with Redis": Point("BufferActor", to_redis, Way.REQUEST, APPEND),
    "a buffer, its append arriving after its death": Point("BufferActor", to_redis, Way.REQUEST, APPEND, True),
    "a buffer, between append and reply": Point("BufferActor", to_redis, Way.REPLY, APPEND),
}


@pytest.mark.chaos
@pytest.mark.parametrize("name", POINTS)
def test_killed_in_between(wired: Wired, trial: Trials, name: str) -> None:
    point = POINTS[name]
    proxy, held = point.server(wired), Held(point.way, matching=point.matching)

    def kill_in_between() -> None:
        proxy.inflict(held)
        assert held.caught.wait(CAUGHT_S), "nothing came by"
        victim.kill()
        victim.wait(CAUGHT_S)

    victim = wired.actor(point.victim)
    # held for a second longer: by then the successor has begun, and has not yet sent anything
    blow = Fault(kill_in_between, proxy.heal if point.late else proxy.cut, lasts_s=1.0)
    row = trial(wired, f"kill -9 of {name}").run(blow)
    assert wired.actor(point.victim).pid != victim.pid
    assert row.ok > 50
