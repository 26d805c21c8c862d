"""The network between the service and its servers: late, in slices, half-open, refusing, cut off behind a command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.proxy import Fault as Wire
from tests.acceptance.proxy import FaultProxy, ReplyLost, Sliced, Slow, half_open
from tests.acceptance.session import Session
from tests.acceptance.trial import Fault, Trials
from tests.acceptance.wired import APPEND, INSERT, Wired

LASTS_S = 6.0


def wire(proxy: FaultProxy, fault: Wire, hides: str = "") -> Fault:
    return Fault(lambda: proxy.inflict(fault), proxy.heal, lasts_s=LASTS_S, hides=hides)


FAULTS: dict[str, Callable[[Wired, int], Fault]] = {
    "MongoDB answers 200 to 300 ms late": lambda it, seed: wire(it.mongodb, Slow(0.1, 0.05, seed)),
    "Redis answers 100 to 200 ms late": lambda it, seed: wire(it.redis, Slow(0.05, 0.05, seed)),
    "bytes to and from MongoDB in slices of 3": lambda it, seed: wire(it.mongodb, Sliced()),
    "bytes to and from Redis in slices of 3": lambda it, seed: wire(it.redis, Sliced()),
    "connections to MongoDB half-open": lambda it, seed: wire(it.mongodb, half_open(), hides="mongodb"),
    "connections to Redis half-open": lambda it, seed: wire(it.redis, half_open(), hides="redis"),
    "connections to MongoDB refused": lambda it, seed: Fault(it.mongodb.refuse, it.mongodb.accept, lasts_s=LASTS_S),
    "connections to Redis refused": lambda it, seed: Fault(it.redis.refuse, it.redis.accept, lasts_s=LASTS_S),
}


@pytest.mark.chaos
@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_network(wired: Wired, trial: Trials, session: Session, name: str) -> None:
    actors = [wired.actor(title).pid for title in ("BufferActor", "MongoWriter")]
    row = trial(wired, name).run(FAULTS[name](wired, session.seed))
    assert row.ok > 50
    assert [wired.actor(title).pid for title in ("BufferActor", "MongoWriter")] == actors, "nobody had to die for it"


@pytest.mark.parametrize("server", ["MongoDB", "Redis"])
def test_the_reply_is_lost_after_the_command_was_forwarded(wired: Wired, trial: Trials, server: str) -> None:
    proxy, lost = (wired.mongodb, ReplyLost(INSERT)) if server == "MongoDB" else (wired.redis, ReplyLost(APPEND))
    blow = Fault(lambda: proxy.inflict(lost), proxy.heal, lasts_s=2.0)
    row = trial(wired, f"replies of {server} lost behind the command").run(blow)
    assert lost.times > 0
    assert row.ok > 50
