"""The witness: what it reads off the wire, what it stamps, what it forwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import witness
from loadtests.window import Stamp
from loadtests.wire import CommandScanner, WireError
from loadtests.witness import ClientSide, Proxy, ServerSide, address

# ---------------------------------------------------------------------------------------------- messages, as sent


def message(opcode: int, body: bytes) -> bytes:
    return struct.pack("<iiii", 16 + len(body), 7, 0, opcode) + body


def body_section(name: str) -> bytes:
    return b"\0" + bson.encode({name: "records", "ordered": False, "$db": "assessmentdb"})


def documents_section(payload: bytes) -> bytes:
    content = b"documents\0" + bson.encode({"_id": "a", "payload": payload})
    return b"\1" + struct.pack("<i", 4 + len(content)) + content


def op_msg(name: str, payload: bytes | None = None, documents_first: bool = False, checksum: bool = False) -> bytes:
    sections = [body_section(name)]
    if payload is not None:
        sections.append(documents_section(payload))
    if documents_first:
        sections.reverse()
    trailer = b"\1\2\3\4" if checksum else b""
    return message(2013, struct.pack("<I", int(checksum)) + b"".join(sections) + trailer)


def op_query(name: str) -> bytes:
    return message(2004, struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({name: 1}))


def op_compressed(name: str, compressor: int) -> bytes:
    plain = op_msg(name)[16:]
    packed = zlib.compress(plain) if compressor == 2 else plain[::-1]
    return message(2012, struct.pack("<iiB", 2013, len(plain), compressor) + packed)


NAMES = ["insert", "find", "ping", "buildInfo", "killCursors", "hello", "endSessions"]

# (the bytes, the name they must be given)
messages = st.one_of(
    st.builds(
        lambda name, payload, first, checksum: (op_msg(name, payload, first, checksum), name),
        st.sampled_from(NAMES),
        st.none() | st.binary(max_size=300),
        st.booleans(),
        st.booleans(),
    ),
    st.sampled_from(["isMaster", "ismaster", "hello", "ping"]).map(lambda name: (op_query(name), name)),
    st.sampled_from(NAMES).map(lambda name: (op_compressed(name, 2), name)),
    st.sampled_from([0, 1, 3]).map(lambda compressor: (op_compressed("insert", compressor), "op-2012")),
    st.just((message(2002, b"\0" * 20), "op-2002")),
)


def packed(body: bytes, opcode: int = 2013, compressor: int = 2) -> bytes:
    return message(2012, struct.pack("<iiB", opcode, len(body), compressor) + body)


HELLO, NO_COMMAND = op_msg("hello")[16:], struct.pack("<i", 0) + b"shop.orders\0" + struct.pack("<ii", 0, -1)


def names(chunks: list[bytes]) -> list[str]:
    scanner = CommandScanner()
    return [command.name for chunk in chunks for command in scanner.feed(chunk)]


@given(st.lists(messages, max_size=6), st.data())
def test_commands_are_named_however_tcp_cuts_the_stream(sent: list[tuple[bytes, str]], data: st.DataObject) -> None:
    stream = b"".join(raw for raw, _name in sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert names(chunks) == [name for _raw, name in sent]


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("documents_first", [False, True])
def test_a_cut_at_each_byte(documents_first: bool, checksum: bool) -> None:
    stream = op_msg("insert", b"x" * 90, documents_first, checksum) + op_query("isMaster") + op_compressed("find", 2)
    expected = ["insert", "isMaster", "find"]
    assert names([bytes([byte]) for byte in stream]) == expected
    for cut in range(len(stream) + 1):
        assert names([stream[:cut], stream[cut:]]) == expected


def test_a_command_is_reported_with_its_last_byte_and_not_before() -> None:
    scanner, raw = CommandScanner(), op_msg("insert", b"x" * 1000)
    assert scanner.feed(raw[:-1]) == []
    (command,) = scanner.feed(raw[-1:])
    assert (command.name, command.size) == ("insert", len(raw))


@pytest.mark.parametrize(
    "name", ["hello", "isMaster", "ismaster", "saslStart", "saslContinue", "authenticate", "endSessions"]
)
def test_what_the_documentation_excludes_is_not_counted(name: str) -> None:
    assert [command.counted for command in CommandScanner().feed(op_msg(name))] == [False]


@pytest.mark.parametrize(
    "name", ["insert", "find", "getMore", "ping", "buildInfo", "killCursors", "Hello", "createIndexes"]
)
def test_everything_else_is_counted(name: str) -> None:
    assert [command.counted for command in CommandScanner().feed(op_msg(name))] == [True]


@pytest.mark.parametrize(
    "raw",
    [
        message(2004, NO_COMMAND + bson.encode({"hello": 1})),
        message(2004, b""),
        message(2012, b"\0\0\0"),
        packed(zlib.compress(HELLO), opcode=2001),
        packed(zlib.compress(HELLO), compressor=1),
        packed(zlib.compress(HELLO[:4] + documents_section(b"x").replace(b"documents", b"xhello", 1) + HELLO[4:])),
        packed(zlib.compress(b"ab")),
        packed(b"no zlib"),
    ],
)
def test_what_does_not_say_plainly_that_it_is_a_hello_is_counted_at_once(raw: bytes) -> None:
    (command,) = CommandScanner().feed(raw)
    assert (command.name, command.counted) == (f"op-{struct.unpack_from('<i', raw, 12)[0]}", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        struct.pack("<iiii", 15, 0, 0, 2013),
        message(2013, b""),
        message(2013, struct.pack("<I", 0)),
        message(2013, struct.pack("<I", 0) + b"\7" + bson.encode({"ping": 1})),
        message(2013, struct.pack("<I", 0) + b"\1" + struct.pack("<i", 4000)),
        message(2013, struct.pack("<I", 0) + b"\1" + struct.pack("<i", -4)),
        message(2013, struct.pack("<I", 1) + documents_section(b"x") + b"\1\2\3\4"),
    ],
)
def test_a_stream_that_cannot_be_counted_is_an_error(raw: bytes) -> None:
    with pytest.raises(WireError):
        CommandScanner().feed(raw)


@given(st.binary(max_size=200))
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    with contextlib.suppress(WireError):
        CommandScanner().feed(noise)


def test_a_name_cannot_break_the_record() -> None:
    (command,) = CommandScanner().feed(op_msg("two words\nand a line"))
    assert Stamp.parse(Stamp(1, 2.0, command.name, 3).line()).command == "two?words?and?a?line"


# ------------------------------------------------------------------------------------------------------- the proxy


class FakeTransport:
    """A transport that remembers; nothing leaves the process."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Memory:
    """A recorder; `full` makes it fail as a full disk does."""

    def __init__(self, full: bool = False) -> None:
        self.names: list[str] = []
        self.full = full

    def write(self, stamp: Stamp) -> None:
        if self.full:
            raise OSError("no space left")
        self.names.append(stamp.command)


class QuietProxy(Proxy):
    """A proxy that opens no connection by itself."""

    def connect(self, client: ClientSide) -> None:
        pass


def connection(recorder: Memory, connected: bool = True) -> tuple[Any, FakeTransport, Any, FakeTransport]:
    proxy = QuietProxy(("127.0.0.1", 1), recorder)
    client, client_end, server_end = ClientSide(proxy), FakeTransport(), FakeTransport()
    server = ServerSide(proxy, client)
    client.connection_made(client_end)  # type: ignore[arg-type]
    if connected:
        server.connection_made(server_end)  # type: ignore[arg-type]
    return client, client_end, server, server_end


def test_bytes_pass_untouched_and_counted_commands_are_stamped() -> None:
    recorder = Memory()
    client, client_end, server, server_end = connection(recorder)
    stream = op_msg("insert", b"x" * 50) + op_msg("hello") + op_msg("find")
    for start in range(0, len(stream), 7):
        client.data_received(stream[start : start + 7])
    server.data_received(b"the answer")
    assert server_end.sent == stream
    assert client_end.sent == b"the answer"
    assert recorder.names == ["insert", "find"]


def test_a_command_is_in_the_record_with_both_clocks_before_the_server_has_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, raw = Memory(), op_msg("insert", b"x" * 50)
    client, _client_end, _server, server_end = connection(recorder)
    recorded: list[tuple[Stamp, bytes]] = []
    monkeypatch.setattr(recorder, "write", lambda stamp: recorded.append((stamp, server_end.sent)))
    monkeypatch.setattr(witness, "time", SimpleNamespace(monotonic_ns=lambda: 5, time=lambda: 7.0))
    for part in (raw[:-1], raw[-1:]):
        client.data_received(part)
    assert (recorded, server_end.sent) == ([(Stamp(5, 7.0, "insert", len(raw)), raw[:-1])], raw)


def test_what_comes_before_the_server_is_connected_waits_unstamped() -> None:
    recorder = Memory()
    client, client_end, server, server_end = connection(recorder, connected=False)
    client.data_received(op_msg("ping"))
    assert (recorder.names, client_end.reading) == ([], False)
    server.connection_made(server_end)
    assert (recorder.names, client_end.reading) == (["ping"], True)
    assert server_end.sent == op_msg("ping")


def test_a_slow_end_stops_the_other_ends_reading() -> None:
    client, client_end, server, server_end = connection(Memory())
    server.pause_writing()
    assert (client_end.reading, server_end.reading) == (False, True)
    server.resume_writing()
    assert client_end.reading
    client.pause_writing()
    assert not server_end.reading


def test_an_end_that_goes_takes_the_other_along() -> None:
    client, client_end, server, server_end = connection(Memory())
    server.connection_lost(ConnectionResetError())
    assert client_end.closed
    client, _client_end, server, server_end = connection(Memory())
    client.connection_lost(None)
    assert server_end.closed
    server.connection_lost(None)
    assert client.proxy.sides == set()


def test_a_server_that_is_reached_when_the_client_has_left_is_left_as_well() -> None:
    client, client_end, server, server_end = connection(Memory(), connected=False)
    client.data_received(op_msg("insert"))
    client_end.close()
    client.connection_lost(None)
    server.connection_made(server_end)
    assert (server_end.closed, server_end.sent) == (True, b"")


def test_what_cannot_be_counted_or_recorded_is_not_forwarded(capsys: pytest.CaptureFixture[str]) -> None:
    client, client_end, _server, server_end = connection(Memory())
    client.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert (client_end.closed, server_end.sent) == (True, b"")
    assert "not MongoDB's protocol" in capsys.readouterr().err
    client, client_end, _server, server_end = connection(Memory(full=True))
    client.data_received(op_msg("insert"))
    assert (client_end.closed, server_end.sent) == (True, b"")


async def test_a_witness_whose_record_cannot_be_written_is_told_of_it_once() -> None:
    client, _client_end, _server, _server_end = connection(Memory(full=True))
    client.proxy.failed = asyncio.get_running_loop().create_future()
    for _ in range(2):
        client.data_received(op_msg("insert"))
    assert str(client.proxy.failed.result()) == "no space left"


def test_addresses() -> None:
    assert address("127.0.0.1:27017") == ("127.0.0.1", 27017)
    assert address("[::1]:27017") == ("::1", 27017)
    with pytest.raises(ValueError, match="HOST:PORT"):
        address("27017")
