"""What a request may bring on its way in, and what becomes of an answer on its way to the socket."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import uvicorn
from loop_clock import stop_clock
from uvicorn.server import ServerState

from serve_app.protocol import Protocol, _Gathered
from serve_app.unread import Unread


class Transport:
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[bytes | str] = []
        self.full = False
        self.unsent_bytes = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

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
    assert transport.seen == []
    answer.write(b"body")
    assert transport.seen == [b"head body"]  # at once, before whatever else is answered in this turn
    answer.write(b"a head alone")
    await asyncio.sleep(0)
    assert transport.seen == [b"head body", b"a head alone"]


async def test_what_was_written_leaves_before_the_connection_closes() -> None:
    answer, transport = gathered()
    answer.write(b"last words")
    answer.close()
    await asyncio.sleep(0)
    assert transport.seen == [b"last words", "closed"]
    assert answer.is_closing()


async def test_what_has_left_in_part_is_still_held_as_a_whole() -> None:
    """By uvloop, which counts the rest."""
    answer, transport = gathered()
    answer.write(b"head ")
    answer.write(b"body")
    transport.unsent_bytes = 2
    assert answer.get_write_buffer_size() >= len(b"head body")
    transport.unsent_bytes = 0
    assert answer.get_write_buffer_size() == 0


async def test_a_caller_whose_answer_cannot_be_written_is_not_left_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    answer, transport = gathered()
    transport.full = True
    answer.write(b"an answer")
    await asyncio.sleep(0)
    assert transport.seen == ["aborted"]


class Connection(Transport):
    """The transport of a connection to an application that notes each request and answers 204."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_bodies = True
        self.is_read = True
        self.behind: list[int] = []  # requests that were queued behind each
        self.requests: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
        config = uvicorn.Config(self._answer, interface="asgi3", lifespan="off", http=Protocol, ws="none")
        config.load()
        self.protocol = Protocol(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.connection_made(cast(asyncio.Transport, self))

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", self.reads_bodies
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.requests.append((scope["headers"], body))
        self.behind.append(len(self.protocol.pipeline))
        assert not (self.is_read and self.protocol.pipeline)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    async def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            while not self.is_read:
                await asyncio.sleep(0)
            if self.is_closing() or "aborted" in self.seen:
                return
            self.protocol.data_received(piece)
            for _ in range(5):
                await asyncio.sleep(0)

    @property
    def said(self) -> bytes:
        return b"".join(part for part in self.seen if isinstance(part, bytes))


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    one = Connection()
    yield one
    one.protocol.connection_lost(None)


HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
ENDLESS = [b"x" * 10_000] * 10


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n"], ids=["url", "value", "many"]
)
async def test_a_head_without_end_is_refused(connection: Connection, begin: bytes) -> None:
    pieces = [b"a: b\r\n" * 2_000] * 10 if begin.endswith(b"\n") else ENDLESS
    await connection.receive(begin, *pieces)
    assert connection.said.startswith(b"HTTP/1.1 431 ")
    assert connection.is_closing()
    assert connection.requests == []


@pytest.mark.parametrize("begin", [b"\r\n1;", b"\r\n0\r\nA: "], ids=["chunk", "trailer"])
async def test_nor_may_anything_between_or_behind_a_body_go_on_without_end(
    connection: Connection, begin: bytes
) -> None:
    await connection.receive(HEAD + begin, *ENDLESS)
    assert connection.seen == ["closed"]
    assert connection.requests == []


async def test_a_large_body_and_many_requests_on_one_connection_are_no_head(connection: Connection) -> None:
    size = sum(map(len, ENDLESS))
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    await connection.receive(head, *ENDLESS)
    for _ in range(100):
        await connection.receive(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"h" * 1_000))
    assert connection.said.count(b"HTTP/1.1 204 ") == len(connection.requests) == 101
    assert len(connection.requests[0][1]) == size


WHOLE = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"


@pytest.mark.parametrize(
    "pieces", [[], [b"GET / HTT"], [WHOLE, b"GET / HTT"]], ids=["nothing", "a part", "a part later"]
)
async def test_a_head_that_does_not_come_is_not_waited_for_without_end(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    """The machine of its caller may be gone without a word: these would take all descriptors in time."""
    advance = stop_clock(monkeypatch)
    await connection.receive(*pieces)
    await advance(4.0)
    assert not connection.is_closing()
    await advance(2.0)
    assert connection.is_closing()


@pytest.mark.parametrize("pieces", [[], [WHOLE]], ids=["fresh", "kept"])
async def test_of_a_connection_that_was_reset_nothing_stays(pieces: list[bytes]) -> None:
    """Of one that ends well nothing does; a check of health that resets its own would fill the memory."""
    connection = Connection()
    await connection.receive(*pieces)
    gone = weakref.ref(connection.protocol)
    connection.protocol.connection_lost(ConnectionResetError())
    del connection.protocol
    gc.collect()
    assert gone() is None


async def test_behind_its_head_a_request_has_the_time_it_needs(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = stop_clock(monkeypatch)
    await connection.receive(WHOLE[:-1])
    await advance(60.0)
    await connection.receive(b"x")
    assert len(connection.requests) == 1
    assert not connection.is_closing()


async def test_what_is_not_http_is_refused(connection: Connection) -> None:
    await connection.receive(WHOLE, b"\0")
    answer, refusal = connection.said.split(b"HTTP/1.1 ")[1:]
    assert answer.startswith(b"204 ")
    assert refusal.startswith(b"400 ")
    assert connection.is_closing()


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE + WHOLE + b"\0"],
        [WHOLE + WHOLE + b"GET nonsense\r\n\r\n"],
        [WHOLE, HEAD + b"A: " + b"x" * 100_000],
    ],
    ids=["a byte too many", "no head", "a head without end"],
)
async def test_a_refusal_is_not_taken_for_the_answer_to_what_came_whole(
    connection: Connection, pieces: list[bytes]
) -> None:
    """That is answered, else somebody would hear 4xx of a write which is kept; and nothing behind it is looked at."""
    for piece in pieces:
        connection.protocol.data_received(piece)
    headers = list(connection.protocol.headers)
    connection.protocol.data_received(b"\r\nB: c\r\nD: e\r\n\r\n")
    assert connection.protocol.headers == headers
    while not connection.is_closing():
        await asyncio.sleep(0)
    whole = pieces[0].count(WHOLE)
    assert [body for _, body in connection.requests] == [b"x"] * whole
    assert connection.said.count(b"HTTP/1.1 ") == connection.said.count(b"HTTP/1.1 204 ") == whole


@pytest.mark.parametrize("pieces", [[b"\r\nzz\r\n"], [b"\r\n", b"zz\r\n"]], ids=["at once", "answered before"])
async def test_nor_for_the_answer_to_what_is_done_without_its_body(connection: Connection, pieces: list[bytes]) -> None:
    connection.reads_bodies = False
    await connection.receive(HEAD + pieces[0], *pieces[1:])
    assert len(connection.requests) == 1
    assert b" 400 " not in connection.said
    assert connection.is_closing()


OFFER = (
    b"POST /a?b HTTP/1.1\r\nHost: h\r\nConnection: %b\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
    b"Content-Length: 37\r\n\r\n"
)
SMUGGLED = b"DELETE /x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("connected", [b"Upgrade, HTTP2-Settings", b"close, Upgrade"], ids=["stays", "closes"])
@pytest.mark.parametrize("cut", [1, 60, 120, 150, 170], ids=lambda cut: f"cut at {cut}")
async def test_who_offers_another_protocol_is_answered_as_who_does_not(
    connection: Connection, caplog: pytest.LogCaptureFixture, connected: bytes, cut: int
) -> None:
    """Java's client does with its first request, curl with --http2. The body is no request of its own."""
    whole = OFFER % connected + SMUGGLED
    await connection.receive(whole[:cut], whole[cut:])
    if b"close" not in connected:
        await connection.receive(whole + WHOLE)
    assert [body for _, body in connection.requests] == [SMUGGLED, SMUGGLED, b"x"][: 1 if b"close" in connected else 3]
    headers, _ = connection.requests[0]
    assert headers == [
        (b"host", b"h"), (b"connection", connected), (b"http2-settings", b"AAM"), (b"content-length", b"37"),
    ]  # fmt: skip
    assert connection.said.count(b"HTTP/1.1 ") == connection.said.count(b"HTTP/1.1 204 ") == len(connection.requests)
    assert connection.is_closing() is (b"close" in connected)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_an_offer_behind_another_request_waits_for_its_turn(connection: Connection) -> None:
    offer = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0", 1) + b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n"
    connection.protocol.data_received(WHOLE + offer)
    await connection.receive(b"1\r\ny\r\n", b"0\r\n\r\n")
    assert [body for _, body in connection.requests] == [b"x", b"y"]
    assert connection.is_closing(), "as version 1.0 does"


@pytest.mark.parametrize("target", [b"h:80", b"/"])
async def test_this_is_no_proxy(connection: Connection, target: bytes) -> None:
    await connection.receive(b"CONNECT %b HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n" % target)
    assert connection.said.startswith(b"HTTP/1.1 400 ")
    assert connection.is_closing()


@pytest.mark.parametrize("reads_bodies", [True, False])
@pytest.mark.parametrize("packet", [1, 10, 1_000])
async def test_requests_in_advance_are_answered_in_order_and_not_taken_up_at_once(
    connection: Connection, packet: int, reads_bodies: bool
) -> None:
    """Each takes two kilobytes while it is queued, and the smallest has eighteen bytes."""
    connection.reads_bodies = reads_bodies
    asked = [b"GET / HTTP/1.1\r\nN:%d\r\n\r\n" % number for number in range(1_000)]
    await connection.receive(*(b"".join(asked[begin : begin + packet]) for begin in range(0, len(asked), packet)), b"")
    assert [dict(headers)[b"n"] for headers, _ in connection.requests] == [b"%d" % number for number in range(1_000)]
    assert connection.said.count(b"HTTP/1.1 204 ") == 1_000
    assert max(connection.behind) < 200


async def test_a_trailer_is_no_header(connection: Connection) -> None:
    await connection.receive(HEAD + b"X-Caller: a\r\n\r\n", b"1\r\nx\r\n", b"0\r\nX-Caller: b\r\n\r\n")
    ((headers, body),) = connection.requests
    assert body == b"x"
    assert [value for name, value in headers if name == b"x-caller"] == [b"a"]


async def test_a_caller_that_does_not_read_its_answer_is_cut_off(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer would lie in memory for as long as it likes."""
    monkeypatch.setattr(Protocol, "_unread", Unread(patience_s=60.0))
    advance = stop_clock(monkeypatch)
    await connection.receive(WHOLE[:-1])
    connection.protocol.pause_writing()
    await advance(59.0)
    connection.protocol.resume_writing()  # slow, but it reads
    await advance(10.0)
    assert connection.seen == []
    connection.protocol.pause_writing()
    await advance(59.0)
    assert connection.seen == []
    await advance(1.1)
    assert connection.seen == ["aborted"]
    assert len(Protocol._unread) == 0


async def test_a_caller_that_reads_slowly_and_on_is_not_cut_off(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "_unread", Unread(patience_s=60.0))
    advance = stop_clock(monkeypatch)
    await connection.receive(WHOLE[:-1])
    connection.unsent_bytes = 1_000_000
    connection.protocol.pause_writing()
    for _ in range(5):
        connection.unsent_bytes -= 100_000
        await advance(60.1)
    assert connection.seen == []
    connection.unsent_bytes -= 10_000
    await advance(60.1)
    assert connection.seen == ["aborted"]


async def test_a_connection_that_ends_is_not_counted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protocol, "_unread", Unread())
    one = Connection()
    one.protocol.pause_writing()
    assert len(Protocol._unread) == 1
    one.protocol.connection_lost(None)
    assert len(Protocol._unread) == 0


async def test_answers_that_are_not_read_are_bounded_together() -> None:
    unread = Unread(max_together_bytes=100)
    transports = [Transport() for _ in range(3)]
    for transport, transport.unsent_bytes in zip(transports, (60, 30, 80), strict=True):
        unread.begin(cast(asyncio.Transport, transport))
    assert [transport.seen for transport in transports] == [["aborted"], ["aborted"], []], "who is behind longest"
    assert len(unread) == 1
    unread.end(cast(asyncio.Transport, transports[2]))
