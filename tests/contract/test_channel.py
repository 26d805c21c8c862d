"""The channel between actors on one machine: answers, failures, ends."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
import ray

from actors.calls import ActorAway, Remote
from actors.channel import (
    MAX_CALLS,
    MAX_FRAME_BYTES,
    MAX_UNSENT_BYTES,
    CallFailed,
    Channel,
    ChannelLost,
    ChannelServer,
)
from actors.core.errors import AnswerTooLarge, QueueFull

LONG_S = 60.0  # so that what never happens fails, and does not hang


class Target:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        self.echoed = 0
        self.ended = 0

    async def echo(self, *items: object) -> tuple[object, ...]:
        self.echoed += 1
        return items

    async def blank(self, size: int) -> bytes:
        return bytes(size)

    async def refuse(self) -> QueueFull:
        return QueueFull("full", 3.0)

    async def fail(self) -> None:
        raise KeyError("key")

    async def unpicklable(self) -> object:
        return lambda: None

    async def wait(self) -> None:
        self.begun += 1
        await self.gate.wait()
        self.ended += 1

    async def _hidden(self) -> None: ...


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
async def name(target: Target) -> AsyncIterator[str]:
    server = ChannelServer(target)
    yield await server.open()
    server.close()


@pytest.fixture
async def channel(name: str) -> Channel:
    return await Channel.connect(name)


async def test_a_call_whose_answer_and_failure_cannot_be_sent_ends_all_the_same(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without memory. The caller of a write would wait for an hour."""

    await channel.call("echo")
    calling = asyncio.ensure_future(channel.call("fail"))
    await asyncio.sleep(0)  # it has been sent

    def no_memory(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(pickle, "dumps", no_memory)
    with pytest.raises(ChannelLost):
        async with asyncio.timeout(LONG_S):
            await calling


async def test_many_calls_at_once_each_get_their_own_answer(channel: Channel) -> None:
    answers = await asyncio.gather(*(channel.call("echo", n, b"x" * n) for n in range(500)))
    assert answers == [(n, b"x" * n) for n in range(500)]


async def test_a_call_of_many_chunks_arrives_whole(channel: Channel) -> None:
    large = bytes(range(256)) * 40_000
    assert await channel.call("echo", large) == (large,)


async def test_what_an_actor_that_hangs_does_not_read_is_bounded_and_the_next_call_surely_not_sent() -> None:
    """Its callers give up after some seconds each and others come: a replica would keep the calls of all of them."""
    name, mib = f"spillway-{uuid4().hex}", bytes(1024 * 1024)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        remote = Remote("buffer", "")
        remote._channel = channel = await Channel.connect(name)
        ends: list[ActorAway] = []
        for _ in range(3 * MAX_UNSENT_BYTES // len(mib)):
            with pytest.raises(ActorAway) as end:
                await remote.call("echo", mib, timeout_s=0)
            ends.append(end.value)
        assert (ends[0].began, ends[-1].began) == (True, False)
        assert "hangs" in str(ends[-1])
        assert channel._transport is not None
        assert channel._transport.get_write_buffer_size() <= MAX_UNSENT_BYTES + 2 * len(mib)
        channel.abort()


async def test_while_rays_head_hangs_all_else_goes_on_and_a_call_surely_has_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Actors are looked up there. Else no time limit of the process would go off until it answers."""
    asked: list[str] = []
    is_back = threading.Event()

    def hangs(name: str, namespace: str) -> None:
        asked.append(name)
        is_back.wait(2.0)
        raise ValueError

    monkeypatch.setattr(ray, "get_actor", hangs)
    remote = Remote("buffer", "")
    calls = (remote.call("echo", timeout_s=0.01) for _ in range(3))
    ends = await asyncio.gather(*calls, return_exceptions=True)
    is_back.set()
    assert [isinstance(end, ActorAway) and ("did not answer" in str(end), end.began) for end in ends] == [
        (True, False)
    ] * 3
    assert asked == ["buffer"], "a thread for all of them"
    with pytest.raises(ActorAway, match="there is no") as end:
        await remote.call("echo", timeout_s=LONG_S)
    assert not end.value.began


async def test_errors_of_ours_are_values(channel: Channel) -> None:
    answer = await channel.call("refuse")
    assert isinstance(answer, QueueFull)
    assert answer.retry_after_s == 3.0


@pytest.mark.parametrize(
    ("method", "text"),
    [("fail", "KeyError: 'key'"), ("missing", "AttributeError"), ("_hidden", "not public"), ("unpicklable", "pickle")],
)
async def test_a_failing_call_fails_alone(channel: Channel, method: str, text: str) -> None:
    with pytest.raises(CallFailed, match=text):
        await channel.call(method)
    assert await channel.call("echo", 1) == (1,)


async def test_a_call_too_large_is_refused_before_it_is_sent(channel: Channel) -> None:
    with pytest.raises(ValueError, match="more than a channel carries"):
        await channel.call("echo", bytes(MAX_FRAME_BYTES))
    assert await channel.call("echo", 1) == (1,)


async def test_an_answer_too_large_is_told_as_that(channel: Channel) -> None:
    """Fewer documents at once may fit: a caller has to know that it is only this."""
    with pytest.raises(AnswerTooLarge, match="more than a channel carries"):
        await channel.call("blank", MAX_FRAME_BYTES)
    assert await channel.call("echo", 1) == (1,)


async def test_the_end_of_the_other_side_ends_every_call_under_way(target: Target) -> None:
    server = ChannelServer(target)
    channel = await Channel.connect(await server.open())
    calls = [asyncio.create_task(channel.call("wait")) for _ in range(3)]
    await until(lambda: target.begun == 3)
    server.close()
    async with asyncio.timeout(LONG_S):
        assert [type(end) for end in await asyncio.gather(*calls, return_exceptions=True)] == [ChannelLost] * 3
    assert not channel.is_open
    with pytest.raises(ChannelLost):
        await channel.call("echo")


async def test_a_caller_that_has_gone_does_not_undo_what_it_began(target: Target, channel: Channel) -> None:
    call = asyncio.create_task(channel.call("wait"))
    await until(lambda: target.begun)
    call.cancel()
    channel.abort()
    target.gate.set()
    await until(lambda: target.ended)


async def test_calls_under_way_are_bounded_and_none_is_dropped(target: Target, channel: Channel, name: str) -> None:
    calls = [asyncio.create_task(channel.call("wait", *())) for _ in range(MAX_CALLS)]
    await until(lambda: target.begun == MAX_CALLS)
    large = [asyncio.create_task(channel.call("echo", bytes(64 * 1024))) for _ in range(50)]
    other = await Channel.connect(name)
    async with asyncio.timeout(LONG_S):
        for _ in range(50):  # whoever read on would have come to the large ones meanwhile
            await other.call("echo")
    assert target.echoed == 50  # the server does not read on
    other.abort()
    target.gate.set()
    async with asyncio.timeout(LONG_S):
        await asyncio.gather(*calls, *large)


async def test_nobody_listens_under_an_unknown_name() -> None:
    with pytest.raises(OSError):
        await Channel.connect("spillway-nobody")


async def test_another_user_is_turned_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.channel.os.geteuid", lambda: 4711)  # to the server, everybody is a stranger now
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect(f"\0{name}")
    stranger.settimeout(LONG_S)
    try:
        heard = await asyncio.to_thread(stranger.recv, 1)
    except ConnectionResetError:
        heard = b""
    stranger.close()
    assert heard == b""  # and not a wait for the question
