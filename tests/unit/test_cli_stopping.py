"""`down`, `clean`, and how `up` ends. Processes, signals and time are doubles."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from rich.live import Live
from typer.testing import CliRunner

from cluster import down as stopping
from cluster import serve_config, telegraph
from cluster import up as running
from cluster.__main__ import app
from cluster.down import clean, down
from cluster.embedded.child import Recipe
from cluster.embedded.steps import Steps
from cluster.parts import Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder
from cluster.terminal import Unheard, silence
from cluster.up import CannotStart, Run, StopRequested

PID = 4_321


class Time:
    """The module `time`, in which a sleep takes no time. `at`: what happens at which second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: list[tuple[float, Any]] = []

    def monotonic(self) -> float:
        return self.now

    def strftime(self, _: str) -> str:
        return "12:00:00"

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.at and self.at[0][0] <= self.now:
            self.at.pop(0)[1]()


class Owner:
    """The process of a run, which ends when its test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive = True
        self.asked = 0
        monkeypatch.setattr(Process, "lives", lambda _: self.alive)
        monkeypatch.setattr(psutil, "Process", lambda _: self)

    def terminate(self) -> None:
        self.asked += 1

    def resume(self) -> None:
        """It was not stopped."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    yield folder
    shutil.rmtree(folder.sockets, ignore_errors=True)


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=300)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(stopping, "time", time)
    monkeypatch.setattr(running, "time", time)
    return time


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Owner:
    monkeypatch.setattr("cluster.reaper.find", lambda _: [])
    return Owner(monkeypatch)


def record(state: str = "running", stop_s: float = 200.0) -> Record:
    return Record("run", Process(PID, 1, "boot"), state, stop_s=stop_s)


# down


def test_down_tells_what_the_run_has_left_in_the_log(
    folder: StateFolder, console: Console, time: Time, owner: Owner
) -> None:
    folder.save(record())
    lock = folder.lock()
    assert lock is not None

    def end() -> None:
        folder.note_left(1_234)
        folder.forget()
        lock.close()
        owner.alive = False

    time.at = [(190.0, end)]  # long after the 150 s which it once got
    assert down(folder, console) == 0
    assert owner.asked == 1
    assert time.now == pytest.approx(190.0, abs=1.0), "whose end it awaits, and no longer"
    stored = "1,234 accepted writes are still in the log; the next `make up` stores them."
    assert f"Stopped. {stored}" in console.export_text()
    assert down(folder, console) == 0
    assert f"Nothing to clean up. {stored}" in console.export_text()


def test_down_of_a_run_that_ends_in_that_moment_is_no_error(
    folder: StateFolder, console: Console, time: Time, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(record())

    def ended() -> None:
        owner.alive = False
        raise psutil.NoSuchProcess(PID)

    monkeypatch.setattr(owner, "terminate", ended)
    assert down(folder, console) == 0


def test_down_of_a_run_that_ctrl_z_has_stopped_has_it_go_on_and_end(
    folder: StateFolder, console: Console, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.reaper.find", lambda _: [])
    run = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    run.send_signal(signal.SIGSTOP)
    owner, ended = Process.of(run.pid), os.pidfd_open(run.pid)
    assert owner is not None
    folder.save(Record("run", owner, "running"))
    time.at = [(0.2, lambda: select.select([ended], [], [], 20))]
    code = down(folder, console)
    os.close(ended)
    run.kill()
    run.communicate()
    assert (code, run.returncode) == (0, -signal.SIGTERM)


def test_down_of_a_drained_run_has_nothing_to_add(
    folder: StateFolder, console: Console, time: Time, owner: Owner
) -> None:
    folder.save(record())
    folder.note_left(0)
    time.at = [(1.0, lambda: setattr(owner, "alive", False))]
    assert down(folder, console) == 0
    assert console.export_text().splitlines()[-1] == "Stopped."


def test_after_a_killed_run_nobody_knows_what_is_left(
    folder: StateFolder, console: Console, time: Time, owner: Owner
) -> None:
    assert down(folder, console) == 0
    assert console.export_text().strip() == "Nothing to clean up.", "nothing has run here yet"
    folder.save(record())
    folder.note_left(None)
    owner.alive = False
    unknown = "How many accepted writes are in the log is not known; the next `make up` stores them."
    for said in (f"Clean now. {unknown}", f"Nothing to clean up. {unknown}"):
        assert down(folder, console) == 0
        assert console.export_text().splitlines()[-1] == said


def test_a_run_that_drains_for_long_is_left_alone_and_may_be_waited_for_again(
    folder: StateFolder, console: Console, time: Time, owner: Owner
) -> None:
    folder.save(record(stop_s=3_700.0))
    time.at = [(1.0, lambda: folder.save(record("draining", 3_700.0)))]
    assert down(folder, console) == 1
    assert time.now == pytest.approx(3_700.0, abs=1.0)
    said = console.export_text()
    assert "make status" in said
    assert f"kill {PID};" in said
    assert "kill -9" not in said
    assert down(folder, console) == 1
    assert owner.asked == 1, "a second request would skip the drain"


def test_a_record_of_another_version_is_no_sign_that_nothing_runs(folder: StateFolder, console: Console) -> None:
    folder.record_file.write_text(json.dumps({"run_id": "a", "owner": {"pid": PID, "started": 1.0}}))
    lock = folder.lock()
    assert lock is not None
    with lock:
        assert down(folder, console) == 1
        assert "A Spillway runs here, and its record cannot be read" in console.export_text()
        done = CliRunner().invoke(app, ["status"], env={"SPILLWAY_STATE_DIR": str(folder.path)})
        assert done.exit_code == 1
        assert "cannot be read" in done.output
    assert down(folder, console) == 0
    assert "Nothing to clean up." in console.export_text()


def test_a_run_that_has_begun_meanwhile_is_left_alone(folder: StateFolder, console: Console, owner: Owner) -> None:
    """Its parts, and its record once it has one, are not those of the killed run that was to be cleaned up."""
    folder.save(record())
    owner.alive = False
    lock = folder.lock()
    assert lock is not None
    with lock:
        assert down(folder, console) == 1
    assert "Another run has begun meanwhile" in console.export_text()
    assert folder.load() == record()


@pytest.mark.parametrize("command", ["up", "down", "clean"])
def test_a_command_that_could_not_do_it_says_so_by_its_code(folder: StateFolder, command: str) -> None:
    lock = folder.lock()
    assert lock is not None
    with lock:
        done = CliRunner().invoke(app, [command], env={"SPILLWAY_STATE_DIR": str(folder.path)})
    assert (done.exit_code, "runs here" in done.output or "running already" in done.output) == (1, True)
    assert folder.logs.exists()


# clean


def test_clean_keeps_the_data(folder: StateFolder, console: Console) -> None:
    (folder.data_of("redis") / "appendonly.aof").touch()
    folder.note_left(7)
    folder.token()
    (folder.logs / "redis.log").touch()
    (folder.ray_temp_dir / "session_latest" / "logs").mkdir(parents=True)
    assert clean(folder, console, data=False) == 0
    assert not folder.sockets.exists(), "Ray's logs would stay in /tmp, where nobody looks for what is ours"
    assert [path.name for path in folder.path.iterdir()] == ["data"]
    assert (folder.data / "redis" / "appendonly.aof").exists()
    assert folder.left() == 7


@pytest.mark.parametrize(("typed", "is_deleted"), [("delete", True), ("y", False), ("", False), (None, False)])
def test_data_is_deleted_only_after_the_typed_word(
    folder: StateFolder, console: Console, typed: str | None, is_deleted: bool
) -> None:
    folder.note_left(1_234)

    def ask(_: str) -> str:
        assert folder.is_locked(), "a run that begins meanwhile would lose its data"
        if typed is None:
            raise EOFError
        return typed

    assert clean(folder, console, data=True, ask=ask) == (0 if is_deleted else 1)
    assert folder.data.exists() != is_deleted
    said = console.export_text()
    assert str(folder.data) in said
    assert "1,234 accepted writes are still in the log" in said


def test_nothing_is_removed_from_under_a_run_and_what_cannot_be_removed_is_told(
    folder: StateFolder, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = folder.lock()
    assert lock is not None
    with lock:
        assert clean(folder, console, data=True, ask=lambda _: "delete") == 1
    assert folder.data.exists()
    assert folder.run.exists()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", full)
        assert clean(folder, console, data=True, ask=lambda _: "delete") == 1
    assert "It cannot be removed: [Errno 28]" in console.export_text()


def test_clean_where_nothing_ever_ran_is_no_error(tmp_path: Path, console: Console) -> None:
    assert clean(StateFolder(tmp_path / "none"), console, data=True) == 0
    assert not (tmp_path / "none").exists()


# up


def test_a_drain_gets_its_time_from_when_it_can_begin_and_then_the_writer_may_let_go(
    folder: StateFolder, console: Console, time: Time, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drain:
        killed_s = 0.0

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def poll(self) -> None: ...

        def kill(self) -> None:
            Drain.killed_s = time.now

        def wait(self) -> None: ...

    monkeypatch.setattr(subprocess, "Popen", Drain)
    run = Run(load(drain_timeout_s=60, mongodb_timeout_s=20), folder, console)
    run._drain()
    assert 100 < Drain.killed_s < 130
    assert run.record.stop_s > Drain.killed_s + 60
    again_s = time.now + 1.0
    time.at = [(again_s, lambda: handlers[signal.SIGINT](signal.SIGINT, None))]
    run.listen_for_signals()
    run._drain()
    assert Drain.killed_s == pytest.approx(again_s, abs=0.5), "Ctrl-C again skips it"
    said = console.export_text()
    assert "the drain was not finished in time" in said
    assert "the drain was skipped" in said


def test_the_drain_of_a_run_asks_no_file_that_was_changed_since(
    folder: StateFolder, console: Console, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody mends the files of a next start between Ctrl-C and the drain."""
    begun: list[tuple[list[str], dict[str, str]]] = []

    class Drain(Drained):
        def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
            begun.append((command, env))

    monkeypatch.setattr(subprocess, "Popen", Drain)
    monkeypatch.setattr("cluster.draining.drain", lambda _, timeout_s: int(timeout_s))
    Run(load(drain_timeout_s=7), folder, console)._drain()
    ((command, environment),) = begun
    monkeypatch.setattr(serve_config, "SERVE_CONFIG", Path("/nowhere"))
    done = CliRunner().invoke(app, command[3:], env={**environment, "SPILLWAY_CONFIG": "/nowhere"})
    assert (done.exit_code, done.stdout) == (0, "left 7\n")


def test_a_drain_that_tells_nothing_has_left_the_last_backlog_that_was_known(
    folder: StateFolder, console: Console, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([{"backlog": {"writes": 1_234}}, {"backlog": {"writes": None}}, {"ready": False}, None])
    monkeypatch.setattr(subprocess, "Popen", Drained)
    monkeypatch.setattr(telegraph, "status", lambda *_: next(told))
    run = Run(load(), folder, console)
    for _ in range(3):
        run._sample()
    assert run._drain() == 1_234


def test_a_stop_notes_what_is_left(folder: StateFolder, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.reaper.find", lambda _: [])
    monkeypatch.setattr(Run, "_drain", lambda _: 1_234)
    run = Run(load(), folder, console)
    folder.note_left(5)
    assert run.stop() == 0
    assert folder.left() == 5, "it never ran"
    head = Head()
    run._children.append(head)  # type: ignore[arg-type]
    assert run.stop() == 1_234
    assert folder.left() == 1_234
    head.state = running.State.WAITING
    assert run.stop() is None
    assert folder.left() is None, "Ray was away, and nobody could drain"


def test_a_full_disk_keeps_nobody_from_draining_and_ending_all_parts(
    folder: StateFolder, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.reaper.find", lambda _: [])
    monkeypatch.setattr("cluster.up.drained_to", lambda _: 7)
    for note in ("save", "note_left", "forget"):
        monkeypatch.setattr(StateFolder, note, full)
    run, head = Run(load(), folder, console), Head()
    run._children.append(head)  # type: ignore[arg-type]
    monkeypatch.setattr(subprocess, "Popen", Drained)
    assert run.stop() == 7
    assert head.state is running.State.STOPPED
    monkeypatch.setattr(subprocess, "Popen", full)
    head.state = running.State.RUNNING
    run._backlog = 9
    assert run.stop() == 9, "the last number that was told"
    assert head.state is running.State.STOPPED
    said = console.export_text()
    assert "may say what is no longer true: [Errno 28] No space left on device" in said
    assert "the drain could not begin: [Errno 28]" in said


def test_a_full_disk_at_the_start_is_told_and_not_a_traceback(
    folder: StateFolder, console: Console, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "start", full)
    assert running.up(load(), folder, console, witness=None) == 1
    assert "No space left on device\nWhat is lacking: make doctor" in console.export_text()
    for first in ("lock", "create"):  # a lock is refused by some file systems of a network, too
        monkeypatch.setattr(StateFolder, first, full)
        assert running.up(load(), folder, console, witness=None) == 1
        assert "Spillway's folder cannot be used: [Errno 28]" in console.export_text()


def test_a_run_that_is_killed_while_it_accepts_has_noted_that_nobody_knows(
    folder: StateFolder, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[int | None] = []
    monkeypatch.setattr(running, "Parts", lambda *_: NothingToBring())
    monkeypatch.setattr(Run, "_bring", lambda *_: brought.append(folder.left()))
    folder.note_left(5)
    Run(load(), folder, console).start(witness=None)
    assert brought == [None]


OURS, FAR, NEAR = {}, {"redis_url": "rediss://u:s3cret@far:7000/2?x=s3cret"}, {"redis_url": "redis://near"}
AT = "under the key_prefix spillway"
NOBODY_KNOWS = f"nobody knows how many accepted writes the last run left in its log, in the Redis at far:7000/2 {AT}. "


@pytest.mark.parametrize(
    ("then", "now", "left", "said"),
    [
        (FAR, NEAR, 1_234, f"the last run left 1,234 accepted writes in its log, in the Redis at far:7000/2 {AT}. "),
        (FAR, NEAR, 1_234, f"This run's is in the Redis at near:6379/0 {AT}, and it does not store them. "),
        (FAR, OURS, 1_234, f"This run's is in the Redis of `make up` {AT}, "),
        (OURS, FAR, 1_234, f"its log, in the Redis of `make up` {AT}. This run's is in the Redis at far:7000/2 {AT}, "),
        (OURS, {"key_prefix": "b"}, 1_234, "This run's is in the Redis of `make up` under the key_prefix b, "),
        (FAR, NEAR, None, NOBODY_KNOWS),
        (FAR, NEAR, 0, ""),
        (OURS, OURS, 1_234, ""),
        (FAR, {"redis_url": "rediss://u:another-s3cret@far:7000/2"}, 1_234, ""),
        (NEAR, {"redis_url": "redis://near:6379/0"}, 1_234, ""),
        (None, OURS, 1_234, ""),  # noted by a version that did not say where
    ],
)
def test_what_the_last_run_has_left_in_another_log_is_told_at_the_start(
    folder: StateFolder,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    then: dict[str, str] | None,
    now: dict[str, str],
    left: int | None,
    said: str,
) -> None:
    """Its number is written over here, and `make down` had said that the next `make up` stores them."""
    monkeypatch.setattr("cluster.reaper.find", lambda _: [])
    monkeypatch.setattr(Run, "_drain", lambda _: left)
    monkeypatch.setattr(Run, "_bring", lambda *_: None)
    for step in ("claim_public_port", "redis", "mongodb", "head", "ask_direct_port"):
        monkeypatch.setattr(Parts, step, lambda _: None)

    def run(settings: dict[str, str]) -> None:
        a_run = Run(load(**settings), folder, console)
        a_run.start(witness=None)
        a_run._children.append(Head())  # type: ignore[arg-type]
        assert a_run.stop() == left

    if then is None:
        folder.note_left(left)
    else:
        run(then)
    assert "last run" not in console.export_text(), "there was none"
    assert folder.left() == left
    run(now)
    told = console.export_text()
    assert (said in told, told.count("last run"), "s3cret" in told) == (True, 1 if said else 0, False)
    run(now)
    assert "last run" not in console.export_text(), "once is enough"


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a start that has a MongoDB of its own brings, in this order."""
    brought: list[str] = []
    monkeypatch.setattr(running, "Parts", lambda *_: NothingToBring())
    monkeypatch.setattr(NothingToBring, "mongodb", lambda _: named("MongoDB"))
    monkeypatch.setattr(NothingToBring, "head", lambda _: named(running.HEAD))
    monkeypatch.setattr(Run, "_bring", lambda _, recipe, title: brought.append(recipe.name))
    return brought


WITNESS = "the witness before 27117"


@pytest.mark.parametrize(
    ("stops", "ours", "witness", "then"),
    [
        (0, True, None, ["MongoDB", WITNESS, running.HEAD]),
        (0, True, True, ["MongoDB", WITNESS, running.HEAD]),
        (0, True, False, ["MongoDB", running.HEAD]),
        (0, False, None, [running.HEAD]),
        (0, False, True, CannotStart),  # it would record nothing, and nobody would know
        (1, True, None, StopRequested),  # while tools were built, which takes minutes
    ],
)
def test_a_start_brings_what_was_asked_for_or_nothing(
    folder: StateFolder,
    console: Console,
    brought: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stops: int,
    ours: bool,
    witness: bool | None,
    then: list[str] | type[Exception],
) -> None:
    if not ours:
        monkeypatch.setattr(NothingToBring, "mongodb", lambda _: None)
    run = Run(load(), folder, console)
    run.record.mongodb_uri = "mongodb://127.0.0.1:27117/"
    run._stops = stops
    if isinstance(then, list):
        run.start(witness)
        assert brought == then
    else:
        with pytest.raises(then):
            run.start(witness)
        assert brought == []


def test_redis_listens_before_a_database_is_built_for_minutes(
    folder: StateFolder, console: Console, brought: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port was free when it was chosen."""

    def build(_: object) -> None:
        brought.append("a build")

    monkeypatch.setattr(NothingToBring, "redis", lambda _: named("Redis"))
    monkeypatch.setattr(NothingToBring, "mongodb", build)
    Run(load(), folder, console).start(witness=None)
    assert brought == ["Redis", "a build", running.HEAD]


@pytest.mark.parametrize(
    ("left", "said"), [(0, ""), (7, "7 accepted writes are still in the log"), (None, "is not known")]
)
def test_a_run_says_at_its_end_what_it_has_left_also_when_it_never_got_ready(
    folder: StateFolder,
    console: Console,
    handlers: dict[int, Any],
    monkeypatch: pytest.MonkeyPatch,
    left: int | None,
    said: str,
) -> None:
    def interrupted(*_: object) -> None:
        raise StopRequested

    monkeypatch.setattr(Run, "start", interrupted)
    monkeypatch.setattr(Run, "stop", lambda _: left)
    assert running.up(load(), folder, console, witness=None) == 0
    told = console.export_text()
    assert "Stopped before it was ready." in told
    assert (said in told, "make up" in told) == (True, left != 0)


def test_the_direct_port_is_asked_once_its_replicas_are_there(
    folder: StateFolder, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(running, "Parts", lambda *_: NothingToBring())
    monkeypatch.setattr(NothingToBring, "ask_direct_port", lambda _: happened.append("asked"))
    monkeypatch.setattr(Run, "_bring", lambda *_: happened.append("brought"))
    Run(load(), folder, console).start(witness=None)
    assert happened == ["brought", "asked"]


def test_nothing_sweeps_the_sockets_of_a_run_out_of_tmp_while_it_lasts(
    folder: StateFolder, console: Console, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept() -> bool:
        """By systemd-tmpfiles, which passes over a folder that it cannot have alone."""
        opened = os.open(folder.sockets, os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(opened)
        return True

    seen: list[bool] = []
    monkeypatch.setattr(Run, "start", lambda *_: seen.append(swept()))
    monkeypatch.setattr(Run, "watch", lambda _: seen.append(swept()))
    monkeypatch.setattr(Run, "stop", lambda _: 0)
    assert running.up(load(), folder, console, witness=None) == 0
    assert (seen, swept()) == ([False, False], True)


class NothingToBring:
    log = "the log"

    def redis(self) -> None: ...

    claim_public_port = mongodb = head = ask_direct_port = release = tell_of_another_log = redis

    def witness(self, upstream_port: int) -> Recipe:
        return named(f"the witness before {upstream_port}")


def named(name: str) -> Recipe:
    return Recipe(name, [], Path("log"), lambda: True)


class Drained:
    """A drain that has ended at once, and told nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def poll(self) -> int:
        return 1


class Head:
    name = running.HEAD
    state = running.State.RUNNING
    pid = None

    def stop(self) -> None:
        self.state = running.State.STOPPED


def full(*_: object, **__: object) -> None:
    """What any write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """What handles each signal, without a change to this process."""
    handlers: dict[int, Any] = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    return handlers


def test_a_closed_terminal_asks_for_a_stop_and_nothing_is_printed_to_it_any_more(
    folder: StateFolder, console: Console, handlers: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced: list[bool] = []
    monkeypatch.setattr(running, "silence", lambda: silenced.append(True))
    run = Run(load(), folder, console)
    run.listen_for_signals()
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert (run._stops, silenced) == (1, [True])
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert run._stops == 1, "the kernel sends one, and a shell perhaps another; the drain is not to be skipped"
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert (run._stops, silenced) == (2, [True, True])


def test_under_nohup_a_closed_terminal_stays_ignored(
    folder: StateFolder, console: Console, handlers: dict[int, Any]
) -> None:
    handlers[signal.SIGHUP] = handlers[signal.SIGINT] = signal.SIG_IGN
    Run(load(), folder, console).listen_for_signals()
    assert handlers[signal.SIGHUP] is signal.SIG_IGN
    assert handlers[signal.SIGINT] is not signal.SIG_IGN, "a shell ignores it for what it starts with &"


def test_after_a_hangup_words_go_nowhere_but_those_of_a_file_still_to_it(tmp_path: Path) -> None:
    reader, terminal = os.pipe()
    os.close(reader)
    with (tmp_path / "log").open("wb") as log, os.fdopen(terminal, "wb", buffering=0) as closed:
        with pytest.raises(BrokenPipeError):
            closed.write(b"x")
        silence([closed.fileno(), log.fileno()])
        closed.write(b"x")
        log.write(b"x")
    assert (tmp_path / "log").read_bytes() == b"x"


def test_a_run_goes_on_where_nobody_can_hear_it() -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    with os.fdopen(pipe, "w") as closed, open("/dev/full", "w") as full_disk:
        for file in (closed, full_disk):
            console = Unheard(file=file)
            with Steps(console).step("Stopping"), Live(console=console, transient=True) as live:
                live.update("draining")
                console.print("a word")
        os.write(pipe, b"what else is written there")
        os.dup2(pipe, full_disk.fileno())  # so that it can be closed


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_a_terminal_that_can_change_no_line_hears_what_a_log_would(
    folder: StateFolder, time: Time, monkeypatch: pytest.MonkeyPatch, terminal: str
) -> None:
    monkeypatch.setattr("cluster.embedded.steps.time", time)
    monkeypatch.setattr(telegraph, "status", lambda *_: None)
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=300, _environ={"TERM": terminal})
    run = Run(load(), folder, console)
    with run._steps.step("Building") as tick:
        time.now += 3
        tick()
    time.at = [(time.now + 25, lambda: setattr(run, "_stops", 1))]
    run.watch()
    assert ("… Building" in said.getvalue()) == (terminal == "dumb")
    assert terminal != "dumb" or said.getvalue().count("the service does not answer") == 2
