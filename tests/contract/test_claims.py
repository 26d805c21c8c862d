"""Two services that start side by side: neither takes the other's port, nor its Redis for its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from cluster.embedded import ports, redis_server
from cluster.embedded.child import Child, ChildFailed, Recipe, State
from cluster.embedded.claims import Claims, claimant, obstacle
from cluster.embedded.steps import Steps
from cluster.parts import Parts, Unsuitable
from cluster.settings import load
from cluster.state import PROJECT_ROOT, Process, Record, StateFolder
from tests.contract.patience import until

A_RUN = """import sys
from cluster.embedded.claims import Claims
claims = Claims()
print(claims.take({}), flush=True)
sys.stdin.read()"""
A_SHARER = """import socket, sys
sharer = socket.create_server(('127.0.0.1', {}), reuse_port=True)
print(flush=True)
sys.stdin.read()"""


@pytest.fixture
def claims() -> Iterator[Claims]:
    claims = Claims()
    yield claims
    claims.release()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Parts]]:
    """The parts of one service more, which has just been started."""
    folders: list[StateFolder] = []
    all_parts: list[Parts] = []

    def start(**settings: object) -> Parts:
        folders.append(StateFolder(tmp_path / str(len(folders))))
        folders[-1].create()
        record = Record("run", Process(os.getpid(), 1, "boot"))
        all_parts.append(Parts(load(**settings), folders[-1], record, Steps(Console())))
        return all_parts[-1]

    yield start
    for parts, folder in zip(all_parts, folders, strict=True):
        parts.release()
        shutil.rmtree(folder.sockets)


def recipe(parts: Parts) -> Recipe:
    found = parts.redis()
    assert found is not None
    return found


def test_a_claim_lasts_as_long_as_its_process_and_names_its_folder(claims: Claims) -> None:
    port = ports.free_port(0)
    command = [sys.executable, "-c", A_RUN.format(port)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        assert not claims.take(port)
        assert claimant(port) == f"the Spillway of {PROJECT_ROOT} (pid {other.pid})"
        other.kill()
    assert claimant(port) is None
    assert claims.take(port), "nobody has to clean up after a killed one"


def test_what_holds_a_port_is_named_as_the_service_it_belongs_to(claims: Claims) -> None:
    """Of a public port the kernel knows HAProxy, which says nothing to whoever forgot another checkout's `make up`."""
    port = ports.free_port(0)
    told = rf"Spillway of {PROJECT_ROOT} \(pid {os.getpid()}\)"
    remedy = f"stop that one (make down there), or {ports.other_public_port(port)}"
    assert claims.take(port)
    why, what_to_do = obstacle(port, ports.LOOPBACK)
    assert re.fullmatch(rf"is promised to the {told} that starts or stops just now", why)
    assert what_to_do == remedy
    with socket.create_server((ports.LOOPBACK, port)):
        why, what_to_do = obstacle(port, ports.LOOPBACK)
        assert re.fullmatch(rf"is held by the {told}", why)
        assert what_to_do == remedy
    claims.release()
    assert obstacle(port, ports.LOOPBACK) == ("", "")
    assert obstacle(port, "192.0.2.1")[0].startswith("cannot be had at 192.0.2.1: ")


def test_services_that_choose_before_either_listens_choose_different_ports(
    service: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preferred = ports.free_port(0)
    monkeypatch.setattr(redis_server, "PREFERRED_PORT", preferred)
    first, second = recipe(service()), recipe(service())
    assert first.port == preferred != second.port
    assert f"port {preferred} is held by the Spillway of {os.getcwd()}" in capsys.readouterr().out.replace("\n", "")


def test_the_front_door_and_the_direct_port_are_not_shared_with_a_service_that_is_just_starting(
    service: Callable[..., Parts],
) -> None:
    public, direct = ports.free_port(0), ports.free_port(0)
    first, second, third = (
        service(http_port=port, direct_port=direct) for port in (public, public, ports.free_port(0))
    )
    first.claim_public_port()
    told = rf"Port {public} is promised to the Spillway of {os.getcwd()} .*\nWhat to do: stop .*_PORT={public + 1} make"
    with pytest.raises(Unsuitable, match=told):
        second.claim_public_port()
    witness = first.witness(27117)
    assert witness.command[3] == f"127.0.0.1:{witness.port}"
    chosen = [parts.head().environment["SPILLWAY_DIRECT_PORT"] for parts in (first, third)]
    assert chosen[0] == str(direct) != chosen[1]


def test_a_redis_that_another_program_runs_on_the_port_is_not_taken_for_ours(
    service: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no Spillway, or one of another user's, and listens just when ours is about to."""
    ours = recipe(service())
    theirs = recipe(service())
    command = [str(ours.port) if word == str(theirs.port) else word for word in theirs.command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as other:
        try:
            until(lambda: redis_server.is_ready(redis_server.address(ours.port)))
            child = Child(ours)
            child.start()
            with pytest.raises(ChildFailed, match=rf"port {ours.port}, which is held by .* \(pid {other.pid}\)"):
                child.await_ready()
            assert child.state is State.STOPPED
        finally:
            other.send_signal(signal.SIGTERM)
            other.wait()
    child.start()
    child.await_ready()
    child.stop()


def test_whoever_shares_a_port_is_found_and_whoever_has_it_at_another_address_is_not() -> None:
    port, session = ports.free_port(0), os.getsid(0)
    elsewhere = socket.create_server(("127.0.0.2", port))
    with elsewhere:
        assert ports.intruder(port, ports.LOOPBACK, 1) is None
        assert ports.intruder(port, "0.0.0.0", 1) == ports.holder(port)
    with socket.create_server((ports.LOOPBACK, port), reuse_port=True):
        assert ports.intruder(port, ports.LOOPBACK, session) is None
        command = [sys.executable, "-c", A_SHARER.format(port)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, start_new_session=True, **pipes) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert str(ports.intruder(port, ports.LOOPBACK, session)).endswith(f"(pid {other.pid})")
            other.kill()


def test_whose_claim_it_is_stays_unsaid_where_the_list_of_sockets_cannot_be_read(
    claims: Claims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = ports.free_port(0)
    assert claims.take(port)
    assert claimant(port) is not None
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert claimant(port) is None
