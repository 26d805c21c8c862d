"""The status line, from answers as the service gives them and as a broken one might."""

from __future__ import annotations

from typing import Any

from cluster.board import Board, number, size
from cluster.up import drained_to
from cluster.welcome import without_password


def answer(total: int = 0, **other: Any) -> dict[str, Any]:
    return {
        "accepted_total": total,
        "backlog": {"writes": 1200, "bytes": 3 * 1024 * 1024},
        "lag_s": 1.25,
        "commands": {"last_second": 97, "worst_window": 99, "limit": 100},
        "mongodb": "up",
        "redis": "up",
        **other,
    }


def test_the_rate_is_a_difference_over_the_time_between_two_answers() -> None:
    board = Board()
    board.update(answer(1_000), 10.0)
    assert board.accepted_per_s == 0
    board.update(answer(4_000), 12.0)
    assert board.accepted_per_s == 1_500  # 3,000 in 2 s


def test_a_restarted_service_begins_anew_without_a_negative_rate() -> None:
    board = Board()
    board.update(answer(1_000), 10.0)
    board.update(answer(5), 11.0)
    assert board.accepted_per_s == 0


def test_the_line_holds_what_a_person_looks_for() -> None:
    board = Board()
    board.update(answer(), 0.0)
    line = board.line(answer()).plain
    assert "backlog 1,200 (3.0 MiB)" in line
    assert "97 of 100" in line
    assert "worst 99" in line
    assert "lag 1.2 s" in line
    assert "down" not in line


def test_what_is_down_is_named() -> None:
    assert "mongodb down" in Board().line(answer(mongodb="down")).plain


def test_a_silent_service_is_told_as_such() -> None:
    assert Board().line(None, "restarting Redis").plain == "restarting Redis  the service does not answer"


def test_a_backlog_that_nobody_knows_is_not_shown_as_none() -> None:
    board = Board()
    board.update(answer(), 0.0)
    away = answer(backlog={"writes": None, "bytes": None}, lag_s=None)
    board.update(away, 1.0)
    assert "backlog unknown, a buffer does not answer" in board.line(away).plain
    assert board.backlog == 1200


def test_a_strange_answer_does_no_harm() -> None:
    board = Board()
    strange: dict[str, Any] = {"backlog": None, "commands": [], "lag_s": "x"}
    board.update(strange, 1.0)
    assert "backlog 0" in board.line(strange).plain
    assert number({"a": {"b": True}}, "a", "b") == 1.0
    assert number(None, "a") == 0.0


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
