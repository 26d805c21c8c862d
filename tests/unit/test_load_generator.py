"""How k6 is started and asked, and what people are told when it cannot be."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtests import generator
from loadtests.generator import Load, start_k6


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command and the keyword arguments with which k6 is started."""
    found: dict[str, Any] = {}

    def popen(command: list[str], **arguments: Any) -> None:
        found.update(arguments, command=command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return found


def start(folder: Path) -> None:
    start_k6("k6", Load("flood", ("http://service",), folder), folder / "a", folder / "s", folder / "k6.log")


def test_the_scenario_sees_what_it_is_given_and_no_shell(started: dict[str, Any], tmp_path: Path) -> None:
    start(tmp_path)
    command = started["command"]
    assert "--include-system-env-vars=false" in command
    given = [word for before, word in pairwise(command) if before == "-e"]
    assert given == ["BASE_URL=http://service", f"SUMMARY={tmp_path / 's'}"]


def test_k6_is_frugal_unless_the_caller_says_otherwise(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    monkeypatch.setattr(generator.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 4096}))
    start(tmp_path)
    assert (started["env"]["GOGC"], started["env"]["GOMEMLIMIT"]) == ("400", "2048")
    monkeypatch.setenv("GOGC", "100")
    start(tmp_path)
    assert started["env"]["GOGC"] == "100"
