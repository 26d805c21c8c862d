"""A Redis that will not do is told before Ray is started, with the command that mends it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import redis
from rich.console import Console

from cluster import doctor
from cluster.embedded import ports, redis_server
from cluster.embedded.steps import Steps
from cluster.parts import Parts, Unsuitable
from cluster.settings import MIB, load
from cluster.state import Process, Record, StateFolder
from cluster.up import Run
from tests.conftest import running


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A Redis of the test's own, which it may spoil."""
    folder = tmp_path / "redis"
    folder.mkdir()
    port = ports.free_port(0)
    recipe = redis_server.recipe(redis_server.find(folder), port, folder, folder / "redis.log", 1024 * MIB)
    yield from running(recipe, redis_server.address(port))


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def parts(url: str, folder: StateFolder) -> Parts:
    return a_run_over(url, folder)


def a_run_over(url: str, folder: StateFolder, **settings: Any) -> Parts:
    """The parts of a run whose settings name that Redis."""
    record = Record("run", Process(os.getpid(), 1, "boot"))
    return Parts(load(redis_url=url, **settings), folder, record, Steps(Console(stderr=True)))


def told(url: str, folder: StateFolder) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(load(redis_url=url), folder, None) if finding.what == "Redis"]


def test_a_redis_that_will_do_is_used_as_it_is(url: str, folder: StateFolder, parts: Parts) -> None:
    assert parts.redis() is None
    assert [finding.well for finding in told(url, folder)] == [True]


@pytest.mark.parametrize(("setting", "value"), [("appendfsync", "everysec"), ("maxmemory", str(MIB))])
def test_a_redis_that_will_not_do_is_refused_before_ray_starts_and_the_doctor_names_the_remedy(
    url: str, folder: StateFolder, parts: Parts, setting: str, value: str
) -> None:
    with redis.Redis.from_url(url) as client:
        client.config_set(setting, value)
    with pytest.raises(Unsuitable, match=f"{setting} is"):
        parts.redis()
    (finding,) = (finding for finding in told(url, folder) if not finding.well)
    assert setting in finding.detail
    assert f"CONFIG SET {setting} " in finding.remedy


def test_a_redis_whose_durability_cannot_be_seen_is_not_taken_for_safe(
    url: str, folder: StateFolder, parts: Parts
) -> None:
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    with pytest.raises(Unsuitable, match="CONFIG GET is not allowed"):
        parts.redis()
    (finding,) = told(url, folder)
    assert (finding.well, finding.remedy) == (False, "ask whoever runs it")
    assert a_run_over(url, folder, allow_unsafe_redis=True).redis() is None


def test_a_redis_that_is_not_there_is_told_too(folder: StateFolder) -> None:
    with pytest.raises(Unsuitable, match="SPILLWAY_REDIS_URL does not answer"):
        a_run_over(redis_server.address(1), folder).redis()
    (finding,) = told(redis_server.address(1), folder)
    assert "does not answer" in finding.detail
    assert "SPILLWAY_REDIS_URL" in finding.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "::1"])
def test_a_host_that_is_not_this_machine_is_no_program_that_holds_the_port(folder: StateFolder, host: str) -> None:
    (found,) = [one for one in doctor.examine(load(http_host=host), folder, None) if one.what.startswith("port")]
    assert found.detail.startswith(f"cannot be had at {host}: ")
    assert found.remedy == "correct SPILLWAY_HTTP_HOST, or SPILLWAY_HTTP_PORT"


def test_a_port_that_a_program_holds_is_told_with_the_program_and_another_port(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parts, "redis", lambda _: pytest.fail("a part is brought although nobody could reach it"))
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Unsuitable, match=rf"Port {port} is held by .*\nWhat to do: .*_PORT={port + 1} "):
            Run(load(http_port=port), folder, Console(stderr=True)).start(witness=None)
        with socket.create_connection((ports.LOOPBACK, port)) as client:
            assert ports.holder(client.getsockname()[1]) is None, "the near end of a connection holds nothing"
        hidden = [found._replace(pid=None) for found in psutil.net_connections(kind="tcp")]
        (found,) = [one for one in doctor.examine(load(http_port=port), folder, None) if one.what.startswith("port")]
    assert f"(pid {os.getpid()})" in found.detail
    assert f"SPILLWAY_HTTP_PORT={port + 1}" in found.remedy
    monkeypatch.setattr(psutil, "net_connections", lambda kind: hidden)
    assert ports.holder(port) is None, "it is another user's"


def test_what_this_machine_lacks_is_told_and_only_that(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> list[str]:
        findings = doctor.examine(load(http_port=ports.free_port(0)), folder, None)
        return [found.what for found in findings if not found.well]

    def has(files: int, memory: int, disk: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory // 4096}.__getitem__)
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=disk))

    has(files=2_000, memory=3 << 30, disk=5 << 30)
    assert lacking() == []
    has(files=512, memory=(3 << 30) - 4096, disk=(256 << 20) - 1)
    assert lacking() == ["open files", "memory", *(["/dev/shm"] if Path("/dev/shm").exists() else []), "disk"]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=(5 << 30) - 1))
    assert lacking() == ["open files", "memory", "disk"]
