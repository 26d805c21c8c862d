"""The unit ring has no outside world."""

import asyncio
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
import ray

from tests.conftest import OutsideWorld


@pytest.fixture(autouse=True)
def _meant(refusals: list[str]) -> Iterator[None]:
    """Elsewhere a refusal makes the test red."""
    yield
    refusals.clear()


def test_a_socket_cannot_be_opened() -> None:
    with socket.socket() as one, pytest.raises(OutsideWorld, match="open a socket"):
        one.connect(("127.0.0.1", 9))
    with socket.socket() as one, pytest.raises(OutsideWorld, match="open a socket"):
        one.bind(("127.0.0.1", 0))


async def test_nobody_sleeps_and_everybody_may_yield() -> None:
    with pytest.raises(OutsideWorld, match="ManualClock"):
        time.sleep(0)
    with pytest.raises(OutsideWorld, match="ManualClock"):
        await asyncio.sleep(0.001)
    assert await asyncio.sleep(0, "went on") == "went on"


def test_what_is_on_this_machine_is_not_asked_through_a_proxy() -> None:
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost"))


def test_ray_cannot_be_started() -> None:
    with pytest.raises(OutsideWorld, match="start Ray"):
        ray.init()


def test_a_refusal_that_the_code_has_caught_is_not_forgotten(refusals: list[str]) -> None:
    with suppress(BaseException):
        time.sleep(1)
    assert refusals == ["a unit test must not sleep: advance a ManualClock"]


def test_event_loops_still_work() -> None:
    async def answer() -> int:
        return 42

    assert asyncio.run(answer()) == 42
