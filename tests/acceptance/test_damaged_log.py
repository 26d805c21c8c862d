"""The append-only file torn at its end, damaged in its middle, brought back from a backup: the runbooks, executed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import bson
import pytest
import redis

from actors.core.document import Kind, Write, encode_writes
from tests.acceptance.disk import append_only_file, data_folder, down
from tests.acceptance.service import Service
from tests.acceptance.trial import FIRST_FAULT_S, Fault, Trials

AWAY_S = 8.0
STREAM = b"spillway:stream:0of1"


def command(*words: bytes) -> bytes:
    """As the append-only file spells it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def test_the_end_of_the_log_is_torn(service: Service, trial: Trials) -> None:
    """What was being written when the power went: an append that never came to its end, so nobody was told of it.

    Redis cuts off the half command. It leaves the beginning of the transaction in its file, which is read again at the
    next start, in front of what was appended since: so Redis is killed once more.
    """
    write = Write(Kind.PUT, "chaos.torn", "never acknowledged", bson.encode({"_id": "never acknowledged"}))

    def tear() -> None:
        with down(service) as folder, append_only_file(folder).open("ab") as file:
            position = b"%d-0" % (time.time() * 1000)  # behind everything: Redis is down
            entry = command(b"XADD", STREAM, position, b"w1", encode_writes([write]))
            file.write(command(b"MULTI") + entry + command(b"EXEC")[:-5])

    row = trial(service, "Redis killed, the end of its file torn; killed again").run(
        Fault(tear), Fault(lambda: service.part("Redis").kill(), at_s=FIRST_FAULT_S + 8.0)
    )
    assert "Truncating the AOF" in (service.state / "logs" / "redis.log").read_text()
    assert row.ok > 50


@pytest.mark.chaos
def test_the_middle_of_the_log_is_damaged(service: Service, trial: Trials) -> None:
    """The runbook "Redis will not start": it refuses, the run says why and where to read on, callers hear 503; and when
    the file is whole again everything is there."""
    damage: list[tuple[Path, int]] = []

    def write(byte: bytes) -> None:
        path, at = damage[0]
        with path.open("r+b") as file:
            file.seek(at)
            file.write(byte)

    def break_it() -> None:
        with down(service) as folder:
            path = append_only_file(folder)
            content = path.read_bytes()
            damage.append((path, content.index(b"\r\n*", len(content) // 2) + 2))
            write(b"!")

    def mend() -> None:
        service.eventually(lambda: "Bad file format" in service.log.read_text(), 30)
        assert "docs/operations.md, 'Redis will not start'" in service.log.read_text()
        status, headers, body = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
        assert (status, body["code"]) == (503, "log-unavailable")
        assert int(headers["retry-after"]) >= 1
        assert not service.ready()
        write(b"*")

    row = trial(service, "Redis' file damaged in the middle, then mended").run(Fault(break_it, mend, lasts_s=AWAY_S))
    assert row.ok > 50
    assert row.fail > 10


@pytest.mark.chaos
def test_a_backup_is_restored(service: Service, trial: Trials) -> None:
    """The runbook "Restore from a backup": nothing but the copy knows the writes, and all of them come to MongoDB."""
    mongodb, backup = service.part("MongoDB"), service.folder / "backup"
    made = trial(service, "Redis' data destroyed, its backup restored")
    try:
        made.strike(Fault(mongodb.suspend), load_s=FIRST_FAULT_S + 5.0)
        copy_live(service.status_of_run()["redis_url"], data_folder(service), backup)
        with down(service) as folder:
            service.actor("BufferActor").kill()  # it remembers what the log held
            shutil.rmtree(folder)
            shutil.copytree(backup, folder)
    finally:
        mongodb.resume()
    service.eventually(service.ready, 60)
    row = made.judge()
    assert row.ok > 50


def copy_live(url: str, folder: Path, backup: Path) -> None:
    """As the runbook says, with Redis running: no rewriting while the files are copied."""
    with redis.Redis.from_url(url) as client:
        percentage = client.config_get("auto-aof-rewrite-percentage")["auto-aof-rewrite-percentage"]
        client.config_set("auto-aof-rewrite-percentage", 0)
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        shutil.copytree(folder, backup)
        client.config_set("auto-aof-rewrite-percentage", percentage)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
    raise AssertionError("the rewrite does not end")
