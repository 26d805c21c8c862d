"""Waiting for the drain: a backlog counts as empty once it has stayed empty."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests import service
from loadtests.service import Drain, wait_for_drain


def drain(statuses: list[dict[str, Any] | None], monkeypatch: pytest.MonkeyPatch, timeout_s: float = 60.0) -> Drain:
    """Wait for a drain of scripted statuses, a second apart by a clock of our own; the last one repeats."""
    now, script = [0.0], list(statuses)

    def sleep(_seconds: float) -> None:
        now[0] += 1.0

    monkeypatch.setattr(service, "get_json", lambda _url: script.pop(0) if len(script) > 1 else script[0])
    return wait_for_drain("http://service", timeout_s, clock=lambda: now[0], sleep=sleep)


def backlog(writes: int) -> dict[str, Any]:
    return {"backlog": {"writes": writes}}


def test_a_backlog_is_empty_when_it_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drain([backlog(9), None, backlog(0), backlog(3), backlog(0)], monkeypatch) == Drain(4.0, 0)


def test_a_backlog_that_stays_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drain([backlog(9)], monkeypatch, timeout_s=5.0) == Drain(None, 9)
    assert drain([None], monkeypatch, timeout_s=5.0) == Drain(None, None)
