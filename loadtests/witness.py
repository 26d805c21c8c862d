"""A TCP proxy in front of MongoDB that stamps every command it forwards: what the server really was asked, and when.

`python loadtests/witness.py --listen 127.0.0.1:27018 --upstream 127.0.0.1:27017 --record FILE`

Guarantees: bytes pass untouched and in order; a command is stamped immediately before its last byte is forwarded, and
written to the record before it is forwarded; a stream that is not MongoDB's protocol, or cannot be recorded, is cut
rather than forwarded uncounted. Not counted: see `wire.UNCOUNTED`. Clients must use `directConnection=true`, else the
driver learns the server's own address from its hello and goes around the witness.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Protocol

if __package__ in (None, ""):  # started as a file: Python looked beside it, the package is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtests.window import Stamp, earlier, number_of
from loadtests.wire import CommandScanner, WireError

# A day at 100 commands a second is some 400 MB; files of this size keep the last hours, and bound the disk to three.
MAX_RECORD_BYTES = 64 * 1024 * 1024


class Recorder(Protocol):
    """Where counted commands go."""

    def write(self, stamp: Stamp) -> None:
        """Keep the stamp. Raises OSError when it cannot be kept."""


class Record:
    """An append-only file of stamps: a line is with the operating system when `write` returns.

    A new record moves an older file of this name to `NAME.1`, the next one to `NAME.2` and so on, and at `max_bytes` it
    makes way itself. Of the older ones the newest stay that fill `max_bytes`, one at least; that others were dropped is
    seen by their numbers.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, stamp: Stamp) -> None:
        """Append one line, unbuffered: at a hundred lines a second a system call each is nothing. Raises OSError."""
        if self._bytes >= self._max_bytes:
            self.close()
            self._open()
        self._bytes += self._file.write(stamp.line().encode("ascii", "replace"))

    def close(self) -> None:
        """Close the file; nothing is waiting to be written."""
        self._file.close()

    def _open(self) -> None:
        older = earlier(self._path)
        if self._path.exists() and self._path.stat().st_size:
            last = number_of(older[-1]) if older else 0
            older.append(self._path.with_name(f"{self._path.name}.{last + 1}"))
            os.replace(self._path, older[-1])
        kept_bytes = 0
        for path in reversed(older):
            if kept_bytes >= self._max_bytes:
                path.unlink()
            else:
                kept_bytes += path.stat().st_size
        self._file = self._path.open("ab", buffering=0)
        self._bytes = 0


class Proxy:
    """One listening address, one upstream, one record. `failed` resolves with the error that makes it useless."""

    def __init__(self, upstream: tuple[str, int], recorder: Recorder) -> None:
        self.upstream = upstream
        self.recorder = recorder
        self.sides: set[Side] = set()
        self.failed: asyncio.Future[OSError] | None = None

    def fail(self, error: OSError) -> None:
        """Report that the record cannot be written; the first error is kept."""
        if self.failed is not None and not self.failed.done():
            self.failed.set_result(error)

    def connect(self, client: ClientSide) -> None:
        """Open the upstream connection of a client; where that fails the client's connection is reset."""
        client.opening = asyncio.ensure_future(self._connect(client))

    async def _connect(self, client: ClientSide) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: ServerSide(self, client), *self.upstream)
        except OSError:
            client.abort()  # the driver sees what it would have seen without a witness: a connection that fails


class Side(asyncio.Protocol):
    """One end of a proxied connection. What one side cannot take stops the other side's reading: bounded memory."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.transport: asyncio.Transport | None = None
        self.peer: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.proxy.sides.add(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.forward(data)

    def forward(self, data: bytes) -> None:
        """Send to this end; dropped when it is gone, as its disappearance has closed the other end too."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.reading(False)

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.reading(True)

    def reading(self, wanted: bool) -> None:
        """Read from this end, or let its bytes wait in the kernel."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading() if wanted else self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.sides.discard(self)
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def abort(self) -> None:
        """Reset this end now; `connection_lost` then closes the other."""
        if self.transport is not None:
            self.transport.abort()


class ClientSide(Side):
    """The driver's end: everything it sends is scanned, stamped and passed on."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self.scanner = CommandScanner()
        self.opening: asyncio.Future[None] | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.proxy.connect(self)

    def opened(self, server: ServerSide) -> None:
        """There is a server now: what came early goes first."""
        self.peer = server
        early, self.early = self.early, []
        for data in early:
            self.data_received(data)
        self.reading(True)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            # Pausing already in connection_made would be simpler, but uvloop starts to read right after it.
            self.early.append(data)
            self.reading(False)
            return
        try:
            for command in self.scanner.feed(data):
                if command.counted:
                    self.proxy.recorder.write(Stamp(time.monotonic_ns(), time.time(), command.name, command.size))
        except WireError as error:
            print(f"witness: connection cut, not MongoDB's protocol: {error}", file=sys.stderr, flush=True)
            self.abort()
            return
        except OSError as error:
            self.proxy.fail(error)
            self.abort()
            return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.opening is not None:
            self.opening.cancel()
        super().connection_lost(exc)


class ServerSide(Side):
    """MongoDB's end."""

    def __init__(self, proxy: Proxy, client: ClientSide) -> None:
        super().__init__(proxy)
        self.peer = self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.client.transport is None or self.client.transport.is_closing():
            transport.close()  # the client left while we were connecting
        self.client.opened(self)


async def run(listen: tuple[str, int], upstream: tuple[str, int], path: Path) -> int:
    """Serve until SIGTERM or SIGINT (exit code 0) or until the record cannot be written (1). Raises OSError when the
    address cannot be listened on or the record not be created."""
    loop = asyncio.get_running_loop()
    record = Record(path)
    proxy = Proxy(upstream, record)
    proxy.failed = loop.create_future()
    server = await loop.create_server(lambda: ClientSide(proxy), *listen)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"witness: {host}:{port} -> {upstream[0]}:{upstream[1]}, recording to {path}", flush=True)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((stopped, proxy.failed), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.close()
    for side in list(proxy.sides):
        side.abort()
    record.close()
    if proxy.failed.done():
        print(f"witness: the record cannot be written: {proxy.failed.result()}", file=sys.stderr, flush=True)
        return 1
    return 0


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, brackets around an IPv6 host. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Stamp every command on its way to MongoDB.")
    parser.add_argument("--listen", type=address, required=True, metavar="HOST:PORT", help="port 0 picks one")
    parser.add_argument("--upstream", type=address, required=True, metavar="HOST:PORT", help="the real MongoDB")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="one line per command")
    options = parser.parse_args()
    import uvloop  # here: the unit tests need the classes, not the loop

    try:
        return uvloop.run(run(options.listen, options.upstream, options.record))
    except OSError as error:
        print(f"witness: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
