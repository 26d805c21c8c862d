"""The replica's own socket, where the port is not there for the asking."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
from typing import Any

import pytest

from serve_app.direct import DirectPort, listen


async def no_content(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_a_port_that_was_taken_opens_when_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    """Ray makes hundreds of connections while it starts, and the kernel gave one of them just this port."""
    caplog.set_level(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        direct = DirectPort(no_content, "127.0.0.1", port)
        direct.open()
        direct.open()
    assert [record.getMessage().partition(" is closed")[0] for record in caplog.records] == [
        f"direct port 127.0.0.1:{port}"
    ]
    direct.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        writer.close()
    finally:
        await direct.close()


def most_waiting(listener: socket.socket) -> int:
    """Connections that the kernel keeps until they are accepted: `tcpi_sacked`, of a socket that listens."""
    (most,) = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)
    return int(most)


async def test_as_many_may_wait_to_be_accepted_as_the_socket_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen("127.0.0.1", 0)
    wanted = most_waiting(listener)
    monkeypatch.setattr("serve_app.direct.listen", lambda host, port: listener)
    direct = DirectPort(no_content, *listener.getsockname())
    direct.open()
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        assert most_waiting(listener) == wanted
        writer.close()
    finally:
        await direct.close()


def test_a_connection_is_taken_when_it_has_something_to_say() -> None:
    """One turn of the loop for accepting and reading, where each user comes with a connection for each request."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as caller:
        # One that says nothing comes a second later: no time to look for it in a test.
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        caller.sendall(b"G")
        assert select.select([listener], [], [], 10.0)[0]
        taken, _ = listener.accept()
        with taken:
            assert taken.recv(1) == b"G"
