"""DirectPort: the same app on a socket of the replica's own, without the front door's extra hop.

All replicas listen on one port (`SO_REUSEPORT`) and the kernel spreads the connections. Serve still owns the replicas:
their number, their health, their roll-out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import uvicorn

from serve_app.protocol import Protocol

logger = logging.getLogger(__name__)

_BACKLOG = 4096  # a step of ten thousand users is not served at once; the kernel caps it at net.core.somaxconn


class DirectPort:
    """Opened when the replica is healthy, closed first when it leaves. It never takes the replica down with it."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        """`port` 0 switches it off."""
        self.ongoing = 0  # requests under way
        self._app = app
        self._host = host
        self._port = port
        self._is_told = False  # that the port is taken
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to listen; again does nothing. A port that is taken is logged, and tried again with the next call: it
        may be the near end of somebody's connection. Meanwhile the front door serves."""
        if not self._port or self._server is not None:
            return
        try:
            listener = listen(self._host, self._port)
        except OSError as error:
            if not self._is_told:
                why = "direct port %s:%d is closed until it is free: %s (setting direct_port)"
                logger.error(why, self._host, self._port, error)
            self._is_told = True
            return
        config = uvicorn.Config(
            self._counted,
            interface="asgi3",  # its guess goes by functions and classes, and this is a method
            lifespan="off",
            http=Protocol,
            ws="none",
            access_log=False,
            proxy_headers=False,  # here the peer is the caller; X-Forwarded-For would be anybody's word for it
            log_config=None,
            timeout_keep_alive=90,
            backlog=_BACKLOG,  # it listens once more, and would with its own 2048
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(
            self._server._serve([listener])
        )  # serve() would take the signals, and they belong to Ray

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        self.ongoing += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.ongoing -= 1

    async def close(self, grace_s: float = 5.0) -> None:
        """Stop listening at once and let requests under way finish, for `grace_s` at most."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await asyncio.wait([self._serving], timeout=grace_s)
        self._serving.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A socket on which each replica of this machine may listen; without delay."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":  # a connection is handed over with its first request, or after this second without
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
