"""The fault proxy before a real Redis: what each fault does to a connection, and what comes after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.acceptance.proxy import Fault, FaultProxy, Held, ReplyLost, Sliced, Slow, Way, carries, half_open

SOON_S = 2.0  # for what never comes; what does come must meet it too
LONG_S = 20.0


@pytest.fixture
def direct(redis_url: str) -> Iterator[redis.Redis]:
    """Redis itself, to see what has arrived."""
    with redis.Redis.from_url(redis_url) as client:
        client.delete("proxied")
        yield client


def client(proxy: FaultProxy, timeout_s: float = LONG_S) -> redis.Redis:
    return redis.Redis(port=proxy.port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


def test_everything_passes_unchanged(proxy: FaultProxy) -> None:
    payload = bytes(range(256)) * 10_000
    for fault in (Fault(), Sliced(), Slow(0.0, 0.001, seed=1)):
        proxy.inflict(fault)
        assert client(proxy).echo(payload) == payload


def test_slow_is_late(proxy: FaultProxy) -> None:
    with client(proxy) as there:
        there.ping()
        proxy.inflict(Slow(0.2, 0.0, seed=1))
        began = time.monotonic()
        there.ping()
    assert time.monotonic() - began >= 0.4, "both ways"


def test_half_open_takes_connections_and_gives_nothing_until_it_is_healed(proxy: FaultProxy) -> None:
    with client(proxy, SOON_S) as before:
        before.ping()
        proxy.inflict(half_open())
        for there in (before, client(proxy, SOON_S)):
            with pytest.raises(redis.TimeoutError):
                there.ping()
    proxy.heal()
    assert client(proxy).ping()


@pytest.mark.parametrize("late", [True, False])
def test_a_held_request_of_a_dead_sender_arrives_late_or_never(
    proxy: FaultProxy, direct: redis.Redis, late: bool
) -> None:
    held = Held(Way.REQUEST, matching=carries(b"INCR"))
    proxy.inflict(held)
    with client(proxy, SOON_S) as sender:
        assert sender.ping(), "what does not match passes"
        with pytest.raises(redis.TimeoutError):
            sender.incr("proxied")
    assert held.caught.is_set()
    assert direct.get("proxied") is None
    (proxy.heal if late else proxy.cut)()
    if late:
        deadline = time.monotonic() + LONG_S
        while direct.get("proxied") is None:
            assert time.monotonic() < deadline
    assert client(proxy).ping()
    assert direct.get("proxied") == (b"1" if late else None)


def test_a_held_reply_belongs_to_a_request_that_was_carried_out(proxy: FaultProxy, direct: redis.Redis) -> None:
    held = Held(Way.REPLY, matching=carries(b"INCR"))
    proxy.inflict(held)
    with client(proxy) as sender:
        sending = threading.Thread(target=sender.incr, args=("proxied",))
        sending.start()
        assert held.caught.wait(LONG_S)
        assert direct.get("proxied") == b"1"
        assert sending.is_alive()
        proxy.heal()
        sending.join(LONG_S)
        assert not sending.is_alive()


def test_a_lost_reply_is_a_reset_behind_a_command_that_was_carried_out(proxy: FaultProxy, direct: redis.Redis) -> None:
    lost = ReplyLost(carries(b"INCR"))
    proxy.inflict(lost)
    with client(proxy) as sender:
        assert sender.ping()
        with pytest.raises(redis.ConnectionError):
            sender.incr("proxied")
    assert (lost.times, direct.get("proxied")) == (1, b"1")


def test_refusing_resets_what_is_open_and_lets_nobody_in_until_it_accepts(proxy: FaultProxy) -> None:
    with client(proxy) as there:
        there.ping()
        proxy.refuse()
        for _ in range(2):  # the open connection, and a new one
            with pytest.raises(redis.ConnectionError):
                there.ping()
    proxy.accept()
    assert client(proxy).ping()
