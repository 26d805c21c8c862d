"""How k6 is started and asked, and what people are told when it cannot be."""

from __future__ import annotations

import json
import subprocess
from http.client import IncompleteRead
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loadtests import generator, service
from loadtests.__main__ import app, numbers
from loadtests.generator import GeneratorError, Load, inspect, start_k6


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command and the keyword arguments with which k6 is started."""
    found: dict[str, Any] = {}

    def popen(command: list[str], **arguments: Any) -> None:
        found.update(arguments, command=command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return found


def start(folder: Path, users: int = 10_000) -> None:
    start_k6("k6", Load("flood", ("http://service",), folder), users, folder / "a", folder / "s", folder / "k6.log")


def test_the_scenario_sees_what_it_is_given_and_no_shell(started: dict[str, Any], tmp_path: Path) -> None:
    start(tmp_path)
    command = started["command"]
    assert "--include-system-env-vars=false" in command
    given = [word for before, word in pairwise(command) if before == "-e"]
    assert given == ["BASE_URL=http://service", f"SUMMARY={tmp_path / 's'}"]


def test_k6_calls_from_the_addresses_that_have_the_ports(started: dict[str, Any], tmp_path: Path) -> None:
    for local_ips, given in (("127.0.0.1-127.0.0.8", ["127.0.0.1-127.0.0.8"]), (None, [])):
        spike = Load("spike", ("http://service",), tmp_path, local_ips=local_ips)
        start_k6("k6", spike, 10_000, tmp_path / "a", tmp_path / "s", tmp_path / "k6.log")
        assert [word for before, word in pairwise(started["command"]) if before == "--local-ips"] == given


def test_k6_is_frugal_unless_the_caller_says_otherwise(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    monkeypatch.setattr(generator, "k6_limit_bytes", lambda users: users * 7)
    start(tmp_path)
    assert (started["env"]["GOGC"], started["env"]["GOMEMLIMIT"]) == ("off", "70000")
    start(tmp_path, users=64)
    assert started["env"]["GOGC"] == "400"
    monkeypatch.setenv("GOGC", "100")
    start(tmp_path)
    assert started["env"]["GOGC"] == "100"


def test_what_the_callers_shell_says_to_k6_is_another_test_than_the_scenarios(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def run(_command: list[str], **arguments: Any) -> Any:
        asked.update(arguments)
        return subprocess.CompletedProcess("k6", 0, json.dumps({"scenarios": {}, "maxVUs": 1}), "")

    for name in ("K6_NO_THRESHOLDS", "K6_RPS", "K6_NO_COOKIES_RESET", "HARMLESS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(subprocess, "run", run)
    inspect("k6", Load("flood", ("http://service",), tmp_path))
    start(tmp_path)
    for environment, ours in ((asked["env"], {}), (started["env"], {"K6_NO_COOKIES_RESET": "true"})):
        assert {name: value for name, value in environment.items() if name.startswith("K6_")} == ours
        assert environment["HARMLESS"] == "1"
        assert environment["NO_PROXY"] == "*"


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (subprocess.TimeoutExpired("k6", 60), "flood.js within 60 s: end what keeps this machine busy"),
        (FileNotFoundError("no such file"), "k6 cannot be started: no such file; K6 names another one"),
        (
            subprocess.CompletedProcess("k6", 107, "", "Error: too few users\n\tat file:///stress.js:13\n"),
            "k6 does not take flood.js as it was asked for: Error: too few users",
        ),
    ],
)
def test_why_a_scenario_cannot_be_described(
    ended: Any, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(ended, Exception):
            raise ended
        return ended

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(GeneratorError) as found:
        inspect("k6", Load("flood", ("http://service",), tmp_path))
    assert str(found.value).endswith(told)


def test_a_status_that_breaks_off_is_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise IncompleteRead(b'{"backlog"')

    monkeypatch.setattr(service, "_opener", SimpleNamespace(open=broken))
    assert service.get_json("http://service/v1/status") is None
    assert not service.is_ready("http://service", 0.0)


def test_a_list_of_numbers_begins_at_one() -> None:
    assert numbers("4, 1,2,1") == [1, 2, 4]
    assert numbers("") == []
    for text in ("0", "1,-2", "many"):
        with pytest.raises(typer.BadParameter):
            numbers(text)


def test_a_comparison_without_users_is_refused() -> None:
    done = CliRunner().invoke(app, ["compare", "--users", ""])
    assert (done.exit_code, "names no load" in done.output) == (2, True)


def test_a_page_of_an_experiment_before_is_not_left_for_one_of_this(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find_k6() -> str:
        raise GeneratorError("none")

    monkeypatch.setattr("loadtests.__main__.find_k6", find_k6)
    for kind in ("html", "json"):
        (tmp_path / f"compare.{kind}").write_text("Ours reaches each of these goals")
    assert CliRunner().invoke(app, ["compare", "--out", str(tmp_path)]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_scale_without_a_value_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.__main__._experiment", lambda *_: None)
    none = [word for axis in ("replicas", "buffers", "batch", "rate-cap") for word in (f"--{axis}", "")]
    done = CliRunner().invoke(app, ["scale", *none])
    assert (done.exit_code, "no axis has a value" in done.output) == (2, True)
