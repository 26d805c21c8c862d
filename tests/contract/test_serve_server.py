"""The server that Serve starts in a replica: what HAProxy, in front of it, passes on."""

from __future__ import annotations

import asyncio
import builtins
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private import logging_utils
from ray.serve._private.common import ServeComponentType
from ray.serve._private.http_util import start_asgi_http_server
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from uvicorn.protocols.http import auto

from cluster import launch
from cluster.settings import load
from serve_app import app, logs
from serve_app.protocol import Protocol
from tests.contract.patience import eventually


class Server:
    """Serve's, with an application that notes each request and answers 202."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = []
        self.answer = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.requests.append((scope["method"], scope["client"][0], scope["headers"], body))
        headers = [(b"content-length", b"%d" % len(self.answer))]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})

    async def ask(self, *packets: bytes) -> bytes:
        """All it says until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for packet in packets:
            writer.write(packet)
            await asyncio.sleep(0.1)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer


@pytest.fixture
def log_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A replica's, as Serve makes it in our service (ray_environment.py, serve.yaml)."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # as they are now, when the test has ended
    monkeypatch.setattr(builtins, "print", print)
    monkeypatch.setattr(logging_utils, "RAY_SERVE_LOG_TO_STDERR", False)
    serve = logging.getLogger("ray.serve")
    monkeypatch.setattr(serve, "handlers", list(serve.handlers))
    configure_log(tmp_path)
    (file,) = tmp_path.iterdir()
    return file


def configure_log(folder: Path) -> None:
    logging_utils.configure_component_logger(
        component_name="spillway_Edge", component_id="1", component_type=ServeComponentType.REPLICA,
        logging_config=LoggingConfig(log_level="WARNING", logs_dir=str(folder)),
        max_bytes=1 << 20, backup_count=1, buffer_size=1_000,
    )  # fmt: skip


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """In a process where a replica has been made."""

    async def safe(*_: Any) -> None: ...

    monkeypatch.setattr(launch, "ensure_actors", lambda settings: None)
    monkeypatch.setattr(launch, "refuse_unsafe_redis", safe)
    monkeypatch.setattr(launch, "refuse_unsafe_log", safe)
    monkeypatch.setattr(app, "calm_collector", lambda: None)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # as it is now, when the test has ended
    monkeypatch.setattr(logging.getLogger(), "handlers", list(logging.getLogger().handlers))
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", logging.CRITICAL)  # Serve sets it
    edge: Any = app.Edge.func_or_class.__mro__[1]
    await edge.__init__(SimpleNamespace(), load(direct_port=0))
    one = Server()
    options = HTTPOptions(host="127.0.0.1", port=0)
    serving, started = await start_asgi_http_server(one, options, event_loop=asyncio.get_running_loop())
    while not started.started:
        await asyncio.sleep(0.01)
    one.port = started.servers[0].sockets[0].getsockname()[1]
    yield one
    started.should_exit = True
    await serving


HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nX-Caller: a\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: %b\r\n"


async def test_what_a_replica_says_is_in_its_log_at_once(log_file: Path, server: Server) -> None:
    """A 500 tells its caller that it is there."""
    for name, level in (("serve_app.errors", "error"), ("serve_app.appends", "warning"), ("asyncio", "error")):
        getattr(logging.getLogger(name), level)("said by %s", name)
        assert f"said by {name}" in log_file.read_text()
    configure_log(log_file.parent)  # as Serve does when its logging_config is changed
    logs.keep_records()
    logging.getLogger("serve_app.errors").warning("said once more")
    assert log_file.read_text().count("said once more") == 1


async def test_an_answer_that_is_not_read_is_counted(server: Server) -> None:
    """HAProxy has room for some KiB of it; the rest lies here."""
    server.answer = bytes(8 * 1024 * 1024)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(HEAD % b"close" + b"Content-Length: 0\r\n\r\n")
    await eventually(lambda: len(Protocol._unread) == 1)
    (held,) = Protocol._unread._held
    assert held.get_write_buffer_size() >= len(server.answer)
    assert (await reader.read()).endswith(server.answer)
    writer.close()
    await eventually(lambda: len(Protocol._unread) == 0)


async def test_a_trailer_does_not_name_the_caller(server: Server) -> None:
    """HAProxy sets the header of that name itself, and passes trailers on."""
    body = b"1\r\nx\r\n0\r\nX-Caller: b\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n"
    await server.ask(HEAD % b"close" + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    ((_, client, headers, body),) = server.requests
    assert client == "192.0.2.1"
    assert [value for name, value in headers if name == b"x-caller"] == [b"a"]
    assert body == b"x"


async def test_a_body_behind_an_offer_is_no_request(server: Server) -> None:
    """HAProxy takes out h2c, and passes every other name on."""
    body = b"DELETE / HTTP/1.1\r\n\r\n"
    offer = b"Upgrade: another\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = await server.ask(HEAD % b"close, upgrade" + offer, body)
    assert [(method, body) for method, _, _, body in server.requests] == [("POST", body)]
    assert answer.startswith(b"HTTP/1.1 202 ")
