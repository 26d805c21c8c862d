"""What the embedded servers are started with, and how tools are named in the cache. Nothing is started."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from cluster.doctor import _tools
from cluster.embedded import mongo_server, redis_server, toolchain
from cluster.embedded.redis_server import RedisServer
from cluster.embedded.steps import Steps
from cluster.footprint import shortage
from cluster.parts import Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder
from k8s.check import programs

OLD, NEW = "appendonly.aof", "appendonlydir/appendonly.aof.1.incr.aof"
BASE, MANIFEST = "appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.manifest"
REDIS_6, REDIS_7, REDIS_8, VALKEY_8 = (
    RedisServer(Path(f"/{maker}-{version}"), "on PATH", maker, version)
    for maker, version in (("Redis", (6, 2)), ("Redis", (7, 0)), ("Redis", (8, 2)), ("Valkey", (8, 1)))
)
VALKEY_9 = RedisServer(Path("/brought"), "brought", "Valkey", (9, 1))
ANY = REDIS_7


def options(command: list[str]) -> dict[str, str]:
    words = command[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_redis_is_durable_never_evicts_and_stays_on_loopback(tmp_path: Path) -> None:
    recipe = redis_server.recipe(ANY, 6390, tmp_path, tmp_path / "log", 1 << 30)
    given = options(list(recipe.command))
    assert given["--appendonly"] == "yes"
    assert given["--appendfsync"] == "always"
    assert given["--no-appendfsync-on-rewrite"] == "no"
    assert given["--maxmemory-policy"] == "noeviction"
    assert given["--maxmemory"] == str(1 << 30)
    assert given["--bind"] == "127.0.0.1"
    assert given["--save"] == ""
    assert int(given["--auto-aof-rewrite-percentage"]) > 0


@pytest.mark.parametrize("more", [{}, {"max_queue_bytes": 2 << 30}, {"cache_max_entries": 200_000}])
def test_a_redis_of_ours_has_room_for_all_that_the_settings_may_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: dict[str, int]
) -> None:
    monkeypatch.setattr(redis_server, "find", lambda _: ANY)
    settings = load(**more)
    parts = Parts(settings, StateFolder(tmp_path), Record("run", Process(1, 1, "boot")), Steps(Console()))
    monkeypatch.setattr(parts, "_port", lambda *_: 6390)
    recipe = parts.redis()
    assert recipe is not None
    room = int(options(list(recipe.command))["--maxmemory"])
    assert room >= max(1 << 30, 4 * settings.max_queue_bytes)
    assert shortage(settings, room) == ""


def test_where_no_redis_can_be_brought_the_command_that_installs_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where the brought one does not run."""
    monkeypatch.setattr(redis_server.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(redis_server.NoRedisServer, match="apt-get install redis-server"):
        redis_server.find(tmp_path)


@pytest.mark.parametrize(
    ("files", "here", "taken"),
    [
        ({}, [REDIS_6, VALKEY_9], REDIS_6),
        ({OLD: b"*2"}, [REDIS_6, VALKEY_9], REDIS_6),
        ({OLD: b"*2"}, [VALKEY_9], VALKEY_9),
        ({NEW: b"*2"}, [REDIS_7], REDIS_7),
        ({NEW: b""}, [REDIS_6, VALKEY_9], VALKEY_9),
        ({NEW: b"*2", MANIFEST: b"file"}, [REDIS_6, VALKEY_9], VALKEY_9),
        ({NEW: b"*2", OLD: b""}, [REDIS_7], REDIS_7),  # an older one was started, and nothing came of it
        ({MANIFEST: b"file", OLD: b"*2"}, [REDIS_7], REDIS_7),  # killed while it took the old file over
        ({BASE: b"REDIS0011"}, [VALKEY_8, REDIS_8], VALKEY_8),
        ({BASE: b"REDIS0012", NEW: b"*2"}, [VALKEY_9, REDIS_8], REDIS_8),
        ({BASE: b"VALKEY080", NEW: b"*2"}, [REDIS_8, VALKEY_9], VALKEY_9),
        ({BASE: b"VALKEY080"}, [VALKEY_8, VALKEY_9], VALKEY_9),
        ({BASE: b"VALKEY080"}, [VALKEY_8, REDIS_8], "than any here: Valkey 8.1 on PATH, Redis 8.2 on PATH"),
        ({BASE: b"REDIS0012"}, [VALKEY_9], "than any here: Valkey 9.1 brought"),
        ({NEW: b"*2"}, [REDIS_6], "than any here: Redis 6.2 on PATH"),
        ({NEW: b"*2", OLD: b"*2"}, [REDIS_7, VALKEY_9], "Redis reads one: appendonlydir"),
        ({NEW: b"*2", OLD: b"*2"}, [REDIS_6], "Redis reads one: appendonlydir"),
    ],
)
def test_the_redis_that_reads_the_log_is_started_and_where_none_does_the_doctor_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, bytes],
    here: list[RedisServer],
    taken: RedisServer | str,
) -> None:
    """Another would begin with an empty one, and what was accepted be out of sight."""
    folder = StateFolder(tmp_path)
    data = folder.data_of("redis")
    for name, content in files.items():
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(content)
    monkeypatch.setattr(redis_server, "_servers", lambda: iter(here))
    parts = Parts(load(), folder, Record("run", Process(1, 1, "boot")), Steps(Console()))
    monkeypatch.setattr(parts, "_port", lambda *_: 6390)
    finding = next(finding for finding in _tools(load(), folder) if finding.what == "Redis server")
    if isinstance(taken, RedisServer):
        recipe = parts.redis()
        assert recipe is not None
        assert recipe.command[0] == str(taken.binary)
        assert finding.well
        assert str(taken) in finding.detail
        return
    with pytest.raises(redis_server.NoRedisServer, match=taken):
        parts.redis()
    assert taken in finding.detail
    assert "touched" in finding.remedy
    named = load(redis_url="redis://far/")
    assert "Redis server" not in [finding.what for finding in _tools(named, folder)], "nobody starts one then"


def test_a_log_that_may_not_be_read_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a `sudo make up`. Root may read everything but a folder."""
    folder = StateFolder(tmp_path)
    (folder.data_of("redis") / BASE).mkdir(parents=True)
    monkeypatch.setattr(redis_server, "_servers", lambda: iter([VALKEY_9]))
    finding = next(finding for finding in _tools(load(), folder) if finding.what == "Redis server")
    assert "cannot be read" in finding.detail
    assert f"chown -R {os.getuid()} {tmp_path}" in finding.remedy


MONGOD, SQLITE = "mongod/WiredTiger", "ferretdb/spillway.sqlite"


@pytest.mark.parametrize(
    ("files", "on_path", "taken", "told"),
    [
        ([], True, "mongod", "/bin/mongod"),
        ([], False, "ferretdb", "FerretDB is built instead"),
        ([MONGOD], True, "mongod", "/bin/mongod"),
        ([SQLITE], False, "ferretdb", "FerretDB is built instead"),
        ([SQLITE], True, "ferretdb", "which it wrote; /bin/mongod would begin with an empty database"),
        ([SQLITE, "mongod/"], True, "ferretdb", "which it wrote; /bin/mongod would begin with an empty database"),
        ([MONGOD], False, "", "was written by a mongod, and none is on PATH"),
        ([MONGOD, SQLITE], True, "", "Two databases are in"),
        ([MONGOD, SQLITE], False, "", "Two databases are in"),
    ],
)
def test_the_database_that_is_there_goes_on_whatever_is_on_path_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], on_path: bool, taken: str, told: str
) -> None:
    """Another would begin with an empty one: documents would be 404, and a PATCH of one make a fragment."""
    folder = StateFolder(tmp_path)
    for name in files:
        path = folder.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    monkeypatch.setattr(redis_server, "_servers", lambda: iter([VALKEY_9]))
    monkeypatch.setattr(mongo_server.shutil, "which", lambda _: "/bin/mongod" if on_path else None)
    monkeypatch.setattr(toolchain, "ferretdb", lambda _: Path("/cache/ferretdb"))
    console = Console(record=True, width=300)
    parts = Parts(load(), folder, Record("run", Process(1, 1, "boot")), Steps(console))
    monkeypatch.setattr(parts, "_port", lambda *_: 27117)
    (finding,) = (finding for finding in _tools(load(), folder) if finding.what == "MongoDB server")
    assert told in finding.detail
    assert finding.well == bool(taken)
    if not taken:
        with pytest.raises(mongo_server.NoMongoServer, match=told) as refusal:
            parts.mongodb()
        assert f"{finding.detail}\n{finding.remedy}" == str(refusal.value)
        assert "not touched" in finding.remedy or "Neither is touched" in finding.remedy
        named = load(mongodb_uri="mongodb://far/")
        assert "MongoDB server" not in [finding.what for finding in _tools(named, folder)], "nobody starts one then"
        return
    recipe = parts.mongodb()
    assert recipe is not None
    (program,) = {"/bin/mongod", "/cache/ferretdb"} & set(recipe.command)
    assert Path(program).name == taken
    assert str(folder.data / taken) in recipe.command
    said = console.export_text()
    assert said.count("\n") == ("which it wrote" in told), "one line, where one would look for the other"
    assert told in said or not said


def test_redis_may_take_as_long_as_the_size_of_its_log_asks_for(tmp_path: Path) -> None:
    def patience_s(memory: int) -> float:
        return redis_server.recipe(ANY, 6390, tmp_path, tmp_path / "log", memory).ready_timeout_s

    assert patience_s(1 << 30) == pytest.approx(120 + 102.4)
    with (tmp_path / "appendonly.aof").open("wb") as log:
        log.truncate(10 << 30)  # takes no room
    assert patience_s(1 << 30) == pytest.approx(120 + 1024)
    assert patience_s(20 << 30) == pytest.approx(120 + 2048), "the log of a later start may be as large as that"


def test_both_databases_stay_on_loopback(tmp_path: Path) -> None:
    recipes = [
        mongo_server.mongod_recipe(Path("mongod"), 1, tmp_path, tmp_path / "log"),
        mongo_server.ferretdb_recipe(Path("ferretdb"), 2, tmp_path, tmp_path / "log"),
    ]
    mongod, ferretdb = (recipe.command for recipe in recipes)
    assert mongod[mongod.index("--bind_ip") + 1] == "127.0.0.1"
    assert ferretdb[ferretdb.index("-listen") + 1] == "127.0.0.1:2"
    assert [(recipe.host, recipe.port) for recipe in recipes] == [("127.0.0.1", 1), ("127.0.0.1", 2)]


def test_a_locale_that_this_machine_has_not_is_no_matter(tmp_path: Path) -> None:
    """As ssh hands it on. Redis 7.2 to 8 say "Failed to configure LOCALE", and end."""
    redis = redis_server.recipe(ANY, 6390, tmp_path, tmp_path / "log", 1 << 30)
    mongod = mongo_server.mongod_recipe(Path("mongod"), 1, tmp_path, tmp_path / "log")
    assert redis.environment["LC_ALL"] == mongod.environment["LC_ALL"] == "C"


def test_the_cache_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert toolchain.cache_folder() == tmp_path / "spillway"


def test_a_digest_depends_on_every_part_and_on_where_it_ends() -> None:
    assert toolchain.digest([b"ab", b"c"]) != toolchain.digest([b"a", b"bc"])
    assert toolchain.digest([b"ab", b"c"]) == toolchain.digest([b"ab", b"c"])


@pytest.mark.parametrize(("version", "taken"), [((1, 24), False), ((1, 25), True)])
def test_a_go_that_is_too_old_for_k6_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: tuple[int, int], taken: bool
) -> None:
    """With GOTOOLCHAIN=local it could not even fetch a newer one, and k6 1.8.1 asks for Go 1.25."""
    found = tmp_path / "go"
    found.touch()
    monkeypatch.setattr(toolchain.shutil, "which", lambda _: str(found))
    monkeypatch.setattr(toolchain.sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setattr(toolchain, "go_version", lambda _: version)
    monkeypatch.setattr(toolchain, "run", lambda *_, **__: None)
    if taken:
        assert toolchain.go(Steps(Console())) == found
    else:
        with pytest.raises(toolchain.BuildFailed, match=r"Install Go 1\.25 or newer"):
            toolchain.go(Steps(Console(quiet=True)))


def test_a_go_whose_installation_was_stopped_is_not_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its program runs, and lacks half of its library."""
    go = tmp_path / "go"
    monkeypatch.setattr(toolchain.shutil, "which", lambda _: None)
    monkeypatch.setattr(toolchain.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(toolchain, "go_version", lambda _: (9, 9))

    def stopped(*_: object, **__: object) -> None:
        go.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toolchain, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            toolchain.go(Steps(Console(quiet=True)))
        assert not go.exists()
        go.touch()
        patch.setattr(toolchain, "go_version", lambda _: (1, 19))
        with pytest.raises(KeyboardInterrupt):
            toolchain.go(Steps(Console(quiet=True)))
        assert go.exists(), "an old one of the user's own is left to him"
        go.unlink()
    monkeypatch.setattr(toolchain, "run", lambda command, *_, **__: "--ignore-installed" in command and go.touch())
    assert toolchain.go(Steps(Console(quiet=True))) == go


@pytest.mark.parametrize("sources", [toolchain.FERRETDB_SOURCE, programs.SOURCE])
def test_no_go_mod_of_ours_asks_for_a_newer_go(sources: Path) -> None:
    asked = re.search(r"^go (\d+)\.(\d+)", (sources / "go.mod").read_text(), re.MULTILINE)
    assert asked is not None
    assert (int(asked[1]), int(asked[2])) <= toolchain.OLDEST_GO


def test_ferretdb_is_pinned_with_its_checksums() -> None:
    module = (toolchain.FERRETDB_SOURCE / "go.mod").read_text()
    checksums = (toolchain.FERRETDB_SOURCE / "go.sum").read_text()
    assert "github.com/FerretDB/FerretDB v1.24.0" in module
    assert "github.com/FerretDB/FerretDB v1.24.0 h1:" in checksums
