"""What `up` and `doctor` say of the servers that the settings name. No server is asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pymongo
import pytest
import redis
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from rich.console import Console

from actors.adapters.redis_link import SAFE, refuse_unsafe
from actors.core.errors import UnsafeLog
from cluster.doctor import _mongodb, _redis
from cluster.embedded import mongo_server
from cluster.embedded.mongo_server import FAR_S, UnusableUri, trouble
from cluster.embedded.steps import Steps
from cluster.parts import Parts, Unsuitable
from cluster.settings import load
from cluster.state import Process, Record, StateFolder

RECORD = Record("run", Process(1, 1, "boot"))


class FakeMongo:
    """A `pymongo.MongoClient` whose server answers `hello` with `error`, if there is one."""

    error: ClassVar[PyMongoError | None] = None
    waited: ClassVar[int] = 0

    def __class_getitem__(cls, _: Any) -> type[FakeMongo]:
        return cls

    def __init__(self, _: str, **options: Any) -> None:
        type(self).waited = options["serverSelectionTimeoutMS"]
        self.admin = self

    def __enter__(self) -> FakeMongo:
        return self

    def __exit__(self, *_: object) -> None: ...

    def command(self, name: str) -> dict[str, Any]:
        assert name == "hello", "anything else would count"
        if self.error is not None:
            raise self.error
        return {"ok": 1.0}


@pytest.fixture
def mongo(monkeypatch: pytest.MonkeyPatch) -> type[FakeMongo]:
    monkeypatch.setattr(pymongo, "MongoClient", FakeMongo)
    monkeypatch.setattr(FakeMongo, "error", None)
    return FakeMongo


def given(folder: Path, uri: str, **more: Any) -> tuple[Parts, Console]:
    console = Console(record=True, width=200)
    settings = load(mongodb_uri=uri, **more)
    return Parts(settings, StateFolder(folder), dataclasses.replace(RECORD), Steps(console)), console


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("mongodb://u:s3c@r3t@h/", "must be escaped"),
        ("mongodb://u:s3c:r3t@h/", "must be escaped"),
        ("mongodb://u:s3c%r3t@h/", "must be escaped"),
        ("mongodb://u:s3c/r3t@h/", "Bad database name"),
        ("mongodb://s3c:r3t", "Port contains non-digit characters"),
        ("mongodb://s3c%2r3t", "Percent-encoding is only allowed"),
        ("mongodb://u:s3c?r3t@h/", "options are key=value pairs"),
        ("mongodb://h:99999/", "Port must be"),
        ("mongodb://h/?tls=true&tlsCAFile=/nowhere/ca.pem", "No such file or directory: /nowhere/ca.pem"),
        ("mongodb://u@h/?authMechanism=SCRAM-SHA-256", "A password is required"),
    ],
)
def test_a_uri_that_no_server_can_be_asked_under_ends_the_start_and_no_part_of_the_password_is_shown(
    tmp_path: Path, uri: str, why: str
) -> None:
    parts, _ = given(tmp_path, uri)
    with pytest.raises(Unsuitable, match=r"^SPILLWAY_MONGODB_URI cannot be used: ") as caught:
        parts.mongodb()
    (finding,) = _mongodb(load(mongodb_uri=uri), None)
    for said in (str(caught.value), finding.detail):
        assert why in said
        assert "s3c" not in said
        assert "r3t" not in said
    assert "SPILLWAY_MONGODB_URI" in finding.remedy


def test_a_password_that_has_to_be_escaped_is_told_how() -> None:
    with pytest.raises(UnusableUri, match="@ % as %40 for @"):
        trouble("mongodb://u:p@ss@h/", FAR_S)


REFUSED = "h:27017: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OperationFailure("Authentication failed.", 18, {"ok": 0.0, "code": 18}), "Authentication failed"),
        (
            ServerSelectionTimeoutError(
                f"{REFUSED} (configured timeouts: socketTimeoutMS: 5000.0ms), Timeout: 5s, Topology Description: <...>"
            ),
            REFUSED,
        ),
        (ConfigurationError("The DNS query name does not exist: _mongodb._tcp.h."), "The DNS query name"),
    ],
)
def test_any_other_reason_is_said_and_the_log_takes_all_meanwhile(
    tmp_path: Path, mongo: type[FakeMongo], monkeypatch: pytest.MonkeyPatch, error: PyMongoError, why: str
) -> None:
    monkeypatch.setattr(mongo, "error", error)
    parts, console = given(tmp_path, "mongodb://u:s3cret@h/")
    assert parts.mongodb() is None
    said = console.export_text()
    assert f"the MongoDB of SPILLWAY_MONGODB_URI does not answer: {why}" in said
    assert "till it does, the log takes all" in said
    assert "Timeout" not in said
    assert "full error" not in said
    (finding,) = _mongodb(load(mongodb_uri="mongodb://u:s3cret@h/"), None)
    assert why in finding.detail
    assert not finding.well


def test_a_server_far_away_gets_its_time_and_one_of_ours_is_asked_often(mongo: type[FakeMongo], tmp_path: Path) -> None:
    parts, console = given(tmp_path, "mongodb://h/")
    assert parts.mongodb() is None
    assert parts._record.mongodb_uri == parts._record.service_mongodb_uri == "mongodb://h/"
    assert mongo.waited == 5_000
    assert console.export_text() == ""
    (finding,) = _mongodb(load(mongodb_uri="mongodb://h/"), None)
    assert finding.well
    assert mongo.waited == 5_000
    assert mongo_server.is_ready(mongo_server.address(1))
    assert mongo.waited < 1_000


@pytest.mark.parametrize("concern", ["1", "2", "majority"])
def test_a_write_concern_of_one_server_is_told_to_lose_writes_in_a_failover(
    mongo: type[FakeMongo], tmp_path: Path, concern: str
) -> None:
    parts, console = given(tmp_path, "mongodb://h/", write_concern=concern)
    assert parts.mongodb() is None
    findings = _mongodb(load(mongodb_uri="mongodb://h/", write_concern=concern), None)
    wrong = [f"{finding.detail}; {finding.remedy}" for finding in findings if not finding.well]
    why = "SPILLWAY_WRITE_CONCERN=1: a failover may take back what has left the log; unset it, for majority"
    assert wrong == ([why] if concern == "1" else [])
    assert (why in console.export_text()) == (concern == "1")


def test_what_a_run_has_not_brought_yet_is_no_fault_of_the_settings() -> None:
    """`make doctor` beside a first `make up`, which builds FerretDB, said that SPILLWAY_MONGODB_URI was wrong."""
    assert [*_redis(load(), RECORD), *_mongodb(load(), RECORD)] == []


def test_a_server_of_ours_has_no_failover_and_its_write_concern_is_no_fault(mongo: type[FakeMongo]) -> None:
    """`make doctor` beside a run said so of the MongoDB that the run had brought, and ended with 1."""
    record = dataclasses.replace(RECORD, mongodb_uri=mongo_server.address(1))
    assert all(finding.well for finding in _mongodb(load(write_concern="1"), record))


class FakeRedis:
    """A Redis of this version that is configured as it should be; `told`: whether it tells its version."""

    def __init__(self, version: str, told: bool = True) -> None:
        self.version = version
        self.told = told
        self.connection_pool = self
        self.round_trip_s = 1.0

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ping(self) -> None: ...

    def info(self, section: str) -> dict[str, Any]:
        assert section == "server"
        if not self.told:
            raise redis.ResponseError("NOPERM this user has no permissions to run the 'info' command")
        return {"redis_version": self.version}

    def config_get(self, name: str) -> dict[str, str]:
        return {name: SAFE.get(name, "0")}


class FakeAsyncRedis(FakeRedis):
    """The same, asked as the actors ask it."""

    async def info(self, section: str) -> dict[str, Any]:  # type: ignore[override]
        return super().info(section) if section != "persistence" else {}

    async def config_get(self, name: str) -> dict[str, str]:  # type: ignore[override]
        return super().config_get(name)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3c/r3t@redis:6379/0",
        "redis://:s3c#r3t@redis:6379/0",
        "redis://:s3c?r3t@redis:6379/0",
        "redis://:s3c[r3t@redis:6379/0",
        "redis://redis?s3c=r3t",
        "redis://redis?db=s3c",
        "redis://redis?socket_timeout=s3c",
        "redis://s3c:r3t",
        "redis://[::1",
    ],
)
def test_a_redis_url_that_no_server_can_be_asked_under_ends_the_start_and_no_part_of_the_password_is_shown(
    tmp_path: Path, url: str
) -> None:
    settings = load(redis_url=url)
    parts = Parts(settings, StateFolder(tmp_path), dataclasses.replace(RECORD), Steps(Console()))
    with pytest.raises(Unsuitable, match=r"^SPILLWAY_REDIS_URL cannot be used: .* as %40 for @") as caught:
        parts.redis()
    (finding,) = _redis(settings, None)
    assert "as %40 for @" in finding.detail
    assert "SPILLWAY_REDIS_URL" in finding.remedy
    for said in (str(caught.value), finding.detail):
        assert "s3c" not in said
        assert "r3t" not in said


OLD = "redis_version is 6.0.16, must be 6.2 or newer"


async def test_a_redis_without_the_commands_of_the_log_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Redis, "from_url", lambda *_, **__: FakeRedis("6.0.16"))
    parts = Parts(load(redis_url="redis://h/"), StateFolder(tmp_path), dataclasses.replace(RECORD), Steps(Console()))
    with pytest.raises(Unsuitable, match=OLD) as caught:
        parts.redis()
    assert "UNSAFE" not in str(caught.value), "no setting helps"
    (finding,) = _redis(load(redis_url="redis://h/"), None)
    assert (finding.detail, finding.well) == (OLD, False)
    with pytest.raises(UnsafeLog, match=OLD):
        await refuse_unsafe(FakeAsyncRedis("6.0.16"))


@pytest.mark.parametrize(("version", "told"), [("6.2.0", True), ("7.0.15", True), ("10.1", True), ("6.0.16", False)])
async def test_a_redis_that_is_new_enough_or_hides_its_version_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, told: bool
) -> None:
    monkeypatch.setattr(redis.Redis, "from_url", lambda *_, **__: FakeRedis(version, told))
    record = dataclasses.replace(RECORD)
    assert Parts(load(redis_url="redis://h/"), StateFolder(tmp_path), record, Steps(Console())).redis() is None
    assert record.redis_url == "redis://h/", "which the service is told of"
    (finding,) = _redis(load(redis_url="redis://h/"), None)
    assert finding.well
    await refuse_unsafe(FakeAsyncRedis(version, told))
