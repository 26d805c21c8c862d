"""What the direct port does to an answer on its way to the socket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from serve_app.direct import _Gathered


class Transport:
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[bytes | str] = []
        self.full = False

    def write(self, data: bytes) -> None:
        if self.full:
            raise MemoryError
        self.seen.append(data)

    def abort(self) -> None:
        self.seen.append("aborted")

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen


def gathered() -> tuple[Any, Transport]:
    transport = Transport()
    return _Gathered(cast(asyncio.Transport, transport), asyncio.get_running_loop()), transport


async def test_head_and_body_of_an_answer_are_one_write() -> None:
    answer, transport = gathered()
    answer.write(b"head ")
    answer.write(b"body")
    assert transport.seen == []
    await asyncio.sleep(0)
    assert transport.seen == [b"head body"]
    answer.write(b"next")
    await asyncio.sleep(0)
    assert transport.seen == [b"head body", b"next"]


async def test_what_was_written_leaves_before_the_connection_closes() -> None:
    answer, transport = gathered()
    answer.write(b"last words")
    answer.close()
    await asyncio.sleep(0)
    assert transport.seen == [b"last words", "closed"]
    assert answer.is_closing()


async def test_a_caller_whose_answer_cannot_be_written_is_not_left_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    answer, transport = gathered()
    transport.full = True
    answer.write(b"an answer")
    await asyncio.sleep(0)
    assert transport.seen == ["aborted"]
