"""What outlives a version, byte by byte: everything that is kept in Redis, and what callers keep.

Another version will read it. Who changes a form raises `FORMAT` in actors/adapters/redis_format.py, leaves the form of
before in `READ_TOO`, and tells in "Upgrade, and back" (docs/operations.md) what is lost by it. A new form that every
version of the present number reads rightly needs no new number.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from actors.adapters.redis_cache import RedisCache
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_format import FORMAT, refusal
from actors.adapters.redis_lease import RedisLease
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.adapters.redis_streams import follow, streams
from actors.core.arrivals import LaneCall
from actors.core.dead_letter import DeadLetter
from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import LogUnavailable
from actors.core.ports import Grant, Keyed
from actors.core.receipt import Receipt
from serve_app.parameters import idempotency_key
from tests.conftest import KEEPERS

CHANGED = f"a kept form has changed: see the first lines of {__file__}"
AT = b"1700000000000-0"  # for every position

EVERY_KIND = [Write(kind, "d.c", f"i{int(kind)}", b"" if kind == Kind.DELETE else b"body") for kind in Kind]
FRAMES = (
    b"\x00\x03\x02\x00\x04\x00\x00\x00d.ci0body"
    b"\x01\x03\x02\x00\x04\x00\x00\x00d.ci1body"
    b"\x02\x03\x02\x00\x04\x00\x00\x00d.ci2body"
    b"\x03\x03\x02\x00\x00\x00\x00\x00d.ci3"
)
CALL, EARLIER_CALL = LaneCall("lane", 2, 4), LaneCall("lane", 1, 1)
LETTER = DeadLetter("1of2/1-1/0", FRAMES[:17], "why: é", 2, 1.25, 2.5)

Form = dict[str, Any]
KEPT: Form = {
    "format": b"1",
    "pool": b"1",
    "streams": {b"0of1"},
    "owner:0of1": b"1",
    "owner:0of1:by": b"0of1/NAME",
    "arrivals:0of1": AT + b' {"lane": [1, "' + AT + b'", 0]}',
    "stream:0of1": [
        [b"w1", FRAMES, b"calls", b'[["lane", 2, 4]]'],
        [b"w1", FRAMES[:17]],
    ],
    "once": {b"SECOND": b"1"},
    "once:digest": b"record0of1/" + AT,
    "writer": b"1",
    "writer:epoch": b"1",
    "writer:operation": b"5000",
    "dead": [
        [b"id", b"1of2/1-1/0", b"payload", FRAMES[:17], b"reason", "why: é".encode(),
         b"attempts", b"2", b"first_s", b"1.25", b"last_s", b"2.5"],
    ],
    "dead:at": {b"1of2/1-1/0": AT},
    "cache:0of1:0": b"NEVER IT" + b"document",
}  # fmt: skip
READ_TOO: dict[str, Form] = {  # forms of before, as far as they differ from `KEPT`
    "no number": {"format": None},
    "entries without calls": {"format": None, "stream:0of1": [[b"w1", FRAMES], [b"w1", FRAMES[:17]]]},
    "arrivals without their position": {"format": None, "arrivals:0of1": b'{"lane": [1, "' + AT + b'", 0]}'},
}


@pytest.fixture(params=KEEPERS["params"][1:], ids=KEEPERS["ids"][1:])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client = connect(request.getfixturevalue(request.param), 60.0)
    yield client
    await client.aclose()


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}"


def log_on(redis: Any, prefix: str) -> RedisLog:
    return RedisLog(redis, prefix, "0of1", RedisDeadLetters(redis, prefix), once_ttl_s=600)


def plain(value: Any) -> Any:
    """Without what is another each time."""
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    if not isinstance(value, bytes):
        return value
    value = re.sub(rb"\d{13}-\d+", AT, value)
    value = re.sub(rb"^\d{10}$", b"SECOND", value)
    return re.sub(rb"/[0-9a-f]{32}$", b"/NAME", value)


async def found(redis: Any, prefix: str) -> Form:
    form: Form = {}
    async for key in redis.scan_iter(f"{prefix}:*"):
        match await redis.type(key):
            case b"string":
                value = plain(await redis.get(key))
            case b"hash":
                value = plain(await redis.hgetall(key))
            case b"set":
                value = await redis.smembers(key)
            case b"stream":
                raw = await redis.execute_command("XRANGE", key, "-", "+")
                value = [[field for pair in fields.items() for field in pair] for _, fields in raw]
        form[key.decode().removeprefix(f"{prefix}:")] = value
    if "cache:0of1:0" in form:  # its first bytes are drawn by lot, and nobody looks for those of another instance
        form["cache:0of1:0"] = b"NEVER IT" + form["cache:0of1:0"][8:]
    return form


async def plant(redis: Any, prefix: str, form: Form) -> None:
    for name, value in form.items():
        key = f"{prefix}:{name}"
        match value:
            case bytes():
                await redis.set(key, value)
            case set():
                await redis.sadd(key, *value)
            case dict():
                await redis.hset(key, mapping=value)
            case list():
                for number, fields in enumerate(value):
                    await redis.execute_command("XADD", key, f"1700000000000-{number}", *fields)


async def test_everything_is_kept_in_the_form_that_other_versions_read(redis: Any, prefix: str) -> None:
    await follow(redis, prefix, 1)
    log = log_on(redis, prefix)
    await log.open()
    await log.acknowledge((await log.append(FRAMES[:17], calls=[EARLIER_CALL])).position)
    await log.append(encode_writes(EVERY_KIND), [Keyed("digest", "record", FRAMES[:17])], [CALL])
    await log.dead_letter([LETTER])
    lease = RedisLease(redis, prefix, 600.0, 5.0)
    await lease.acquire()
    await lease.renew(alone=True)
    await RedisCache(redis, prefix, "0of1", 600).put({"d.c/i": b"document"})
    assert await found(redis, prefix) == KEPT, CHANGED
    await lease.release()
    assert await redis.get(f"{prefix}:writer:clean") == b"1", CHANGED


@pytest.mark.parametrize("change", [{}, *READ_TOO.values()], ids=["as it is", *READ_TOO])
async def test_what_is_kept_so_is_read(redis: Any, prefix: str, change: Form) -> None:
    form = {name: value for name, value in (KEPT | change).items() if value is not None}
    await plant(redis, prefix, form)
    assert await follow(redis, prefix, 1) == []
    assert await streams(redis, prefix) == ["0of1"]
    log = log_on(redis, prefix)
    assert await log.open() == 2
    assert await redis.get(f"{prefix}:format") == str(FORMAT).encode()
    assert log.place(EARLIER_CALL) == (AT.decode(), 0)
    read = [logged async for logged in log.replay()]
    assert [logged.writes("0of1") for logged in read] == [EVERY_KIND, EVERY_KIND[:1]]
    if "calls" in str(form["stream:0of1"]):
        assert log.place(CALL) == (AT.decode(), 0)
    (known,) = (await log.append(b"", [Keyed("digest", "record", b"x")])).keyed
    assert (known.position, known.fresh, known.conflict) == (f"0of1/{AT.decode()}", False, False)
    await log.acknowledge(read[-1].position)
    assert [logged async for logged in log.replay()] == []
    shelf = RedisDeadLetters(redis, prefix)
    assert (await shelf.list()).letters == [LETTER] == [await shelf.get(LETTER.id)]
    assert await shelf.remove([LETTER.id]) == 1
    lease = RedisLease(redis, prefix, 600.0, 1.0)
    assert await lease.acquire() is None
    await redis.delete(f"{prefix}:writer")
    assert await lease.acquire() == Grant(2, 5.0)


def test_callers_keep_a_key_and_receipts_in_the_form_that_other_versions_know() -> None:
    """A record in another form would be answered 422 for as long as the old ones are kept."""
    request = Request({"type": "http", "method": "POST", "path": "/v1/d/c", "headers": [(b"idempotency-key", b"k")]})
    headers = dict(request.scope["headers"])
    key = idempotency_key(headers, request, "d.c", "application/json", b'{"a": 1}')
    assert key is not None
    assert key.digest == "c7d1818147a9f4a68fffb8e08df43968", CHANGED
    assert key.fingerprint == "03b9115300f694ed7acde7f95c42e1b4", CHANGED
    assert key.record(EVERY_KIND) == "b0366bc542ad1b67805a690ffb652657", CHANGED
    receipt = Receipt("0of1", AT.decode(), 3, "d.c", "i")
    assert receipt.encode() == "MG9mMR8xNzAwMDAwMDAwMDAwLTAfMx9kLmMfaQ", CHANGED


async def test_a_log_of_a_newer_format_is_refused_in_words_and_left_as_it_is(redis: Any, prefix: str) -> None:
    port = redis.connection_pool.connection_kwargs["port"]
    newer = log_on(redis, prefix)
    await newer.open()
    await redis.set(f"{prefix}:format", FORMAT + 1)
    before = await found(redis, prefix)
    with pytest.raises(
        LogUnavailable,
        match=f"prefix {prefix} in the Redis at 127.0.0.1:{port}/0 has format {FORMAT + 1}.* formats up to {FORMAT}.* "
        "Start the newer version again.*another SPILLWAY_KEY_PREFIX",
    ):
        await log_on(redis, prefix).open()
    for size in (1, 3):  # it would fence the owners of the streams
        with pytest.raises(LogUnavailable):
            await follow(redis, prefix, size)
    assert await refusal(redis, prefix) is not None
    assert await found(redis, prefix) == before
    await newer.reopen()
    assert (await newer.append(b"x")).position, "it is still the owner"


async def test_a_format_that_is_no_number_is_refused_by_its_name(redis: Any, prefix: str) -> None:
    await redis.set(f"{prefix}:format", "abc")
    with pytest.raises(LogUnavailable, match="has format abc"):
        await log_on(redis, prefix).open()
    await redis.delete(f"{prefix}:format")
    assert await refusal(redis, prefix) is None
