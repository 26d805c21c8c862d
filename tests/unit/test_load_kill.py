"""The kill of `compare`: it comes under load or it proves nothing, and whatever the trial shows is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from loadtests import compare, strike
from loadtests.laboratory import Target
from loadtests.service import ServiceError
from loadtests.strike import Strike

STARTED_S, SECONDS = 1000.0, 10.0


class Victim:
    name = about = "ours"

    def __init__(self, fails: Exception | None = None) -> None:
        self.did: list[str] = []
        self._fails = fails

    def kill(self) -> None:
        self.did.append("kill")

    def recover(self) -> None:
        self.did.append("recover")
        if self._fails:
            raise self._fails


class Waits:
    """In the place of the event: nothing is waited for, and something happens meanwhile."""

    def __init__(self, meanwhile: Callable[[int], object] = lambda _: None) -> None:
        self.waited_s: list[float] = []
        self._meanwhile = meanwhile
        self._is_set = False

    def wait(self, seconds: float) -> bool:
        self._meanwhile(len(self.waited_s))
        self.waited_s.append(seconds)
        return self._is_set

    def set(self) -> None:
        self._is_set = True


def test_the_clock_of_the_kill_begins_with_the_load(tmp_path: Path) -> None:
    record, victim = tmp_path / "answers.log", Victim()
    steps: list[Callable[[], object]] = [lambda: None, record.touch, lambda: record.write_text("started 1000000 5\n")]
    waits = Waits(lambda number: steps[number]() if number < len(steps) else None)
    blow = Strike(victim, record, 4.0, over=waits)  # type: ignore[arg-type]
    blow.run()
    assert (waits.waited_s, victim.did) == ([strike.POLL_S] * 3 + [4.0], ["kill", "recover"])


def test_without_a_load_there_is_no_kill(tmp_path: Path) -> None:
    record, victim = tmp_path / "answers.log", Victim()
    record.write_text("started 1000000 5\n")  # an earlier run's
    with Strike(victim, record, 0.0) as blow:
        pass
    assert victim.did == []
    with pytest.raises(ServiceError, match="ours was not killed"):
        blow.check(2000.0)


def kill(monkeypatch: pytest.MonkeyPatch, folder: Path, victim: Victim, dead_s: float, *problems: str) -> Any:
    """What `compare` makes of a load of ten seconds in which everything is dead at `dead_s`."""

    def conduct(*_: Any, until: Callable[[], None]) -> Any:
        until()
        answers = SimpleNamespace(writes=50, unknown=3, started_s=STARTED_S, stopped_s=STARTED_S + SECONDS + 2)
        counts = SimpleNamespace(**dict.fromkeys(("lost", "doubled", "ghosts", "phantoms"), SimpleNamespace(count=0)))
        outcome = SimpleNamespace(answers=answers, verdict=counts, drain=SimpleNamespace(backlog=0))
        plan = SimpleNamespace(seconds=SECONDS)
        return SimpleNamespace(code=0, outcome=outcome, plan=plan, problems=lambda: list(problems))

    def struck(self: Strike) -> Strike:
        self.record.write_text("started 1000000 5\n")
        self.over = Waits()  # type: ignore[assignment]
        self.run()
        return self

    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(compare, "conduct", conduct)
    monkeypatch.setattr(Strike, "__enter__", struck)
    monkeypatch.setattr(strike.time, "time", lambda: dead_s)
    target = Target("ours", ("http://service",), "mongodb://store")
    return compare._kill(victim, target, folder, SECONDS, Console(quiet=True), "k6")


def test_all_that_the_trial_shows_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loss = kill(monkeypatch, tmp_path, Victim(), STARTED_S + SECONDS, "101 commands", "k6 ended with 107")
    assert (loss.accepted, loss.lost, loss.problems) == (50, 0, ["101 commands", "k6 ended with 107"])


def test_a_kill_after_the_load_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"dead only 0\.5 s after its load had ended, so nothing was tried"):
        kill(monkeypatch, tmp_path, Victim(), STARTED_S + SECONDS + 0.5)


def test_a_service_that_does_not_come_back_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="ours did not come back: no port"):
        kill(monkeypatch, tmp_path, Victim(ServiceError("no port")), STARTED_S + 4)
