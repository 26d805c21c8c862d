"""Channel: calls to an actor on the same machine over a socket of its own, past Ray's task machinery.

A call through Ray costs either side most of a millisecond of CPU and the caller some milliseconds of waiting; over a
socket it is a tenth of that (docs/decisions/0009). Ray keeps what it is good at: the actor's life, its name, restarts.

The socket is a Unix socket in the abstract namespace, which leaves no file behind when its process is killed. Its name
is a secret of 128 bits, and both ends ask the kernel that the other is the same user; so unpickling is as safe as it is
between Ray's own processes.

One frame: four bytes of length, then a pickle. A request is (ticket, method, arguments), an answer (ticket, answer).
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import struct
from dataclasses import dataclass
from itertools import count
from typing import Any, cast
from uuid import uuid4

from actors.core.errors import AnswerTooLarge

log = logging.getLogger("spillway")

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_UNSENT_BYTES = MAX_FRAME_BYTES  # what an actor that hangs has not read yet stays here, when its callers have gone
MAX_CALLS = 1_000  # under way on one connection; above it the socket is not read, and the caller's writes pile up there
_BACKLOG = 128
_HEAD = struct.Struct("!I")
_PEER = struct.Struct("3i")  # pid, uid, gid


class ChannelLost(ConnectionError):
    """The other side is gone; what was asked may have been done."""


class ChannelFull(ConnectionError):
    """The other side has not taken what it was sent before; this has not been sent."""


class FrameTooLarge(ValueError):
    """More than `MAX_FRAME_BYTES` in one call or answer."""


class CallFailed(Exception):
    """The method raised; the text is its error's."""


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    is_size: bool  # of the answer; the method itself did not fail


class _Frames(asyncio.Protocol):
    """Pickled objects over a byte stream, between two processes of one user."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _, uid, _ = _PEER.unpack(
            transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        )
        if uid != os.geteuid():
            log.error("a process of user %d was turned away from a channel", uid)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        while len(self._bytes) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._bytes)
            if length > MAX_FRAME_BYTES:
                self.abort()
                return
            end = _HEAD.size + length
            if len(self._bytes) < end:
                return
            frame = bytes(memoryview(self._bytes)[_HEAD.size : end])
            del self._bytes[:end]
            self.received(pickle.loads(frame))  # noqa: S301 - from a process of this user, see the top

    def send(self, item: Any) -> None:
        """Raises what keeps `item` from being pickled, and `FrameTooLarge`."""
        frame = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        if len(frame) > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"{len(frame)} bytes are more than a channel carries in one call ({MAX_FRAME_BYTES})")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(len(frame)) + frame)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def received(self, item: Any) -> None:
        raise NotImplementedError


class ChannelServer:
    """Answers calls of the public methods of one object, each in a task of its own."""

    def __init__(self, target: object) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._clients: set[_Served] = set()

    async def open(self) -> str:
        """Listen; returns the name for `Channel.connect`. Until the process ends, or `close`."""
        name = f"spillway-{uuid4().hex}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{name}")
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._server = await asyncio.get_running_loop().create_unix_server(self._serve, sock=listener)
        return name

    def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.abort()

    def _serve(self) -> _Served:
        return _Served(self._target, self._clients)


class _Served(_Frames):
    """One connection, on the side that answers."""

    def __init__(self, target: object, clients: set[_Served]) -> None:
        super().__init__()
        self._target = target
        self._clients = clients
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """What has begun goes on: a caller that has gone does not undo an append."""
        self._clients.discard(self)

    def received(self, item: Any) -> None:
        ticket, method, arguments = item
        task = asyncio.get_running_loop().create_task(self._answer(ticket, method, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if len(self._tasks) >= MAX_CALLS and self._transport is not None:
            self._transport.pause_reading()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) == MAX_CALLS - 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _answer(self, ticket: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            if method.startswith("_"):
                raise AttributeError(f"{method} is not public")
            self.send((ticket, await getattr(self._target, method)(*arguments)))
        except Exception as error:
            try:
                self.send((ticket, _Failure(f"{type(error).__name__}: {error}", isinstance(error, FrameTooLarge))))
            except BaseException:  # no memory, say: a lost connection tells the caller too
                self.abort()
                raise
            log.exception("a call of %s failed", method)


class Channel(_Frames):
    """One connection, on the side that asks."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tickets = count()

    @classmethod
    async def connect(cls, name: str) -> Channel:
        """Raises `OSError` when nobody listens under `name` on this machine."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)  # the kernel takes it at once or refuses it
            connection.connect(f"\0{name}")
        except OSError:
            connection.close()
            raise
        _, channel = await asyncio.get_running_loop().create_unix_connection(cls, sock=connection)
        return channel

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def call(self, method: str, *arguments: Any) -> Any:
        """The method's answer. Raises `ChannelLost`, `ChannelFull`, `CallFailed`, `AnswerTooLarge`. Cancelled, it
        leaves the call to its fate."""
        if self._transport is None or self._transport.is_closing():
            raise ChannelLost
        if self._transport.get_write_buffer_size() >= MAX_UNSENT_BYTES:
            raise ChannelFull
        ticket = next(self._tickets)
        self.send((ticket, method, arguments))
        answer = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            self._waiting.pop(ticket, None)

    def received(self, item: Any) -> None:
        ticket, answer = item
        waiting = self._waiting.get(ticket)
        if waiting is None or waiting.done():
            return  # its caller did not wait that long
        if isinstance(answer, _Failure):
            waiting.set_exception((AnswerTooLarge if answer.is_size else CallFailed)(answer.text))
        else:
            waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelLost())
