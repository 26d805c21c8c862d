"""The status line, from answers as the service gives them and as a broken one might."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.core.status import summarize
from cluster.board import line, number, size
from cluster.state import Process, Record, StateFolder
from cluster.up import drained_to
from cluster.welcome import welcome, without_password


def answer(**other: Any) -> dict[str, Any]:
    return {
        "ready": True,
        "accepted_per_s": 1_500.4,
        "backlog": {"writes": 1200, "bytes": 3 * 1024 * 1024},
        "lag_s": 1.25,
        "commands": {"last_second": 97, "worst_window": 99, "limit": 100},
        "mongodb": "up",
        "redis": "up",
        "dead_letters": 0,
        **other,
    }


def test_the_line_holds_what_a_person_looks_for() -> None:
    seen = "accepted 1,500/s · backlog 1,200 (3.0 MiB) · commands 97 of 100 in 1 s, worst 99 · lag 1.2 s"
    assert line(answer()).plain == seen, "and says nothing of what is well"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mongodb": "down"}, " · mongodb down"),
        ({"ready": False}, " · writes are refused"),
        ({"dead_letters": 1_234}, " · dead letters 1,234 (make letters)"),
        ({"commands": {"last_second": 97, "worst_window": 101, "limit": 100}}, ", worst 101"),
    ],
)
def test_what_is_wrong_is_named_in_red(wrong: dict[str, Any], told: str) -> None:
    text = line(answer(**wrong))
    assert [text.plain[span.start : span.end] for span in text.spans if span.style == "red"] == [told]


def test_a_mongodb_that_was_not_asked_yet_is_no_alarm() -> None:
    text = line(answer(mongodb="unknown"))
    assert text.plain.endswith("lag 1.2 s · mongodb unknown")
    assert not [span for span in text.spans if span.style == "red"]


def test_a_silent_service_is_told_as_such() -> None:
    assert line(None, "restarting Redis").plain == "restarting Redis  the service does not answer"


@pytest.mark.parametrize(
    "status",
    [
        summarize([None], None),
        {"ready": False, "mongodb": "unknown", "redis": "unknown"},
        {"backlog": None, "commands": [], "lag_s": "x"},
    ],
)
def test_what_nobody_knows_is_not_shown_as_none(status: dict[str, Any]) -> None:
    told = line(status).plain
    assert told.startswith("accepted unknown · backlog unknown · commands unknown · lag unknown")
    assert "letters" not in told


def test_a_number_is_found_or_is_none() -> None:
    assert number({"a": {"b": 2}}, "a", "b") == 2.0
    assert number({"a": {"b": None}}, "a", "b") is None
    assert number(None, "a") is None


def test_sizes() -> None:
    sizes = (0, 1023, 1024, 5 * 1024**2, 3 * 1024**3)
    assert [size(n) for n in sizes] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB"]


def test_what_a_drain_has_left_is_read_from_its_last_words() -> None:
    assert drained_to(["noise", "left 12"]) == 12
    assert drained_to(["left 12", "left 0"]) == 0
    assert drained_to(["Traceback", "left over"]) is None
    assert drained_to([]) is None


def test_passwords_are_not_shown() -> None:
    assert without_password("redis://:secret@h:1/0") == "redis://:***@h:1/0"
    assert without_password("mongodb://u:secret@h:1/?a=b") == "mongodb://u:***@h:1/?a=b"
    assert without_password("redis://h:1/0") == "redis://h:1/0"
    assert without_password("mongodb://u@h:1,h:2/?a=b") == "mongodb://u@h:1,h:2/?a=b"
    for unescaped in ("se@cret", "se[cret", "se/cret", "se#cret", "se:cret"):
        assert without_password(f"mongodb://u:{unescaped}@h:1/") == "mongodb://u:***@h:1/"
    assert without_password("redis://h:1/0?password=secret&db=1") == "redis://h:1/0?password=***&db=1"
    secret = "mongodb://h:1/?tlsCertificateKeyFilePassword=secret&authMechanismProperties=AWS_SESSION_TOKEN:secret"
    assert "secret" not in without_password(secret)


def test_the_command_for_the_token_can_be_typed_as_it_stands_wherever_the_project_is(tmp_path: Path) -> None:
    token = tmp_path / "it's a place of mine" / "ray-token"
    token.parent.mkdir()
    token.write_text("secret")
    console = Console(record=True, width=300, file=io.StringIO())
    record = Record("run", Process(1, 1, "boot"), http_url="http://h:1", ray_token_file=str(token))
    welcome(console, record, StateFolder(token.parent))
    command = next(line for line in console.export_text().splitlines() if "cat " in line)
    typed = "cat " + command.partition("cat ")[2].strip(" │")
    assert subprocess.run(["sh", "-c", typed], capture_output=True, text=True, check=False).stdout == "secret"
