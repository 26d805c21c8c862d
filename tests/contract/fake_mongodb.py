"""Servers of MongoDB's wire protocol that shake hands, and then do what a test says."""

from __future__ import annotations

import asyncio
from typing import Any

import bson

HELLO = {
    "ok": 1, "isWritablePrimary": True, "maxWireVersion": 21, "minWireVersion": 0, "helloOk": True,
    "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 1000,
}  # fmt: skip
TIME_IS_UP = {"ok": 0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "operation exceeded time limit"}
OP_MSG, OP_QUERY_REPLY = 2013, 1


class FakeMongoDB:
    """Enter it for its address. `received` are the commands it was sent, without greetings."""

    hello: dict[str, Any] = HELLO

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def answer(self) -> dict[str, Any]:
        """What it says to the last of `received`. Raises `ConnectionError` to close the connection."""
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await reader.readexactly(16)
                size, request, _, opcode = (int.from_bytes(header[i : i + 4], "little") for i in (0, 4, 8, 12))
                body = await reader.readexactly(size - 16)
                is_message = opcode == OP_MSG
                # Five bytes of flags before the document; the driver's first greeting has another form.
                command = bson.decode(body[5 : 5 + int.from_bytes(body[5:9], "little")]) if is_message else {}
                if not command or next(iter(command)).lower() in ("hello", "ismaster"):
                    answer = self.hello
                else:
                    self.received.append(command)
                    answer = await self.answer()
                flags = b"\0" * 5 if is_message else (8).to_bytes(4, "little") + b"\0" * 12 + (1).to_bytes(4, "little")
                payload = flags + bson.encode(answer)
                numbers = (16 + len(payload), 1, request, OP_MSG if is_message else OP_QUERY_REPLY)
                writer.write(b"".join(number.to_bytes(4, "little") for number in numbers) + payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


class Silent(FakeMongoDB):
    """Never answers a command, or closes the connection instead."""

    def __init__(self, close: bool) -> None:
        super().__init__()
        self._close = close

    async def answer(self) -> dict[str, Any]:
        if not self._close:
            await asyncio.Event().wait()
        raise ConnectionResetError


class Answering(FakeMongoDB):
    """Answers every command with the same."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._answer = answer or {"ok": 1}

    async def answer(self) -> dict[str, Any]:
        return self._answer


class Mongos(Answering):
    """As far as a greeting tells."""

    hello = HELLO | {"msg": "isdbgrid"}


class Locked(FakeMongoDB):
    """Greets at once, while every write waits for `unlocked`, also one that nobody waits for any more: as a mongod
    does under `fsyncLock`, and a mongos while a shard has no primary. It ends itself what was given a time."""

    def __init__(self) -> None:
        super().__init__()
        self.unlocked = asyncio.Event()
        self.waiting = self.most_waiting = 0

    async def answer(self) -> dict[str, Any]:
        command = self.received[-1]
        if "buildInfo" in command:
            return {"ok": 1}
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            async with asyncio.timeout(command["maxTimeMS"] / 1000 if "maxTimeMS" in command else None):
                await self.unlocked.wait()
            return {"ok": 1, "n": 1}
        except TimeoutError:
            return TIME_IS_UP
        finally:
            self.waiting -= 1
