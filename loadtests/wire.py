"""MongoDB's wire protocol, read only as far as the name of each command.

Pure: bytes in, names out. The payload of a message is passed over, never copied or decoded, so a 10 MB insert costs as
much as a ping. Where a message begins and ends follows from its header alone, so TCP may cut the stream anywhere.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass

OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013
CHECKSUM_PRESENT = 1

# A server refuses more than 48,000,000 bytes; above this the stream is not MongoDB's protocol at all (TLS, HTTP).
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Names are short (`waitForFailPoint`), but OP_QUERY puts `database.$cmd` in front of its document.
NAME_BYTES = 64
QUERY_HEAD_BYTES = 512
COMPRESSED_HEAD_BYTES = 4096

HEADER = struct.Struct("<iiii")
SECTION = struct.Struct("<Bi")
COMPRESSED = struct.Struct("<iiB")
ZLIB = 2

# What the documentation of the rate limit excludes, and nothing else. Both spellings of the legacy hello exist.
UNCOUNTED = frozenset({"hello", "isMaster", "ismaster", "saslStart", "saslContinue", "authenticate", "endSessions"})


class WireError(ValueError):
    """The bytes are not MongoDB's wire protocol; what follows in this stream cannot be counted."""


@dataclass(frozen=True, slots=True)
class Command:
    """One complete message from a client: the command's name and the message's size in bytes, header included.

    A command whose name cannot be read (compressed by something else than zlib, an opcode of old) has a stand-in such
    as `op-2012`; it counts.
    """

    name: str
    size: int

    @property
    def counted(self) -> bool:
        """Whether the rate limit covers it."""
        return self.name not in UNCOUNTED


class CommandScanner:
    """Names the commands in one direction (client to server) of one connection.

    Keeps at most a few kilobytes between calls, whatever the size of the messages.
    """

    def __init__(self) -> None:
        self._begin()

    def feed(self, data: bytes) -> list[Command]:
        """The commands whose **last** byte is in `data`, in order: before that byte a server cannot have run them.

        Raises WireError when the stream is not MongoDB's protocol; the scanner is of no further use then.
        """
        commands: list[Command] = []
        position, end = 0, len(data)
        while True:
            if self._want < 0:  # pass over
                step = min(-self._want, end - position)
                self._want += step
                position += step
                if self._want < 0:
                    return commands
                self._advance(b"", commands)
            else:
                step = min(self._want - len(self._head), end - position)
                self._head += data[position : position + step]
                position += step
                if len(self._head) < self._want:
                    return commands
                self._advance(bytes(self._head), commands)

    def _begin(self) -> None:
        self._message = _message()
        self._want = next(self._message)
        self._head = bytearray()

    def _advance(self, head: bytes, commands: list[Command]) -> None:
        try:
            self._want = self._message.send(head)
            self._head = bytearray()
        except StopIteration as complete:
            commands.append(complete.value)
            self._begin()


def _message() -> Generator[int, bytes, Command]:
    """One message: yields how many bytes to hand in next, or minus how many to pass over; returns its command."""
    size, _request, _response, opcode = HEADER.unpack((yield HEADER.size))
    if not HEADER.size <= size <= MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {size} bytes")
    left = size - HEADER.size
    if opcode == OP_MSG:
        left, name = yield from _op_msg(left)
    elif opcode == OP_QUERY:
        head = yield min(left, QUERY_HEAD_BYTES)
        left, name = left - len(head), _query_name(head)
    elif opcode == OP_COMPRESSED:
        head = yield min(left, COMPRESSED_HEAD_BYTES)
        left, name = left - len(head), _compressed_name(head)
    else:
        name = f"op-{opcode}"
    if left:
        yield -left
    return Command(name, size)


def _op_msg(left: int) -> Generator[int, bytes, tuple[int, str]]:
    """The sections of an OP_MSG up to the command's name: (bytes left after it, name)."""
    if left < 4:
        raise WireError("OP_MSG without flags")
    flags = int.from_bytes((yield 4), "little")
    left -= 4
    trailer = 4 if flags & CHECKSUM_PRESENT else 0
    while left - trailer >= SECTION.size:
        kind, length = SECTION.unpack((yield SECTION.size))
        left -= SECTION.size
        rest = length - 4  # the length counts its own four bytes
        if not 0 <= rest <= left - trailer:
            raise WireError(f"a section of {length} bytes in a message with {left} left")
        if kind == 0:
            head = yield min(rest, 1 + NAME_BYTES)
            return left - len(head), _first_key(head)
        if kind != 1:
            raise WireError(f"a section of kind {kind}")
        if rest:
            yield -rest
        left -= rest
    raise WireError("OP_MSG without a body")


def _first_key(element: bytes) -> str:
    """The key of a BSON element: one type byte, then the key up to its NUL."""
    key, nul, _ = element[1:].partition(b"\0")
    if not key or not nul:
        return "unnamed"
    # The record is one line a command, split at blanks.
    return "".join(letter if letter.isalnum() or letter in "$_-." else "?" for letter in key.decode("ascii", "replace"))


def _query_name(head: bytes) -> str:
    """The command in an OP_QUERY: flags, collection, skip, limit, then the document. Other queries are `op-2004`."""
    collection, nul, rest = head[4:].partition(b"\0")
    if not nul or not collection.endswith(b".$cmd"):
        return f"op-{OP_QUERY}"
    return _first_key(rest[12:])


def _compressed_name(head: bytes) -> str:
    """The command in an OP_COMPRESSED where zlib packed an OP_MSG that begins with its body, as drivers write it."""
    unknown = f"op-{OP_COMPRESSED}"
    if len(head) < COMPRESSED.size:
        return unknown
    opcode, _size, compressor = COMPRESSED.unpack_from(head)
    if opcode != OP_MSG or compressor != ZLIB:
        return unknown
    try:
        plain = zlib.decompressobj().decompress(head[COMPRESSED.size :], 4 + SECTION.size + 1 + NAME_BYTES)
    except zlib.error:
        return unknown
    if len(plain) < 4 + SECTION.size or plain[4] != 0:
        return unknown
    return _first_key(plain[4 + SECTION.size :])
