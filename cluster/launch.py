"""How actors are created, found and stopped. Every `.options(...)` of an actor is in this file."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from hashlib import blake2b
from itertools import cycle
from typing import Any

import ray
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.adapters import redis_format
from actors.adapters.redis_link import connect, refuse_unsafe
from actors.appends import Bounds
from actors.calls import Remote
from actors.core.batching import BatchPolicy
from actors.core.errors import LogUnavailable, SpillwayError, UnsafeLog
from actors.remote import BufferActor, BufferConfig, MongoWriter, WriterConfig
from actors.remote_intake import RemoteIntake
from cluster import topology
from cluster.roll_call import RollCall
from cluster.settings import Settings

_HEAD = "node:__internal_head__"  # the resource by which Ray marks its head
_APPEND_PATIENCE = 0.8  # of the request's time: the buffer gives up before its caller does, and can say why


def ensure_actors(settings: Settings) -> RemoteIntake:
    """Create what is missing of the pool and the writer; whoever needs them may call this, in any order, at once.

    Actors of another pool size, an older generation or other settings are ended first: what they had accepted is in
    their streams.
    """
    writer, names = writer_name(settings), buffer_names(settings)
    end_strangers({writer, *names})
    calls, homes = settings.max_pending_calls, _homes()
    _create(MongoWriter, writer, writer_config(settings), calls, next(homes))
    for config, name in zip(buffer_configs(settings, writer), names, strict=True):
        _create(BufferActor, name, config, calls, next(homes))
    return RemoteIntake(
        [Remote(name, topology.NAMESPACE) for name in names],
        topology.stream_names(settings.buffers),
        Remote(writer, topology.NAMESPACE),
        timeout_s=settings.request_timeout_s,
    )


def roll_call(settings: Settings) -> RollCall:
    """Of the actors that these settings make."""
    ours = (writer_name(settings), *buffer_names(settings))
    return RollCall(ours, lambda: asyncio.to_thread(existing))  # Ray's answer may take a minute, and blocks


async def refuse_unsafe_redis(settings: Settings) -> None:
    """Raise `UnsafeLog` if this Redis may lose what it acknowledged, `LogUnavailable` if a newer version has its log.
    For before `ensure_actors`: a version that cannot run must not end the actors of the one that does. A Redis that
    does not answer is left to the buffers."""
    client = connect(settings.redis_url, settings.request_timeout_s * _APPEND_PATIENCE)
    try:
        why = None
        with contextlib.suppress(LogUnavailable):
            if not settings.allow_unsafe_redis:
                await refuse_unsafe(client)
            why = await redis_format.refusal(client, settings.key_prefix)
        if why is not None:
            raise why
    finally:
        await client.aclose()


async def refuse_unsafe_log(intake: RemoteIntake, timeout_s: float) -> None:
    """Raise `UnsafeLog` if the buffers refuse their Redis; return when they are ready, or when the time is up."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            await intake.open_check()
            return
        except UnsafeLog:
            raise
        except SpillwayError:
            await asyncio.sleep(0.1)


def end_strangers(ours: set[str]) -> None:
    """End our actors of other names. Nothing is lost: their streams are inherited."""
    for name in existing():
        if name not in ours:
            _end(name)


def _end(name: str) -> None:
    with contextlib.suppress(ValueError):  # somebody else has just done it
        ray.kill(ray.get_actor(name, namespace=topology.NAMESPACE))


def existing() -> list[str]:
    """Names of our living actors, of whatever generation."""
    return sorted(a["name"] for a in list_named_actors(all_namespaces=True) if a["namespace"] == topology.NAMESPACE)


async def drain(settings: Settings, timeout_s: float) -> int:
    """Refuse new writes, pour what is there, let the writer go. Returns how many writes are left in the log.

    Needs a connected Ray. What is left is poured by the next start. Raises what kept a buffer from answering, after all
    actors have been ended: then nobody knows how many are left, and no number is better than a wrong one.
    """
    buffers = [Remote(name, topology.NAMESPACE) for name in existing() if name.startswith(topology.BUFFER)]
    asked = (buffer.call("drain", timeout_s, timeout_s=timeout_s + 5) for buffer in buffers)
    left = await asyncio.gather(*asked, return_exceptions=True)
    for name in existing():
        if name.startswith(topology.WRITER):
            with contextlib.suppress(SpillwayError):  # then the next writer waits out its lease
                await Remote(name, topology.NAMESPACE).call("release", timeout_s=settings.mongodb_timeout_s + 5)
    for name in existing():
        _end(name)
    total = 0
    for answer in left:
        if isinstance(answer, BaseException):
            raise answer
        total += int(answer)
    return total


def buffer_names(settings: Settings) -> list[str]:
    """Actor names of the pool."""
    return topology.buffer_names(settings.buffers, _digest(settings))


def writer_name(settings: Settings) -> str:
    """Actor name of the one writer."""
    return topology.writer_name(_digest(settings))


def _digest(settings: Settings) -> str:
    """Of all that the actors are told: whichever setting it is that changes, all of them are started anew."""
    told = (settings.max_pending_calls, writer_config(settings), buffer_configs(settings, writer=""))
    return blake2b(repr(told).encode(), digest_size=4).hexdigest()


def buffer_configs(settings: Settings, writer: str) -> list[BufferConfig]:
    """One per buffer, which is told the writer's name; the bounds of the settings are for all of them together."""
    shards = settings.buffers
    return [
        BufferConfig(
            stream=stream,
            index=index,
            shards=shards,
            redis_url=settings.redis_url,
            redis_timeout_s=settings.request_timeout_s * _APPEND_PATIENCE,
            key_prefix=settings.key_prefix,
            allow_unsafe_redis=settings.allow_unsafe_redis,
            once_ttl_s=settings.idempotency_ttl_s,
            once_max=settings.idempotency_max_keys,
            cache_ttl_s=settings.cache_ttl_s,
            cache_max_entries=settings.cache_max_entries,
            policy=BatchPolicy(settings.batch_size, settings.batch_max_bytes, settings.batch_timeout_ms / 1000),
            bounds=Bounds(
                max_writes=max(1, settings.max_queue_size // shards),
                max_bytes=max(1, settings.max_queue_bytes // shards),
                group_writes=settings.batch_size,
                group_bytes=settings.batch_max_bytes,
                patience_s=settings.request_timeout_s * _APPEND_PATIENCE,
            ),
            writer_name=writer,
            namespace=topology.NAMESPACE,
        )
        for index, stream in enumerate(topology.stream_names(shards))
    ]


def writer_config(settings: Settings) -> WriterConfig:
    """The one writer's."""
    return WriterConfig(
        mongodb_uri=settings.mongodb_uri,
        mongodb_timeout_s=settings.mongodb_timeout_s,
        write_concern=settings.write_concern,
        redis_url=settings.redis_url,
        redis_timeout_s=settings.writer_lease_s / 3,
        key_prefix=settings.key_prefix,
        lease_s=settings.writer_lease_s,
        limit=settings.rate_limit_per_s,
        lanes=settings.writer_lanes,
        max_writes=settings.batch_size,
        max_bytes=settings.batch_max_bytes,
        operation_bytes=settings.operation_bytes,
        counted=(settings.data_namespace,),
    )


def _homes() -> Iterator[str]:
    """Ids of the living nodes, over and over. The head comes last: it has the cluster to look after.

    Not Ray's SPREAD: each creator's node counts for itself there, and all replicas create at once.
    """
    living = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    living.sort(key=lambda node: (_HEAD in node["Resources"], node["NodeID"]))
    return cycle(node["NodeID"] for node in living)


def _create(actor_class: type, name: str, config: Any, max_concurrency: int, home: str) -> None:
    ray.remote(actor_class).options(
        name=name,
        namespace=topology.NAMESPACE,
        lifetime="detached",  # it must outlive the replica that happened to create it
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,  # a repeated call is a decision of ours, not of Ray's
        max_concurrency=max_concurrency,
        num_cpus=0,
        memory=1,  # byte; Ray puts an actor that reserves nothing at all wherever it likes
        scheduling_strategy=NodeAffinitySchedulingStrategy(home, soft=True),  # soft: any other node when this one dies
    ).remote(config)
