"""Protocol: HTTP/1.1 as it is spoken to a socket of a replica, Serve's and our own."""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any

import httptools
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_app.unread import Unread

_MAX_HEAD_BYTES = 64 * 1024  # HAProxy's is a quarter of it
_PIECE_BYTES = 4096  # two hundred of the smallest requests
_INVALID = b"400 Bad Request", b"This is not HTTP as it is spoken here.\n"
_TOO_LARGE = b"431 Request Header Fields Too Large", b"The request line and the headers may have 64 KiB together.\n"


def install() -> None:
    """Every uvicorn that this process starts from now on speaks `Protocol`, unless it is told what to speak. Serve's is
    not; it stands behind the front door, starts when the replica is made, and has no option for this."""
    auto.AutoHTTPProtocol = Protocol


class Protocol(HttpToolsProtocol):
    """uvicorn's, with other rules for what comes, and for the answers.

    What comes before, between and behind a body is bounded: uvicorn would collect a header without end, and wait for
    ever for one that does not come, as from a caller whose machine is gone. A trailer is no header: else a caller could
    name itself behind its proxy. A refusal does not take the place of another answer. An offer to speak another
    protocol is not taken up: uvicorn would lose the body behind it. Requests in advance are answered in their order and
    wait as they came: uvicorn would take up all at once.

    Head and body of an answer leave together: apart they are two system calls, two segments and two wake-ups of the
    caller, a tenth of what a request costs here. Answers that are not read do not stay for ever.
    """

    _unread = Unread()  # of this process

    _rest: bytes | memoryview = b""  # not parsed yet; only while requests are queued
    _is_over = False
    _in_head = False
    _idle_bytes = 0  # since something came that the parser is done with

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        gathered: Any = _Gathered(transport, self.loop)
        super().connection_made(gathered)
        self.flow = _Flow(gathered, self.pipeline)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread.end(self.transport)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn's keeps one that was reset in memory until its time would be up

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.begin(self.transport)

    def resume_writing(self) -> None:
        self._unread.end(self.transport)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE_BYTES:
            self._parse(data)
        else:
            self._rest = memoryview(data)
            self._parse_rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._rest:
            self._parse_rest()

    def _parse_rest(self) -> None:
        """A request that is queued takes a hundred times the memory of its bytes: so these wait until none is."""
        while self._rest and not self.pipeline:
            piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
            self._parse(piece)

    def _parse(self, data: bytes | memoryview) -> None:
        if self._is_over:
            return
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            head = self._head_without_offer()
            self.parser = httptools.HttpRequestParser(self)
            self._parse(head + data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(*_INVALID)
        else:
            if self._idle_bytes > _MAX_HEAD_BYTES:
                self._refuse(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._idle_bytes = False, 0
        self._unset_keepalive_if_required()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("This is no proxy.")
            return  # the same head comes again
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        """Of the request that has just come, which offers another protocol (RFC 9110, section 7.8). The parser takes
        that for settled: it leaves out the body, and would take what comes next for a request."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"%b%b\r\n" % (line, b"".join(headers))

    def _refuse(self, status: bytes, why: bytes) -> None:
        """Nothing that comes from now on is taken. It is said only to whoever waits for no other answer: it would pass
        for that one, and what was asked for may be done all the same."""
        self._is_over = True
        cycle = self.cycle  # of the last request whose head was whole
        if cycle is not None and cycle.more_body:
            self.transport.close()
        elif cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # all that came whole are answered first
        else:
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\nconnection: close\r\n" % status
            self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(why), why))
            self.transport.close()


class _Flow(FlowControl):
    """uvicorn's, but while requests are queued nothing is read. uvicorn reads on whenever one is answered or asks for
    its body, so that they could come faster than they leave."""

    def __init__(self, transport: asyncio.Transport, queued: Sized) -> None:
        super().__init__(transport)
        self._queued = queued

    def resume_reading(self) -> None:
        if self.read_paused and not self._queued:
            super().resume_reading()


class _Gathered:
    """A transport that holds a piece back until the next one, or until the turn of the loop ends; everything else is
    the transport's own.

    With the body its head leaves at once, and not after all the others that are answered in this turn: meanwhile the
    first of their callers could be asking again.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._last_bytes = 0  # of the last write

    def get_write_buffer_size(self) -> int:
        """Bytes of answers that are held here at most, until their caller reads on.

        uvloop counts what has not left, but keeps the whole of a write of which a part has.
        """
        unsent = self._transport.get_write_buffer_size()
        return unsent + self._last_bytes if unsent else 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        if len(self._parts) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            try:
                answer = b"".join(parts)
                self._last_bytes = len(answer)
                self._transport.write(answer)
            except BaseException:  # no memory left, say: the caller must not be left waiting, whoever hears of it here
                self._transport.abort()
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
