"""The Ray shells: created once, back after a kill, errors intact across processes, nothing left after a drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import uuid
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient

from actors.adapters.redis_lease import RedisLease
from actors.adapters.redis_link import connect
from actors.calls import ActorAway
from actors.core.document import Kind, Write
from actors.core.errors import BufferUnavailable, IdempotencyConflict, QueueFull, SpillwayError, UnsafeLog
from actors.core.ports import Grant
from cluster import launch, topology
from cluster.embedded import mongo_server
from cluster.settings import Settings, load
from k8s.check.limits import wait_for_drain
from tests.acceptance.proxy import FaultProxy
from tests.distributed.pool import ready, whole_status

pytestmark = pytest.mark.usefixtures("clean_up")


def inserts(settings: Settings, count: int) -> list[Write]:
    ids = [uuid.uuid4().hex for _ in range(count)]
    return [Write(Kind.INSERT, settings.data_namespace, id_, bson.encode({"_id": id_})) for id_ in ids]


async def kill(name: str) -> int:
    """kill -9 of the actor's process; returns its id."""
    import ray

    handle = ray.get_actor(name, namespace=topology.NAMESPACE)
    pid = int(await handle.pid.remote())
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_many_creators_at_once_make_one_pool_and_one_writer(settings: Settings) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def create() -> list[str]:
        async def ensure() -> None:
            launch.ensure_actors(settings)

        asyncio.run(ensure())
        return launch.existing()

    await asyncio.gather(*(create.remote() for _ in range(4)))
    assert launch.existing() == sorted([*launch.buffer_names(settings), launch.writer_name(settings)])


async def test_what_is_accepted_is_stored(settings: Settings, stored: Any, eventually: Any) -> None:
    intake = await ready(settings)
    writes = inserts(settings, 20)
    receipts = await intake.append(writes)
    states = await intake.wait(receipts, 20)
    assert [state.name for state in states] == ["stored"] * 20
    assert sorted(await stored()) == sorted(write.id for write in writes)


async def test_a_killed_buffer_replays_its_log(settings: Settings, stored: Any, eventually: Any) -> None:
    settings = settings.model_copy(update={"request_timeout_s": 30.0})  # Ray may need as long to start a process
    intake = await ready(settings)
    writes = inserts(settings, 300)
    groups = [writes[i : i + 10] for i in range(0, 300, 10)]
    before = await intake.append(groups[0])
    killed = await kill(launch.buffer_names(settings)[0])
    await asyncio.gather(*(intake.append(group) for group in groups[1:]))  # retried until the buffer is back

    async def drained() -> bool:
        return (await intake.status())["backlog"]["writes"] == 0 and len(await stored()) >= 300

    await eventually(drained)
    assert sorted(await stored()) == sorted(write.id for write in writes)
    assert (await intake.state(before[0])).name == "stored"
    import ray

    assert await ray.get_actor(launch.buffer_names(settings)[0], namespace=topology.NAMESPACE).pid.remote() != killed


async def test_a_killed_writer_is_followed_and_nothing_is_doubled(
    settings: Settings, stored: Any, eventually: Any
) -> None:
    intake = await ready(settings)
    writes = inserts(settings, 400)
    before = (await whole_status(intake))["writer"]["epoch"]
    await intake.append(writes[:200])
    await kill(launch.writer_name(settings))
    await intake.append(writes[200:])

    async def all_there() -> bool:
        return len(await stored()) >= 400

    await eventually(all_there)
    assert sorted(await stored()) == sorted(write.id for write in writes)
    status = await whole_status(intake)
    assert status["writer"]["epoch"] > before
    assert status["commands"]["worst_window"] <= 100


async def test_errors_arrive_as_what_they_are(settings: Settings) -> None:
    intake = await ready(settings.model_copy(update={"max_queue_size": 10}))
    (first,), fresh = await intake.append_once("key", "f" * 32, inserts(settings, 1))
    assert fresh
    (again,), fresh = await intake.append_once("key", "f" * 32, inserts(settings, 1))
    assert not fresh
    assert (again.stream, again.position) == (first.stream, first.position)
    with pytest.raises(IdempotencyConflict):
        await intake.append_once("key", "0" * 32, inserts(settings, 1))

    async def fill() -> None:  # an empty buffer takes any call
        for _ in range(20):
            await intake.append(inserts(settings, 11))

    with pytest.raises(QueueFull) as refusal:
        await fill()
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s >= 1


async def test_a_redis_that_may_lose_writes_is_refused_with_the_setting_at_fault(settings: Settings) -> None:
    from redis.asyncio import Redis

    client = Redis.from_url(settings.redis_url)
    await client.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(UnsafeLog, match="appendfsync"):
            await ready(settings)
    finally:
        await client.config_set("appendfsync", "always")
        await client.aclose()


async def test_a_drain_pours_everything_and_hands_over_cleanly(settings: Settings, stored: Any) -> None:
    settings = settings.model_copy(update={"writer_lease_s": 10.0})  # a third of it is the time to give it back in
    intake = await ready(settings)
    writes = inserts(settings, 500)
    await intake.append(writes)
    assert await launch.drain(settings, 30) == 0
    assert len(await stored()) == 500
    assert launch.existing() == []
    grant = await next_grant(settings)
    assert grant is not None, "the lease was not given back"
    assert grant.under_way_s == 0, "it was not given back clean"
    assert (await whole_status(await ready(settings)))["backlog"]["writes"] == 0


async def next_grant(settings: Settings) -> Grant | None:
    """What the next writer is told of the end of the last one; the lease is free and clean again afterwards."""
    client = connect(settings.redis_url, 60.0)
    lease = RedisLease(client, settings.key_prefix, settings.writer_lease_s, settings.mongodb_timeout_s)
    grant = await lease.acquire()
    await lease.release()
    await client.aclose()
    return grant


async def test_the_stop_hook_of_a_worker_in_kubernetes_waits_until_the_actors_are_drained(
    settings: Settings, tmp_path: Path
) -> None:
    import ray

    await ready(settings)
    for name in launch.existing():
        pid = await ray.get_actor(name, namespace=topology.NAMESPACE).pid.remote()
        (tmp_path / str(pid)).symlink_to(f"/proc/{pid}")  # a pod holds no other processes; this machine does
    assert await ran_out(settings, tmp_path, looks=2)
    assert await launch.drain(settings, 30) == 0
    assert not await ran_out(settings, tmp_path, looks=60)


async def ran_out(settings: Settings, processes: Path, looks: int) -> bool:
    """Whether the hook, with so many looks at these processes, is still waiting after the last one."""
    command, option, script = wait_for_drain(settings)
    script = re.sub(r"seq \d+", f"seq {looks}", script).replace("/proc/", f"{processes}/")
    hook = await asyncio.create_subprocess_exec(command, option, f"{script}; exit 3")
    return {0: False, 3: True}[await hook.wait()]


async def test_a_drain_that_a_buffer_does_not_answer_never_says_that_nothing_is_left(settings: Settings) -> None:
    import ray

    await ready(settings)
    handle = ray.get_actor(launch.buffer_names(settings)[0], namespace=topology.NAMESPACE)
    os.kill(int(await handle.pid.remote()), signal.SIGSTOP)
    with pytest.raises(ActorAway):
        await launch.drain(settings, 0.0)
    assert launch.existing() == []


async def test_a_pool_that_changes_its_size_loses_nothing(settings: Settings, stored: Any, eventually: Any) -> None:
    written: list[str] = []
    for shards in (3, 1, 2):
        resized = load(**(settings.model_dump() | {"buffers": shards}))
        intake = await ready(resized)
        writes = inserts(settings, 60)
        await intake.append(writes)
        written += [write.id for write in writes]

    async def all_there() -> bool:
        return len(await stored()) >= len(written)

    await eventually(all_there)
    assert sorted(await stored()) == sorted(written)


async def test_two_changes_of_the_pool_with_a_backlog_keep_the_order_of_a_document(
    settings: Settings, eventually: Any
) -> None:
    """What the first pool left is older than what the second did, though it lies in the third's own streams."""
    mongodb = FaultProxy(int(settings.mongodb_uri.rpartition(":")[2].partition("/")[0]))
    away = {"mongodb_uri": mongo_server.address(mongodb.port), "buffers": 1}
    mongodb.refuse()
    database, collection = settings.data_namespace.split(".", 1)
    try:
        for version, shards in enumerate((1, 2)):
            intake = await ready(load(**(settings.model_dump() | away | {"buffers": shards})))
            body = bson.encode({"_id": "x", "version": version})
            await intake.append([Write(Kind.PUT, settings.data_namespace, "x", body)])
        intake = launch.ensure_actors(load(**(settings.model_dump() | away)))

        async def refused() -> bool:
            try:
                await intake.append(inserts(settings, 1))
            except SpillwayError as error:
                return "still poured: 0of1" in str(error)
            raise AssertionError("what is newer than two pools was taken")

        await eventually(refused)
        assert (await intake.status())["backlog"]["writes"] is None
        mongodb.accept()

        async def taken() -> bool:
            with contextlib.suppress(SpillwayError):
                return bool(await intake.append(inserts(settings, 1)))
            return False

        await eventually(taken)

        async def drained() -> bool:
            return (await intake.status())["backlog"]["writes"] == 0

        await eventually(drained)
        async with AsyncMongoClient(settings.mongodb_uri) as client:
            assert (await client[database][collection].find_one({"_id": "x"}))["version"] == 1
    finally:
        mongodb.close()


async def test_a_setting_that_changes_reaches_the_actors(settings: Settings, stored: Any, eventually: Any) -> None:
    """A deployment in place finds them alive, with the settings they were started with."""
    first, second = inserts(settings, 50), inserts(settings, 50)
    await (await ready(settings)).append(first)
    intake = await ready(settings.model_copy(update={"rate_limit_per_s": 50}))
    await intake.append(second)

    async def all_there() -> bool:
        return len(await stored()) >= 100

    await eventually(all_there)
    assert sorted(await stored()) == sorted(write.id for write in first + second)
    assert (await whole_status(intake))["commands"]["limit"] == 50
    assert len(launch.existing()) == 2


async def test_a_replica_whose_actors_were_ended_for_others_knows_and_one_whose_buffer_was_killed_does_not(
    settings: Settings, eventually: Any
) -> None:
    """The one could wait for ever, the other is helped by Ray."""
    before = settings.model_copy(update={"request_timeout_s": 60.0})
    after = settings.model_copy(update={"rate_limit_per_s": 50})
    intake, ended, living = await ready(before), launch.roll_call(before), launch.roll_call(after)
    follower = await ready(after)

    async def refused() -> bool:
        with contextlib.suppress(SpillwayError):
            try:
                await intake.append(inserts(settings, 1))
            except BufferUnavailable as error:
                return str(error).startswith("there is no buffer-")  # one who waits hears first how long he has
        return False

    async def known() -> bool:
        return ended.gone() == [*launch.buffer_names(before), launch.writer_name(before)]

    await eventually(refused)
    await eventually(known)
    assert not (await intake.status())["ready"]
    await kill(launch.buffer_names(after)[0])
    missed: list[str] = []

    async def back() -> bool:
        missed.extend(living.gone())
        with contextlib.suppress(SpillwayError):
            return bool(await follower.append(inserts(settings, 1)))
        return False

    await eventually(back)
    assert missed == []
