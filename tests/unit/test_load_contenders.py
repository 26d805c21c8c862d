"""Contenders stand on equal ground: the same database, and nobody's settings but the laboratory's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.settings import Settings
from loadtests import contender, spillway, stored
from loadtests.contender import SETTINGS, Program, inherited
from loadtests.service import Addresses
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
    monkeypatch.setattr(spillway, "ferretdb", lambda: "/cache/ferretdb")
    monkeypatch.setattr(spillway, "free_port", iter(range(7001, 7100)).__next__)
    monkeypatch.setattr(stored, "check", lambda *_: None)

    def found(ours: Spillway, _up: Any) -> None:
        ours.addresses = Addresses(direct_url="http://127.0.0.1:7004")

    monkeypatch.setattr(Spillway, "_await_running", found)
    target = Spillway(tmp_path).start()
    assert list(started) == ["ferretdb", "witness", "up"]
    assert started["ferretdb"].command[:3] == ["/cache/ferretdb", "-listen", "127.0.0.1:7001"]
    assert started["witness"].command[-4:] == ["--listen", "127.0.0.1:7002", "--upstream", "127.0.0.1:7001"]
    assert started["up"].environment["SPILLWAY_MONGODB_URI"] == "mongodb://127.0.0.1:7002/?directConnection=true"
    assert target.mongodb_uri == "mongodb://127.0.0.1:7001/?directConnection=true"
    assert target.witness_record is not None
    assert str(target.witness_record) in started["witness"].command
