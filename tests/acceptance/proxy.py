"""A TCP proxy that does to connections what networks do: late, in crumbs, never, or cut off behind the command.

It runs in a thread of the test process. What happens to bytes under way is a `Fault`, exchanged while connections are
open. Bytes of one direction of one connection always stay in their order, and the end of a connection waits behind
them, as it would in a network: what is held when its sender dies may still be delivered.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any, TypeVar

from cluster.embedded import ports

T = TypeVar("T")
Matching = Callable[[bytes], bool]

CHUNK_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Way(Enum):
    """Where bytes go: from the service to the server, or back."""

    REQUEST = "request"
    REPLY = "reply"


def carries(*tokens: bytes) -> Matching:
    """Whether a request holds all of `tokens`; a command's name and keys are at its beginning: one look is enough."""
    return lambda data: all(token in data for token in tokens)


class Fault:
    """What happens to bytes under way; this one lets them pass."""

    async def carry(self, link: Link, way: Way, data: bytes) -> None:
        await link.deliver(way, data)

    def lift(self) -> None:
        """It is over: what it still holds goes on its way."""


class Slow(Fault):
    """Every piece is late by `delay_s` and up to `jitter_s` more."""

    def __init__(self, delay_s: float, jitter_s: float, seed: int) -> None:
        self._delay_s, self._jitter_s, self._dice = delay_s, jitter_s, random.Random(seed)

    async def carry(self, link: Link, way: Way, data: bytes) -> None:
        await asyncio.sleep(self._delay_s + self._dice.uniform(0, self._jitter_s))
        await link.deliver(way, data)


class Sliced(Fault):
    """The first bytes of every piece arrive one small slice at a time, the rest at once: any reader meets every cut."""

    def __init__(self, size: int = 3, slices: int = 40, pause_s: float = 0.001) -> None:
        self._size, self._slices, self._pause_s = size, slices, pause_s

    async def carry(self, link: Link, way: Way, data: bytes) -> None:
        cut = min(len(data), self._size * self._slices)
        for at in range(0, cut, self._size):
            await link.deliver(way, data[at : min(at + self._size, cut)])
            await asyncio.sleep(self._pause_s)
        await link.deliver(way, data[cut:])


class Held(Fault):
    """What matches, or the replies to it, waits here until the fault is lifted; `caught` tells that something does."""

    def __init__(self, *ways: Way, matching: Matching = lambda data: True) -> None:
        self.caught = threading.Event()
        self._ways = ways
        self._matching = matching
        self._open = asyncio.Event()

    async def carry(self, link: Link, way: Way, data: bytes) -> None:
        if way is Way.REQUEST:
            link.marked = self._matching(data)
        if way in self._ways and link.marked:
            self.caught.set()
            await self._open.wait()
        await link.deliver(way, data)

    def lift(self) -> None:
        self._open.set()


def half_open() -> Held:
    """Connections are accepted and stay, and nothing comes through any more."""
    return Held(Way.REQUEST, Way.REPLY)


class ReplyLost(Fault):
    """The request arrives; instead of its reply the connection is reset."""

    def __init__(self, matching: Matching) -> None:
        self.times = 0
        self._matching = matching

    async def carry(self, link: Link, way: Way, data: bytes) -> None:
        if way is Way.REPLY and link.marked:
            self.times += 1
            link.reset()
            return
        if way is Way.REQUEST:
            link.marked = self._matching(data)
        await link.deliver(way, data)


class Link:
    """One proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.marked = False  # the last request was one that the fault looks for
        self._to = {Way.REQUEST: server, Way.REPLY: client}

    async def deliver(self, way: Way, data: bytes) -> None:
        self._to[way].write(data)
        await self._to[way].drain()

    def end(self, way: Way) -> None:
        """What came this way has ended, and everything before it is delivered."""
        self._to[way].close()

    def reset(self) -> None:
        """Both ends see a connection reset; what was under way is gone."""
        for writer in self._to.values():
            found: socket.socket | None = writer.get_extra_info("socket")
            if found is not None and found.fileno() >= 0:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


class FaultProxy:
    """Listens on `port` of the loopback and passes everything on to `upstream`. `close` it."""

    def __init__(self, upstream_port: int) -> None:
        self.port = ports.free_port(0)  # of those that stay free while nobody listens
        self._upstream_port = upstream_port
        self._fault = Fault()
        self._links: dict[Link, list[asyncio.Task[None]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self._server = self._do(self._listen())

    def inflict(self, fault: Fault) -> None:
        """From now on, for open connections too. What the fault before held goes on its way."""
        self._do(self._exchange(fault))

    def heal(self) -> None:
        """Everything passes again, what was held first: it arrives late, whether its sender still lives or not."""
        self.inflict(Fault())

    def cut(self) -> None:
        """Every connection is reset, and what was held never arrives; new ones pass."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Nobody listens any more, and open connections are reset."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Somebody listens again."""
        self._server = self._do(self._listen())

    def close(self) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, ports.LOOPBACK, self.port)

    async def _exchange(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        before.lift()

    async def _cut(self) -> None:
        tasks = [task for pumps in self._links.values() for task in pumps]
        for link in list(self._links):
            link.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._exchange(Fault())

    async def _refuse(self) -> None:
        self._server.close()
        await self._cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(ports.LOOPBACK, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, to_server)
        ways = ((Way.REQUEST, reader), (Way.REPLY, from_server))
        tasks = [asyncio.create_task(self._pump(link, way, source)) for way, source in ways]
        self._links[link] = tasks
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.pop(link, None)

    async def _pump(self, link: Link, way: Way, source: asyncio.StreamReader) -> None:
        try:
            with suppress(OSError):  # a reset is an end too
                while data := await source.read(CHUNK_BYTES):
                    await self._fault.carry(link, way, data)
        finally:
            link.end(way)
