"""One body for every log: what the double promises, Redis keeps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.adapters.memory import MemoryLog
from actors.adapters.redis_cache import RedisCache
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_lease import RedisLease
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.adapters.redis_streams import follow, is_owner, is_poured, streams
from actors.core.arrivals import LaneCall
from actors.core.batching import Origin
from actors.core.errors import Fenced, LogUnavailable, OutcomeUnknown, UnsafeLog
from actors.core.ports import Keyed, WriteLog
from actors.core.position import NOTHING, order
from cluster.embedded import redis_server
from tests.acceptance.proxy import FaultProxy, half_open
from tests.conftest import KEEPERS, redis_running

LONG_S = 60.0  # for what has to come to its end, on the slowest machine
SOON_S = 0.2  # for what never does

Fill = Callable[[], Awaitable[None]]


@dataclass
class Logs:
    """`another` gives the same stream as a further process sees it."""

    another: Callable[[], WriteLog]


@pytest.fixture(**KEEPERS)
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[Logs]:
    if request.param == "memory":
        yield Logs(MemoryLog("0of1").another)
        return
    client = connect(request.getfixturevalue(request.param), LONG_S)
    prefix = f"t{uuid.uuid4().hex}"
    letters = RedisDeadLetters(client, prefix)
    yield Logs(lambda: RedisLog(client, prefix, "0of1", letters, once_ttl_s=60))
    await client.aclose()


@pytest.fixture
async def log(logs: Logs) -> WriteLog:
    one = logs.another()
    await one.open()
    return one


async def entries(log: WriteLog, after: str | None = None) -> list[tuple[str, bytes]]:
    return [tuple(logged) async for logged in log.replay(after)]


async def test_what_was_appended_is_replayed_in_order(log: WriteLog) -> None:
    payloads = [bytes([i]) * (i + 1) for i in range(250)]
    positions = [(await log.append(payload)).position for payload in payloads]
    assert await entries(log) == list(zip(positions, payloads, strict=True))
    assert await entries(log, positions[247]) == [(positions[248], payloads[248]), (positions[249], payloads[249])]
    assert positions == sorted(positions, key=order)


async def test_a_payload_may_hold_any_byte(log: WriteLog) -> None:
    payload = bytes(range(256)) * 300
    position = (await log.append(payload)).position
    assert await entries(log) == [(position, payload)]


async def test_acknowledging_forgets_up_to_a_position_and_again_does_nothing(log: WriteLog) -> None:
    positions = [(await log.append(b"x")).position for _ in range(5)]
    for _ in range(2):
        await log.acknowledge(positions[2])
        assert [position for position, _ in await entries(log)] == positions[3:]
    await log.acknowledge(positions[0])
    assert [position for position, _ in await entries(log)] == positions[3:]


async def test_positions_go_on_where_they_were_after_everything_is_forgotten(logs: Logs, log: WriteLog) -> None:
    assert await log.last_position() == NOTHING
    position = (await log.append(b"x")).position
    await log.acknowledge(position)
    assert await log.last_position() == position
    again = logs.another()
    await again.open()
    assert order((await again.append(b"y")).position) > order(position)


async def test_a_newer_owner_sees_everything_and_fences_the_older(logs: Logs, log: WriteLog) -> None:
    position = (await log.append(b"x")).position
    newer = logs.another()
    assert await newer.open() > log.epoch > 0
    with pytest.raises(Fenced):
        await log.append(b"y")
    with pytest.raises(Fenced):
        await log.reopen()
    assert await entries(newer) == [(position, b"x")]
    assert (await newer.append(b"z")).position


async def test_what_an_older_owner_has_seen_resolved_stays_for_the_newer_one(logs: Logs, log: WriteLog) -> None:
    """It has sent the oldest again, and so taken MongoDB back: all that follows has to be sent again too."""
    position = (await log.append(b"x")).position
    newer = logs.another()
    await newer.open()
    with pytest.raises(Fenced):
        await log.acknowledge(position)
    assert await entries(newer) == [(position, b"x")]
    await newer.acknowledge(position)
    assert await entries(newer) == []


async def test_a_ping_tells_an_older_owner_that_it_is_one(logs: Logs, log: WriteLog) -> None:
    await log.ping()
    newer = logs.another()
    await newer.open()
    with pytest.raises(Fenced):
        await log.ping()
    await newer.reopen()
    await newer.ping()


async def test_a_fenced_append_keeps_nothing_of_a_keyed_request(logs: Logs, log: WriteLog) -> None:
    newer = logs.another()
    await newer.open()
    with pytest.raises(Fenced):
        await log.append(b"plain", [Keyed("k", "f", b"keyed")])
    assert await entries(newer) == []
    assert (await newer.append(b"", [Keyed("k", "f", b"keyed")])).keyed[0].fresh


async def test_a_call_is_known_again_with_its_place(log: WriteLog) -> None:
    calls = [LaneCall("lane", 1, 2), LaneCall("other", 7, 3), LaneCall("third", 1, 1)]
    position = (await log.append(b"x", calls=calls)).position
    assert [log.place(call) for call in calls] == [(position, 0), (position, 2), (position, 5)]
    assert log.place(LaneCall("lane", 2, 1)) is None
    assert log.place(LaneCall("nobody", 1, 1)) is None
    again = (await log.append(b"y", calls=[LaneCall("other", 8, 3)])).position
    assert log.place(LaneCall("other", 8, 3)) == (again, 0)
    assert log.place(calls[1]) == ("", 0), "its lane sends one after the other, so it has given this one up"


async def test_a_call_is_known_to_the_next_owner_and_to_all_behind(logs: Logs, log: WriteLog) -> None:
    """Whether its entry is still there or not: many owners may follow each other while a replica asks again."""
    calls = [LaneCall("poured", 1, 1), LaneCall("in the log", 1, 1), LaneCall("late", 1, 1)]
    places = {call: (await log.append(b"x", calls=[call])).position for call in calls[:2]}
    await log.acknowledge(places[calls[0]])
    newer = logs.another()
    await newer.open()
    assert len(await entries(newer)) == 1
    places[calls[2]] = (await newer.append(b"x", calls=calls[2:])).position
    await newer.acknowledge(places[calls[2]])
    newest = logs.another()
    await newest.open()
    assert {call: newest.place(call) for call in calls} == {call: (place, 0) for call, place in places.items()}


async def test_an_append_without_an_answer_is_known_once_it_is_read(logs: Logs, log: WriteLog) -> None:
    call = LaneCall("lane", 1, 1)
    position = (await log.append(b"x", calls=[call])).position
    same = logs.another()  # knows as little of it
    await same.open()
    await same.reopen()
    await entries(same)
    assert same.place(call) == (position, 0)


async def test_reopening_begins_a_new_epoch_of_the_same_owner(logs: Logs, log: WriteLog) -> None:
    before = log.epoch
    assert await log.reopen() == log.epoch > before
    assert (await log.append(b"x")).position


async def test_a_key_keeps_its_first_request(log: WriteLog) -> None:
    first = await log.append(b"", [Keyed("k", "f", b"one")])
    assert first.position == ""
    assert first.keyed[0].fresh
    stream, _, position = first.keyed[0].position.partition("/")
    assert (stream, await entries(log)) == ("0of1", [(position, b"one")])
    again = await log.append(b"", [Keyed("k", "f", b"one")])
    assert again.keyed == [first.keyed[0]._replace(fresh=False)]
    conflict = await log.append(b"", [Keyed("k", "g", b"two")])
    assert (conflict.keyed[0].conflict, conflict.keyed[0].fresh, conflict.keyed[0].position) == (True, False, "")
    assert len(await entries(log)) == 1


async def test_a_key_outlives_the_entry_it_kept(log: WriteLog) -> None:
    first = (await log.append(b"", [Keyed("k", "f", b"one")])).keyed[0]
    await log.acknowledge(first.position.partition("/")[2])
    assert (await log.append(b"", [Keyed("k", "f", b"one")])).keyed == [first._replace(fresh=False)]
    assert await entries(log) == []


async def test_plain_and_keyed_requests_share_an_append(log: WriteLog) -> None:
    some = [Keyed("k", "f", b"one"), Keyed("k", "f", b"one"), Keyed("l", "f", b"two"), Keyed("k", "g", b"three")]
    appended = await log.append(b"plain", some)
    assert [(answer.fresh, answer.conflict) for answer in appended.keyed] == [
        (True, False),
        (False, False),
        (True, False),
        (False, True),
    ]
    assert [payload for _, payload in await entries(log)] == [b"plain", b"one", b"two"]
    assert (await entries(log))[0][0] == appended.position


# Redis only: what its settings and its absence mean


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = connect(redis_url, LONG_S)
    yield client
    await client.aclose()


def log_on(client: Any, prefix: str | None = None, **more: Any) -> RedisLog:
    prefix = prefix or f"t{uuid.uuid4().hex}"
    return RedisLog(client, prefix, "0of1", RedisDeadLetters(client, prefix), once_ttl_s=60, **more)


@pytest.mark.parametrize(
    ("setting", "unsafe", "safe"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_a_redis_that_may_lose_what_it_acknowledged_is_refused_and_the_setting_named(
    redis: Any, setting: str, unsafe: str, safe: str
) -> None:
    log = log_on(redis)
    await log.open()
    await redis.config_set(setting, unsafe)
    try:
        for begin in (log_on(redis).open, log.reopen):
            with pytest.raises(UnsafeLog, match=f"{setting} is '{unsafe}', must be '{safe}'"):
                await begin()
        with pytest.raises(LogUnavailable, match=f"{setting} is '{unsafe}'.* Fix: CONFIG SET {setting} {safe}"):
            await log.ping()
        unchecked = log_on(redis, allow_unsafe=True)
        assert await unchecked.open() == 1
        await unchecked.ping()
    finally:
        await redis.config_set(setting, safe)
        await rewritten(redis)


async def rewritten(redis: Any) -> None:
    async with asyncio.timeout(LONG_S):
        while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.05)


async def test_a_redis_that_is_not_there_is_told_apart_from_one_that_does_not_answer(redis_url: str) -> None:
    nowhere = connect("redis://127.0.0.1:1/0", 0.3)
    with pytest.raises(LogUnavailable, match="no connection"):
        await log_on(nowhere, allow_unsafe=True).open()
    with pytest.raises(LogUnavailable):
        await log_on(nowhere).ping()


@pytest.fixture
async def wired(proxy: FaultProxy) -> AsyncIterator[Any]:
    """A client of the Redis beyond `proxy`."""
    client = connect(redis_server.address(proxy.port), LONG_S)
    yield client
    await client.aclose()


async def test_an_append_that_gets_no_answer_in_time_is_unknown_and_a_question_is_unavailable(
    wired: Any, proxy: FaultProxy
) -> None:
    log = log_on(wired)
    await log.open()
    await log.append(b"warm")
    await asyncio.gather(*(wired.ping() for _ in range(6)))  # connections over which the questions are sent
    proxy.inflict(half_open())
    wired.connection_pool.round_trip_s = SOON_S
    with pytest.raises(OutcomeUnknown):
        await log.append(b"x")
    asked = await asyncio.gather(
        log.ping(), log.last_position(), log.reopen(), entries(log), log._dead_letters.size(), return_exceptions=True
    )
    assert [type(answer) for answer in asked] == [LogUnavailable] * 5


async def test_after_a_reopen_an_append_of_the_epoch_before_keeps_nothing(redis: Any) -> None:
    log, prefix = None, f"t{uuid.uuid4().hex}"
    log = log_on(redis, prefix)
    await log.open()
    late_epoch = log.epoch
    await log.reopen()
    log._epoch = late_epoch  # what is still in a socket somewhere carries this
    with pytest.raises(Fenced):
        await log.append(b"late")
    assert await entries(log) == []


async def test_no_page_of_the_log_is_much_larger_than_an_entry(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has to come within the time of one round trip, or a buffer that left bulk entries would never open again."""
    log = log_on(redis)
    await log.open()
    payloads = [b"small"] * 150 + [b"x" * (3 << 20)] * 5
    for payload in payloads:
        await log.append(payload)
    sizes, read = [], log._read

    async def noted(**more: Any) -> Any:
        page = await read(**more)
        sizes.append(sum(len(payload) for _, (_, payload, *_) in page))
        return page

    monkeypatch.setattr(log, "_read", noted)
    assert [payload for _, payload in await entries(log)] == payloads
    assert max(sizes) < 7 << 20
    assert len(sizes) < 10


async def test_an_acknowledgement_under_way_while_its_owner_reopens_still_counts(redis: Any) -> None:
    """What is resolved stays resolved, whatever the epoch."""
    log = log_on(redis)
    await log.open()
    late_epoch, position = log.epoch, (await log.append(b"x")).position
    await log.reopen()
    log._epoch = late_epoch
    await log.acknowledge(position)
    assert await entries(log) == []


async def test_a_reopen_that_arrives_late_does_not_fence_its_own_owner(redis: Any) -> None:
    """Its answer did not come in time, it was asked again over another connection, and now it arrives as well."""
    log = log_on(redis)
    await log.open()
    late_epoch, epoch = log.epoch, await log.reopen()
    log._epoch = late_epoch
    assert await log.reopen() == epoch > late_epoch
    assert (await log.append(b"x")).position
    assert await log.reopen() > epoch


@pytest.fixture
async def full(redis: Any) -> AsyncIterator[Fill]:
    """Call it, and Redis is over its memory limit until the test has ended."""
    limit = (await redis.config_get("maxmemory"))["maxmemory"]

    async def fill() -> None:
        await redis.config_set("maxmemory", (await redis.info("memory"))["used_memory"] // 2)

    yield fill
    await redis.config_set("maxmemory", limit)


async def test_a_full_redis_refuses_an_append_and_still_forgets(redis: Any, full: Fill) -> None:
    log = log_on(redis)
    await log.open()
    call = LaneCall("lane", 1, 1)
    position = (await log.append(b"x" * 1_000, calls=[call])).position
    await full()
    with pytest.raises(LogUnavailable, match=r"OOM|maxmemory"):
        await log.append(b"y")
    await log.acknowledge(position)
    assert await entries(log) == []
    assert log.place(call) == (position, 0)


async def test_what_empties_a_full_redis_can_begin_anew(redis: Any, full: Fill) -> None:
    """A buffer and a writer that die then must be followed by others."""
    prefix = f"t{uuid.uuid4().hex}"
    await (before := log_on(redis, prefix)).open()
    position = (await before.append(b"x")).position
    writer = RedisLease(redis, prefix, LONG_S, 5.0)
    await writer.acquire()
    await writer.release()
    await full()
    after = log_on(redis, prefix)
    assert await after.open() == 2
    assert await entries(after) == [(position, b"x")]
    successor = RedisLease(redis, prefix, 0.05, 2.0)
    assert await successor.acquire() == (2, 0)
    await asyncio.sleep(0.1)
    assert await successor.renew(alone=True), "it had run out"


async def test_a_full_redis_does_not_look_alive_to_a_buffer_that_lost_it(redis: Any, full: Fill) -> None:
    await (log := log_on(redis)).open()
    await full()
    with pytest.raises(LogUnavailable, match=r"OOM|maxmemory"):
        await log.reopen()


async def test_many_questions_at_once_wait_for_each_other(redis_url: str) -> None:
    client = connect(redis_url, LONG_S)  # a slow machine needs seconds for them
    await (log := log_on(client)).open()
    await asyncio.gather(*(log.last_position() for _ in range(200)))
    await client.aclose()


async def test_a_redis_that_hangs_is_noticed_long_before_an_append_gives_up(wired: Any, proxy: FaultProxy) -> None:
    proxy.inflict(half_open())
    with pytest.raises(LogUnavailable, match="not answered"):
        await log_on(wired).ping()
    proxy.heal()
    await wired.ping()


async def test_all_streams_there_ever_were_are_known(redis: Any) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    for name in ("1of2", "0of2"):
        await RedisLog(redis, prefix, name, RedisDeadLetters(redis, prefix), once_ttl_s=60).open()
    assert await streams(redis, prefix) == ["0of2", "1of2"]


async def test_a_stream_is_its_last_openers_whatever_that_one_reopens(redis: Any) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    before, after = log_on(redis, prefix), log_on(redis, prefix)
    assert not await is_owner(redis, prefix, Origin("0of1", 1, before.owner))
    await before.open()
    assert await is_owner(redis, prefix, Origin("0of1", 1, before.owner))
    await after.open()
    await after.reopen()
    assert not await is_owner(redis, prefix, Origin("0of1", 1, before.owner))
    assert await is_owner(redis, prefix, Origin("0of1", 1, after.owner))


async def test_a_stream_is_not_poured_before_its_heir_has_opened_it(redis: Any) -> None:
    """Empty alone proves nothing: an owner who still lives could add to it, and an older write follow a newer one."""
    prefix = f"t{uuid.uuid4().hex}"
    letters = RedisDeadLetters(redis, prefix)
    before = RedisLog(redis, prefix, "0of1", letters, once_ttl_s=60)
    await before.open()
    assert not await is_poured(redis, prefix, "0of1", "0of2")
    position = (await before.append(b"x")).position
    heir = RedisLog(redis, prefix, "0of1", letters, once_ttl_s=60, owner="0of2")
    await heir.open()
    assert not await is_poured(redis, prefix, "0of1", "0of2")
    await heir.acknowledge(position)
    assert await is_poured(redis, prefix, "0of1", "0of2")
    with pytest.raises(Fenced):
        await before.append(b"y")


@pytest.fixture
async def slow_to_rewrite(each_server: redis_server.RedisServer, tmp_path: Path) -> AsyncIterator[Any]:
    """A Redis that takes 0.8 s and more to write its append-only file anew."""
    for url in redis_running(each_server, tmp_path):
        redis = connect(url, LONG_S)
        await redis.mset({f"filler{number}": "x" for number in range(40)})
        await redis.config_set("rdb-key-save-delay", 20_000)  # microseconds
        yield redis
        await redis.aclose()


async def test_a_log_opens_when_the_file_that_keeps_it_is_there(slow_to_rewrite: Any) -> None:
    """`CONFIG GET appendonly` says yes at once after it was set; until its first rewrite has ended nothing is kept."""
    known = log_on(slow_to_rewrite)
    await known.open()
    await slow_to_rewrite.config_set("appendonly", "no")
    with pytest.raises(LogUnavailable, match="appendonly is 'no'"):
        await known.ping()
    await slow_to_rewrite.config_set("appendonly", "yes")
    for begin in (log_on(slow_to_rewrite).open, known.reopen):
        with pytest.raises(LogUnavailable, match="append-only file anew"):
            await begin()
    await rewritten(slow_to_rewrite)
    assert await log_on(slow_to_rewrite).open() == 1


async def test_a_log_that_was_away_is_back_while_a_redis_known_to_be_safe_rewrites_its_file(
    slow_to_rewrite: Any,
) -> None:
    """Everything is kept meanwhile. It may take minutes, and a disk that is busy with it is what loses a log."""
    log = log_on(slow_to_rewrite)
    before = await log.open()
    await slow_to_rewrite.bgrewriteaof()
    epoch = await log.reopen()
    assert (await slow_to_rewrite.info("persistence"))["aof_rewrite_in_progress"]
    assert epoch > before


async def test_an_acknowledgement_that_arrives_behind_a_later_one_forgets_no_call(redis: Any) -> None:
    prefix, calls = f"t{uuid.uuid4().hex}", [LaneCall("one", 1, 1), LaneCall("two", 1, 1)]
    await (log := log_on(redis, prefix)).open()
    first = (await log.append(b"x", calls=calls[:1])).position
    late, script = list[dict[str, Any]](), log._acknowledge

    async def keep(**asked: Any) -> None:
        late.append(asked)

    log._acknowledge = keep
    await log.acknowledge(first)
    log._acknowledge = script
    second = (await log.append(b"x", calls=calls[1:])).position
    await log.acknowledge(second)
    await script(**late[0])
    await (newer := log_on(redis, prefix)).open()
    assert [newer.place(call) for call in calls] == [(first, 0), (second, 0)]


async def test_an_acknowledgement_forgets_its_entries_also_where_a_later_one_was_torn(redis: Any) -> None:
    """Of which Redis had the calls in its file, and not that the entries are gone."""
    prefix = f"t{uuid.uuid4().hex}"
    await (log := log_on(redis, prefix)).open()
    first, second = [(await log.append(b"x")).position for _ in range(2)]
    await redis.set(f"{prefix}:arrivals:0of1", f"{second} {{}}")
    await log.acknowledge(first)
    assert await entries(log) == [(second, b"x")]


async def test_an_idempotency_record_has_an_end(redis: Any) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    log = log_on(redis, prefix)
    await log.open()
    await log.append(b"", [Keyed("k", "f", b"one")])
    assert 50 < await redis.ttl(f"{prefix}:once:k") <= 60


@pytest.mark.parametrize(
    "fields", [{"w9": b"?"}, {"w1": b"", "calls": b"?"}, {"w1": b"", "calls": b"[1]"}, {"w1": b"", "calls": b'[["a"]]'}]
)
async def test_an_entry_of_a_layout_from_the_future_stops_the_start(redis: Any, fields: dict[Any, Any]) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    log = log_on(redis, prefix)
    await log.open()
    position = (await redis.xadd(f"{prefix}:stream:0of1", fields)).decode()
    with pytest.raises(LogUnavailable, match=f"0of1 holds an entry at {position} that this version cannot read"):
        await entries(log)


@pytest.mark.parametrize("calls", [b"1-0 ?", b"1-0", b'{"lane": 1}'])
async def test_calls_of_a_layout_from_the_future_stop_the_start(redis: Any, calls: bytes) -> None:
    prefix = f"t{uuid.uuid4().hex}"
    await redis.set(f"{prefix}:arrivals:0of1", calls)
    with pytest.raises(LogUnavailable, match="arrivals:0of1 holds what this version cannot read"):
        await log_on(redis, prefix).open()


async def test_what_a_redis_cache_failed_to_take_is_not_there(wired: Any, proxy: FaultProxy) -> None:
    """What did not get an answer may arrive behind a later drop."""
    cache = RedisCache(wired, f"t{uuid.uuid4().hex}", "0of1", 60)
    await cache.put({"a": b"old", "c": b"old"})
    assert await cache.get(["a"]) == [b"old"]
    proxy.inflict(half_open())
    wired.connection_pool.round_trip_s = SOON_S
    await cache.put({"a": b"newer", "b": b"old"})
    proxy.heal()  # it arrives now
    wired.connection_pool.round_trip_s = LONG_S
    assert await cache.get(["a", "b", "c"]) == [None, None, b"old"]


async def test_a_redis_cache_stays_within_its_bound_whatever_was_put_without_an_answer_and_by_whom(
    wired: Any, proxy: FaultProxy, redis: Any
) -> None:
    prefix, most = f"t{uuid.uuid4().hex}", 4
    for _ in range(3):  # buffers, one after the other
        cache = RedisCache(wired, prefix, "0of1", 60, most)
        for stalls in (False, True, False):
            if stalls:
                proxy.inflict(half_open())
                wired.connection_pool.round_trip_s = SOON_S
            await cache.put({uuid.uuid4().hex: b"x" for _ in range(most)})
            proxy.heal()
            wired.connection_pool.round_trip_s = LONG_S
    assert len([key async for key in redis.scan_iter(f"{prefix}:*")]) == most


async def test_a_pool_follows_another_only_when_all_before_that_one_are_poured(redis_url: str) -> None:
    """Two generations are told apart by their sizes; of three nobody would know the order."""
    redis, prefix = connect(redis_url, LONG_S), f"t{uuid.uuid4().hex}"
    letters = RedisDeadLetters(redis, prefix)

    async def fill(stream: str) -> None:
        log = RedisLog(redis, prefix, stream, letters, once_ttl_s=60)
        await log.open()
        await log.append(b"x")

    async def pour(stream: str) -> None:
        heir = RedisLog(redis, prefix, stream, letters, once_ttl_s=60)
        await heir.open()
        await heir.acknowledge(await heir.last_position())

    assert await follow(redis, prefix, 1) == []
    await fill("0of1")
    assert await follow(redis, prefix, 11) == []  # one older pool may hold something
    await fill("3of11")
    assert await follow(redis, prefix, 11) == []  # a restart is no change
    assert await follow(redis, prefix, 1) == ["0of1"]  # back again: what is in its stream is older than the other's
    assert await follow(redis, prefix, 4) == ["0of1"]
    await pour("0of1")
    assert await follow(redis, prefix, 4) == []
    assert await follow(redis, prefix, 1) == ["3of11"]
    await pour("3of11")
    assert await follow(redis, prefix, 1) == []
    await redis.aclose()


async def test_from_the_moment_a_pool_begins_no_buffer_of_the_one_before_keeps_anything(redis: Any) -> None:
    """It would be poured first, and be newer than what the new pool has taken before the heir of its stream began."""
    prefix = f"t{uuid.uuid4().hex}"
    log = RedisLog(redis, prefix, "0of1", RedisDeadLetters(redis, prefix), once_ttl_s=60)
    await follow(redis, prefix, 1)
    await log.open()
    await log.append(b"x")
    await follow(redis, prefix, 1)
    await log.append(b"y")
    await follow(redis, prefix, 2)
    for attempt in (log.append(b"z"), log.reopen(), log.ping()):
        with pytest.raises(Fenced):
            await attempt
    assert [payload for _, payload in await entries(log)] == [b"x", b"y"]
