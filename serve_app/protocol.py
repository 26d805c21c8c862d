"""Protocol: HTTP/1.1 as it is spoken to a socket of a replica."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_app.unread import Unread

_MAX_HEAD_BYTES = 64 * 1024  # HAProxy's is a quarter of it
_TOO_LARGE = b"The request line and the headers may have 64 KiB together.\n"


class Protocol(HttpToolsProtocol):
    """uvicorn's, with three differences.

    Head and body of an answer leave together: apart they are two system calls, two segments and two wake-ups of the
    caller, a tenth of what a request costs here. And what comes before, between and behind a body is bounded: uvicorn
    would collect a header without end. A trailer is no header: else a caller could name itself behind its proxy. And
    answers that are not read do not stay for ever.
    """

    _unread = Unread()  # of this process
    _in_head = False
    _idle_bytes = 0  # since something came that the parser is done with

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathered(transport, self.loop))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread.end(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.begin(self.transport)

    def resume_writing(self) -> None:
        self._unread.end(self.transport)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._idle_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        super().on_message_complete()

    def _refuse_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # another answer is on its way
            return
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(_TOO_LARGE), _TOO_LARGE))
        self.transport.close()


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
                self._transport.write(b"".join(parts))
            except BaseException:  # no memory left, say: the caller must not be left waiting, whoever hears of it here
                self._transport.abort()
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
