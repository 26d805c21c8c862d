"""Contenders stand on equal ground: the same database, and nobody's settings but the laboratory's."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster.settings import Settings
from loadtests import contender, spillway, stored
from loadtests.contender import SETTINGS, Program, inherited
from loadtests.service import Addresses, ServiceError
from loadtests.spillway import Spillway


def test_every_name_of_a_setting_is_kept_out() -> None:
    names = {str(name) for field in Settings.model_fields.values() for name in field.validation_alias.choices}  # type: ignore[union-attr]
    assert {name for name in names if name.isupper() and not name.startswith("SPILLWAY_")} == set(SETTINGS)


def test_settings_of_the_callers_shell_reach_no_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://precious")
    monkeypatch.setenv("SPILLWAY_BUFFERS", "7")
    monkeypatch.setenv("HARMLESS", "1")
    environment = inherited()
    assert environment["HARMLESS"] == "1"
    assert not {"MONGODB_URI", "SPILLWAY_BUFFERS"} & set(environment)


def test_ours_runs_on_the_baselines_ferretdb_behind_a_witness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: dict[str, Program] = {}
    monkeypatch.setenv("MONGODB_URI", "mongodb://precious")
    monkeypatch.setattr(contender.Program, "start", lambda program: started.update({program.log.stem: program}))
    monkeypatch.setattr(spillway, "path_of", lambda name: f"/cache/{name}")
    monkeypatch.setattr(spillway, "free_port", iter(range(7001, 7100)).__next__)
    monkeypatch.setattr(stored, "check", lambda *_: None)

    def found(ours: Spillway, _up: Any) -> None:
        ours.addresses = Addresses(direct_url="http://127.0.0.1:7004")

    monkeypatch.setattr(Spillway, "_await_running", found)
    target = Spillway(tmp_path).start()
    assert list(started) == ["ferretdb", "witness", "up"]
    assert started["ferretdb"].command[3:6] == ["/cache/ferretdb", "-listen", "127.0.0.1:7001"]
    assert started["witness"].command[-4:] == ["--listen", "127.0.0.1:7002", "--upstream", "127.0.0.1:7001"]
    assert started["up"].environment["SPILLWAY_MONGODB_URI"] == "mongodb://127.0.0.1:7002/?directConnection=true"
    assert target.mongodb_uri == "mongodb://127.0.0.1:7001/?directConnection=true"
    assert target.witness_record is not None
    assert str(target.witness_record) in started["witness"].command


@pytest.mark.parametrize(
    ("stubborn", "told"),
    [
        ("down", "SPILLWAY_STATE_DIR=/state python -m cluster down"),
        ("down in part", "`down` ended with 1, try it again: SPILLWAY_STATE_DIR=/state .*\n.*is left"),
        ("up", "no up"),
        ("witness", "no witness"),
    ],
)
def test_what_does_not_end_keeps_nothing_else_running(
    stubborn: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[str] = []

    def stop(program: Program, _number: int, _patience_s: float) -> None:
        ended.append(program.log.stem)
        if program.log.stem == stubborn:
            raise ServiceError(f"no {stubborn}")

    def run(*_: Any, **__: Any) -> Any:
        ended.append("down")
        if stubborn == "down":
            raise subprocess.TimeoutExpired("down", 120)
        return subprocess.CompletedProcess([], int(stubborn == "down in part"), "process 77 is left")

    ours = Spillway(tmp_path)
    ours._environment = {"SPILLWAY_STATE_DIR": "/state"}
    ours._programs = {name: Program([], tmp_path / f"{name}.log", {}) for name in ("ferretdb", "witness", "up")}
    monkeypatch.setattr(Program, "stop", stop)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ServiceError, match=told):
        ours.stop()
    assert ended == ["up", "down", "witness", "ferretdb"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_that_has_begun_is_not_interrupted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    try:
        for handler in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(number, handler)
            with contender.undisturbed():
                signal.raise_signal(number)
            assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, before)
