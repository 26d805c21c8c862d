"""A child is started, restarted on its death with growing pauses, and stopped; on a hand-driven clock."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cluster.embedded.child import LAST_BACKOFF_S, Child, ChildFailed, Recipe, State, describe_exit, tail


class Puppet:
    """A process whose end the test decides."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


class Stage:
    """A child with its clock, its processes and the signals that were sent."""

    def __init__(self, log: Path, stop_timeout_s: float = 10.0) -> None:
        self.now = 0.0
        self.is_ready = False
        self.obeys = True
        self.is_full = False
        self.puppets: list[Puppet] = []
        self.signals: list[int] = []
        self.cleared = 0
        self.other: str | None = None
        """Who else listens on the child's port."""
        recipe = Recipe(
            name="Part",
            command=["part"],
            log=log,
            ready=lambda: self.is_ready,
            port=6390,
            ready_timeout_s=20.0,
            stop_timeout_s=stop_timeout_s,
            advice="Look there.",
            before_start=self.clear,
        )
        doubles: dict[str, Any] = {"spawn": self.spawn, "pause": self.pause, "kill": self.kill}
        self.child = Child(recipe, **doubles, clock=lambda: self.now, intruder=self.intruder)

    def intruder(self, port: int, host: str, session: int) -> str | None:
        assert (port, host, session) == (6390, "127.0.0.1", self.puppets[-1].pid)
        return self.other

    def clear(self) -> None:
        self.cleared += 1

    def spawn(self, recipe: Recipe) -> Puppet:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.puppets.append(Puppet(100 + len(self.puppets)))
        return self.puppets[-1]

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def kill(self, pid: int, number: int) -> None:
        self.signals.append(number)
        if self.obeys or number == signal.SIGKILL:
            self.puppets[-1].code = -number

    def running(self) -> Child:
        self.is_ready = True
        self.child.start()
        self.child.await_ready()
        return self.child


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "part.log")


def test_is_running_once_ready(stage: Stage) -> None:
    assert stage.running().state is State.RUNNING
    assert stage.child.pid == 100
    assert stage.cleared == 1


def test_a_first_start_that_ends_shows_the_end_of_its_log_and_the_advice(stage: Stage) -> None:
    stage.child.recipe.log.write_text("one\nno such folder\n")
    stage.child.start()
    stage.puppets[0].code = 3
    with pytest.raises(ChildFailed) as failure:
        stage.child.await_ready()
    assert "Part ended with code 3" in str(failure.value)
    assert "    no such folder" in str(failure.value)
    assert str(failure.value).endswith("Look there.")


def test_a_first_start_that_never_gets_ready_is_stopped(stage: Stage) -> None:
    stage.child.start()
    with pytest.raises(ChildFailed, match="not ready within 20 s"):
        stage.child.await_ready()
    assert stage.signals[0] == signal.SIGTERM
    assert stage.child.state is State.STOPPED


@pytest.mark.parametrize("then", ["answers", "is silent", "ends the child"])
def test_what_another_program_answers_on_its_port_is_no_readiness(stage: Stage, then: str) -> None:
    stage.child.start()
    stage.other, stage.is_ready = "valkey (pid 7)", then == "answers"
    stage.puppets[0].code = 1 if then == "ends the child" else None
    with pytest.raises(ChildFailed, match=r"^Part cannot have port 6390, which is held by valkey .pid 7.\. End that "):
        stage.child.await_ready()
    assert stage.child.state is State.STOPPED
    assert stage.puppets[0].code is not None, "it is not left behind"


def test_a_restart_that_finds_its_port_taken_is_tried_again_until_it_is_free(stage: Stage) -> None:
    child = stage.running()
    stage.puppets[-1].code, stage.other = 1, "valkey (pid 7)"
    child.tend()
    stage.now += 1
    child.tend()
    [event] = child.tend()
    assert "Part cannot have port 6390, which is held by valkey (pid 7)" in event
    assert child.state is State.WAITING, "what was accepted would go to the other"
    stage.now += 1
    child.tend()
    stage.puppets[-1].code = 1
    assert "held by valkey (pid 7)" in child.tend()[0], "also where it has ended by itself"
    stage.now, stage.other = stage.now + 2, None
    child.tend()
    child.tend()
    assert child.state is State.RUNNING


def test_waiting_for_readiness_lets_the_owner_work(stage: Stage) -> None:
    calls = 0

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        stage.is_ready = calls == 3

    stage.child.start()
    stage.child.await_ready(meanwhile)
    assert calls == 3


def test_a_death_is_told_and_mended(stage: Stage) -> None:
    child = stage.running()
    stage.puppets[0].code = -signal.SIGKILL
    stage.is_ready = False
    [event] = child.tend()
    assert "Part ended by SIGKILL" in event
    assert str(child.recipe.log) in event
    assert child.tend() == []  # not before its pause is over
    assert child.pid is None, "its id may be another's soon"
    stage.now += 0.25
    child.tend()
    assert child.pid == 101
    assert stage.cleared == 2
    stage.now += 1.5
    stage.is_ready = True
    assert child.tend() == ["Part is back on the same data after 1.5 s (restart 1)"]
    assert child.state is State.RUNNING


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_quiet_minute(stage: Stage) -> None:
    child = stage.running()
    pauses = []
    for _ in range(8):
        stage.puppets[-1].code = 1
        child.tend()
        began = stage.now
        while child.state is State.WAITING:
            stage.now += 0.05
            child.tend()
        pauses.append(round(stage.now - began, 1))
        child.tend()
    # 0.25, then doubled each time: 0.5, 1, 2, 3, 3
    assert pauses == pytest.approx([0.3, 0.5, 1.0, 2.0, *[LAST_BACKOFF_S] * 4], abs=0.11)
    stage.now += 61
    child.tend()
    stage.puppets[-1].code = 1
    assert "in 0.25 s" in child.tend()[0]


def test_a_restart_that_never_gets_ready_is_tried_again(stage: Stage) -> None:
    child = stage.running()
    stage.puppets[-1].code, stage.is_ready = 1, False
    child.tend()
    stage.now += 1
    child.tend()
    stage.now += 21
    assert "not ready within 20 s" in child.tend()[0]
    assert child.state is State.WAITING
    assert stage.signals == [signal.SIGTERM, signal.SIGKILL], "two would run on the same data"
    child.stop()
    assert len(stage.signals) == 2, "there is nobody to signal"


def test_a_restart_for_which_the_disk_has_no_room_is_tried_again(stage: Stage) -> None:
    child = stage.running()
    stage.puppets[-1].code = 1
    child.tend()
    stage.now += 1
    stage.is_full = True
    [event] = child.tend()
    assert "Part could not be started: [Errno 28] No space left on device; it is started again in 0.5 s" in event
    assert child.state is State.WAITING
    stage.now += 1
    stage.is_full = False
    child.tend()
    assert child.tend() == ["Part is back on the same data after 0.0 s (restart 2)"]


def test_a_child_that_does_not_come_back_is_explained_once(stage: Stage) -> None:
    def fallen() -> str:
        stage.now += LAST_BACKOFF_S + 0.1
        child.tend()
        stage.puppets[-1].code = 1
        return child.tend()[0]

    child = stage.running()
    child.recipe.log.write_text("Bad file format\n")
    stage.puppets[-1].code, stage.is_ready = 1, False
    assert "Bad file format" not in child.tend()[0], "nothing is known yet but its end"
    explained = fallen()
    assert "    Bad file format" in explained
    assert "Look there." in explained
    assert "Bad file format" not in fallen()
    stage.now += LAST_BACKOFF_S + 0.1
    child.tend()
    stage.is_ready = True
    child.tend()
    assert child.state is State.RUNNING
    stage.puppets[-1].code, stage.is_ready = 1, False
    child.tend()
    assert "Bad file format" in fallen(), "another trouble, another explanation"


def test_stop_asks_first_and_then_insists(stage: Stage) -> None:
    child = stage.running()
    stage.obeys = False
    child.stop()
    assert stage.signals == [signal.SIGTERM, signal.SIGKILL]
    assert stage.now >= 10.0
    assert child.state is State.STOPPED
    assert child.tend() == []


def test_exit_codes_in_words() -> None:
    assert describe_exit(2) == "with code 2"
    assert describe_exit(-9) == "by SIGKILL"
    assert describe_exit(-200) == "by signal 200"


def test_tail_of_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == []
    (tmp_path / "some.log").write_bytes(b"a\n\xff\nc\n")
    assert tail(tmp_path / "some.log", 2) == ["\N{REPLACEMENT CHARACTER}", "c"]
