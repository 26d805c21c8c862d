"""Redis paused, out of memory, on a slow, a broken, a full disk: callers are refused, nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from cluster.embedded import redis_server
from tests.acceptance.disk import Strace, data_folder, down, small_disk
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

MIB = 1024 * 1024
BACK_S = 60.0


def ask(service: Service) -> redis.Redis:
    """A client of the run's own Redis."""
    return redis.Redis.from_url(service.status_of_run()["redis_url"], socket_timeout=10.0)


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_redis_is_paused(service: Service, trial: Trials, seconds: int) -> None:
    server = service.part("Redis")
    hides = "redis" if seconds > 2 else ""
    row = trial(service, f"Redis paused for {seconds} s").run(
        Fault(server.suspend, server.resume, lasts_s=seconds, hides=hides)
    )
    assert row.ok > 50


@pytest.mark.chaos
@pytest.mark.parametrize("delay_ms", [50, 500])
def test_the_disk_is_slow(service: Service, trial: Trials, tmp_path: Path, delay_ms: int) -> None:
    """strace lets every fdatasync of Redis begin late."""
    server, stracing = service.part("Redis"), list[Strace]()
    inject = f"fdatasync:delay_enter={delay_ms * 1000}"

    def slow() -> None:
        stracing.append(Strace(server.pid, tmp_path / "strace", "-e", "trace=fdatasync", "-e", f"inject={inject}"))

    row = trial(service, f"every fdatasync of Redis takes {delay_ms} ms more").run(
        Fault(slow, lambda: stracing[0].stop(), lasts_s=8.0)
    )
    assert (tmp_path / "strace").read_text().count("(DELAYED)") > 5
    assert service.part("Redis").pid == server.pid
    assert row.ok > 20


def test_the_disk_fails_to_sync(service: Service, trial: Trials, tmp_path: Path) -> None:
    """Redis may not go on after that: nobody knows what the disk holds. It ends, and reads again what is there."""
    server = service.part("Redis")

    def fail() -> None:
        Strace(server.pid, tmp_path / "strace", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=3+")
        server.wait(BACK_S)

    row = trial(service, "fdatasync of Redis fails with EIO").run(Fault(fail))
    assert "EIO" in (tmp_path / "strace").read_text()
    assert service.part("Redis").pid != server.pid
    assert row.ok > 50


def test_a_redis_that_is_told_not_to_sync_any_more_is_refused_while_it_is(service: Service) -> None:
    """Somebody wants it to be faster. It would show after a power cut, and no sooner."""

    def write() -> tuple[int, str]:
        status, _headers, body = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
        return status, body.get("detail", "")

    client = ask(service)
    client.config_set("appendfsync", "everysec")
    try:
        service.eventually(lambda: not service.ready(), BACK_S)
        status, detail = write()
        assert status == 503
        assert "appendfsync is 'everysec', must be 'always'. Fix: CONFIG SET appendfsync always" in detail
    finally:
        client.config_set("appendfsync", "always")
    service.eventually(service.ready, BACK_S)
    assert write()[0] == 202


@pytest.fixture
def nearly_full_disk(service: Service) -> Iterator[ExitStack]:
    """Enter `fill` into it, and Redis' data folder has half a MiB left; afterwards the data is where it was."""
    with ExitStack() as mounted:
        yield mounted
        with down(service) as folder:
            rescued = shutil.copytree(folder, folder.with_name("rescued"))
            mounted.close()
            shutil.rmtree(folder)
            rescued.rename(folder)
        service.eventually(lambda: redis_server.is_ready(service.status_of_run()["redis_url"]), BACK_S)


@pytest.mark.chaos
def test_the_disk_is_full(service: Service, trial: Trials, nearly_full_disk: ExitStack) -> None:
    """The runbook "Redis' disk is full": make room, nothing else."""
    resize = []

    def fill() -> None:
        with down(service) as folder:
            data = shutil.copytree(folder, folder.with_name("data-before"))
            size = sum(path.stat().st_size for path in data.rglob("*"))
            resize.append(nearly_full_disk.enter_context(small_disk(folder, size + MIB // 2)))
            shutil.copytree(data, folder, dirs_exist_ok=True)
            shutil.rmtree(data)

    def is_full() -> bool:
        space = os.statvfs(data_folder(service))
        return space.f_bavail * space.f_bsize < 64 * 1024 and "Redis ended with code 1" in service.log.read_text()

    def make_room() -> None:
        service.eventually(is_full, BACK_S)
        status, headers, body = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
        assert (status, body["code"]) == (503, "log-unavailable")
        assert int(headers["retry-after"]) >= 1
        resize[0](256 * MIB)

    row = trial(service, "Redis' disk full, then grown").run(Fault(fill, make_room, lasts_s=12.0))
    assert row.ok > 50
    assert row.fail > 10


@pytest.mark.chaos
def test_the_memory_is_full(service: Service, trial: Trials) -> None:
    """MongoDB is away until Redis refuses; then buffer and writer die, and all is poured while it is still full."""
    client, mongodb = ask(service), service.part("MongoDB")
    before = str(client.config_get("maxmemory")["maxmemory"])

    def fill() -> None:
        mongodb.suspend()
        client.config_set("maxmemory", client.info("memory")["used_memory"] + MIB)

    def refused() -> bool:
        status, headers, body = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
        return status == 503 and body["code"] == "log-unavailable" and int(headers["retry-after"]) >= 1

    def backlog() -> int:
        return int(service.get("/v1/status")[2].get("backlog", {}).get("writes") or 0)  # null: a buffer is away

    def pour() -> None:
        service.eventually(refused, BACK_S)
        epoch = service.told("writer", "epoch")
        for title in ("MongoWriter", "BufferActor"):
            service.actor(title).kill()
        service.eventually(lambda: backlog() > 0, BACK_S)  # the new buffer has read what fills Redis
        mongodb.resume()
        service.eventually(lambda: service.get("/v1/status")[2].get("writer", {}).get("epoch", 0) > epoch, BACK_S)
        service.eventually(service.ready, BACK_S)  # room again, without a change of the limit

    try:
        row = trial(service, "Redis' memory full, writer and buffer killed").run(Fault(fill, pour, lasts_s=10.0))
    finally:
        mongodb.resume()
        client.config_set("maxmemory", before)
    assert row.ok > 50
    assert row.fail > 10
