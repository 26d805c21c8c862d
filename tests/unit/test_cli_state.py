"""The record by which other programs find a run: complete, private, and never believed blindly."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import psutil
import pytest
from typer.testing import CliRunner

from actors.core.errors import LogUnavailable
from cluster import doctor, reaper
from cluster.__main__ import app
from cluster.doctor import Finding, _disk
from cluster.state import PROJECT_ROOT, Process, Record, StateFolder

DEAD = Process(2**22 + 1, 1, "boot")


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    for path in (folder.path, folder.run):
        path.mkdir()
    return folder


def record() -> Record:
    owner = Process.of(os.getpid())
    assert owner is not None
    return Record("abc", owner, http_url="http://127.0.0.1:8000", redis_url="redis://:pw@h/0", parts={"Redis": owner})


def test_a_record_survives_the_disk(folder: StateFolder) -> None:
    folder.save(record())
    assert folder.load() == record()
    folder.forget()
    assert folder.load() is None


def test_a_record_may_hold_passwords_so_only_its_owner_reads_it(folder: StateFolder) -> None:
    folder.save(record())
    assert folder.record_file.stat().st_mode & 0o077 == 0
    assert folder.token().stat().st_mode & 0o077 == 0
    assert folder.token().read_text() == folder.token().read_text()


def test_a_disk_that_was_full_leaves_no_empty_token_and_no_torn_record(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(record())

    def full(descriptor: int, mode: str) -> IO[str]:
        os.close(descriptor)
        return open("/dev/full", mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(OSError, match="No space left"):
            folder.token()
        with pytest.raises(OSError, match="No space left"):
            folder.save(record())
    assert folder.load() == record()
    assert len(folder.token().read_text()) == 64


def test_a_process_that_ends_while_it_is_asked_about_is_none_to_end() -> None:
    class Ended:
        def is_running(self) -> bool:
            return True

        def status(self) -> str:
            raise psutil.NoSuchProcess(1)

    assert reaper.end([Ended()]) == 0  # type: ignore[list-item]


def test_a_folder_for_sockets_that_somebody_prepared_is_not_used(folder: StateFolder, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    folder.sockets.symlink_to(theirs)
    try:
        with pytest.raises(PermissionError, match="have it removed"):
            folder.create()
        assert theirs.stat().st_mode & 0o777 == 0o755
    finally:
        folder.sockets.unlink()
    folder.create()
    try:
        for path in (folder.path, folder.run, folder.sockets):
            path.chmod(0o755)
        folder.create()
        for path in (folder.path, folder.run, folder.sockets):
            assert path.stat().st_mode & 0o777 == 0o700, "also one that was open"
    finally:
        folder.sockets.rmdir()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_shows_no_password_unless_asked_to(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    uris = {"mongodb_uri": "mongodb://u:pw@h/", "service_mongodb_uri": "mongodb://h/?authMechanismProperties=pw"}
    folder.save(dataclasses.replace(record(), http_url="", **uris))
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(folder.path))
    said = CliRunner().invoke(app, ["status", *options])
    assert "redis://:***@h/0" in said.stdout
    assert "mongodb://u:***@h/" in said.stdout
    assert "pw" not in said.stdout
    said = CliRunner().invoke(app, ["status", *options, "--secrets"])
    assert "redis://:pw@h/0" in said.stdout
    assert "mongodb://u:pw@h/" in said.stdout


def test_the_addresses_of_a_killed_run_are_not_told_as_if_it_ran(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(folder.path))
    nothing = CliRunner().invoke(app, ["status"])
    folder.save(dataclasses.replace(record(), owner=DEAD))
    killed = CliRunner().invoke(app, ["status"])
    assert (nothing.exit_code, killed.exit_code, nothing.stdout, killed.stdout) == (1, 1, "", "")
    assert "No Spillway runs here" in nothing.stderr
    assert "make down" in killed.stderr


@pytest.mark.parametrize("command", ["up", "status", "down", "clean"])
def test_a_folder_that_this_user_cannot_use_is_told_in_one_sentence(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Another user's, for example; what root cannot use either is a file in its place."""
    folder.run.rmdir()
    folder.run.write_text("")
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(folder.path))
    said = CliRunner().invoke(app, [command])
    assert isinstance(said.exception, SystemExit), said.exception
    assert said.exit_code == 1
    assert (said.stdout + said.stderr).startswith("Spillway's folder cannot be used: [Errno ")
    assert str(folder.run) in said.output


@pytest.mark.parametrize("error", [ConnectionError("Ray is away"), LogUnavailable("it is still read")])
def test_a_drain_that_nobody_answers_ends_with_a_sentence(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def drain(*_: object) -> int:
        raise error

    monkeypatch.setattr("cluster.draining.drain", drain)
    monkeypatch.setattr("cluster.__main__.client_environment", lambda *_: {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(folder.path))
    folder.save(record())
    said = CliRunner().invoke(app, ["drain"])
    assert isinstance(said.exception, SystemExit), said.exception
    assert (said.exit_code, said.output) == (1, "Ray has no address yet; it is still starting.\n")
    folder.save(dataclasses.replace(record(), ray_address="127.0.0.1:1"))
    said = CliRunner().invoke(app, ["drain"])
    assert isinstance(said.exception, SystemExit), said.exception
    assert (said.exit_code, said.output) == (1, f"How many writes are left is not known: {error}\n")


ILL, WELL = Finding("a", "ill", "mend [it]"), Finding("b", "well")


@pytest.mark.parametrize("found", [[WELL], [ILL, WELL], [WELL, ILL]])
def test_the_doctor_ends_with_1_when_anything_has_to_be_mended_and_believes_in_no_dead_run(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, found: list[Finding]
) -> None:
    examined: list[Record | None] = []

    def examine(_: object, __: object, run: Record | None) -> list[Finding]:
        examined.append(run)
        return found

    monkeypatch.setattr("cluster.doctor.examine", examine)
    monkeypatch.setenv("SPILLWAY_STATE_DIR", str(folder.path))
    folder.save(record())
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == (1 if ILL in found else 0)
    assert ("✗ a" in said.stdout, "→ mend [it]" in said.stdout) == (ILL in found, ILL in found)
    folder.save(dataclasses.replace(record(), owner=DEAD))
    CliRunner().invoke(app, ["doctor"])
    folder.forget()
    CliRunner().invoke(app, ["doctor"])
    assert examined == [record(), None, None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": "a"}', '{"run_id": "a", "owner": {}, "parts": {}}'])
def test_a_damaged_record_is_no_record(folder: StateFolder, text: str) -> None:
    folder.record_file.write_text(text)
    assert folder.load() is None


def test_a_process_id_that_was_given_to_another_is_not_ours() -> None:
    me = Process.of(os.getpid())
    assert me is not None
    assert me.lives()
    assert not dataclasses.replace(me, started_ticks=me.started_ticks - 1).lives()
    assert not dataclasses.replace(me, boot_id="another").lives(), "the machine was started anew"
    assert not dataclasses.replace(me, pid=2**22 + 1).lives()


def test_a_process_lives_on_when_the_time_of_day_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's `create_time` is a time of day, counted from a start of the machine that moves with it."""
    me = Process.of(os.getpid())
    assert me is not None
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 0.0)
    assert me.lives()


@pytest.mark.parametrize("name", ["sh", "a) S (b"])
def test_a_zombie_does_not_live_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/bin/sh")
    with subprocess.Popen([tmp_path / name, "-c", "read _"], stdin=subprocess.PIPE) as child:
        process = Process.of(child.pid)
        assert process is not None
        assert process.lives()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.lives()


def test_only_one_run_at_a_time(folder: StateFolder) -> None:
    first = folder.lock()
    assert first is not None
    assert folder.lock() is None
    first.close()
    second = folder.lock()
    assert second is not None
    second.close()


def test_a_relative_folder_begins_at_the_project() -> None:
    assert StateFolder(".spillway").path == PROJECT_ROOT / ".spillway"


def test_sockets_below_rays_folder_stay_within_haproxys_97_bytes() -> None:
    longest = StateFolder("/a/very/long/path/" * 10).sockets / "h" / ("f" * 56) / "a.sock"
    assert len(str(longest)) <= 97


def test_the_doctor_proposes_a_folder_of_its_own_and_not_a_whole_disk(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    assert "SPILLWAY_STATE_DIR=/larger/disk/spillway make up" in _disk(folder).remedy  # it is made private to the user


@pytest.mark.parametrize(("limit", "well"), [("2147483648\n", False), ("max\n", True), (None, True)])
def test_the_doctor_counts_the_memory_of_a_container_and_not_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, well: bool
) -> None:
    monkeypatch.setattr(doctor, "MEMORY_LIMIT", tmp_path / "memory.max")
    monkeypatch.setattr(doctor, "ENOUGH_MEMORY_BYTES", 2**31 + 1)
    monkeypatch.setattr(os, "sysconf", lambda _: 2**16)
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    (memory,) = (finding for finding in doctor._limits() if finding.what == "memory")
    assert (memory.well, memory.detail) == (well, "4.0 GiB" if well else "2.0 GiB")


def test_a_variable_that_only_looks_like_a_setting_is_told_and_no_value_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_MONGO_URI", "mongodb://u:s3cret@db")
    monkeypatch.setenv("SPILLWAY_BUFFERS", "2")
    monkeypatch.setenv("SPILLWAY_CRD", "read by k8s.check")
    told = CliRunner().invoke(app, ["status"]).stderr
    assert "Nobody reads the variable SPILLWAY_MONGO_URI; each setting's name" in told
    assert told.count("Nobody reads") == 1
    assert "s3cret" not in told
    monkeypatch.setenv("SPILLWAY_BUFFERS", "s3cret")
    wrong = CliRunner().invoke(app, ["status"])
    assert (wrong.exit_code, "  buffers: " in wrong.stderr, "s3cret" in wrong.stderr) == (2, True, False)
