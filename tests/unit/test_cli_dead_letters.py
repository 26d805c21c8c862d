"""`python -m cluster dead-letters` against the real HTTP edge, in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import bson
import pytest
from edge import EdgeClient
from fake_intake import UP
from typer.testing import CliRunner, Result

from actors.core.dead_letter import DeadLetter
from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import LogUnavailable, OutcomeUnknown, QueueFull
from actors.core.intake import State
from cluster import dead_letters
from cluster.dead_letters import moment
from cluster.shelf import LONGEST_PAUSE_S, PATIENCE_S, Refused, Shelf
from cluster.telegraph import Reply
from serve_app.dead_letters import opaque


def letter(number: int, namespace: str = "shop.orders", reason: str = "E11000 duplicate") -> DeadLetter:
    frame = encode_writes([Write(Kind.INSERT, namespace, f"id{number}", bson.encode({"_id": f"id{number}"}))])
    return DeadLetter(f"0of1/{number}-0/0", frame, reason, 1, 1_700_000_000.0, 1_700_000_000.0 + number)


class Far:
    """A service to ask, and a clock that passes when somebody sleeps. `before` is called before each question."""

    def __init__(self) -> None:
        self.client = EdgeClient()
        self.intake = self.client.intake
        self.now = 0.0
        self.asked: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.shelf = Shelf("http://edge", self.ask, self.sleep, lambda: self.now)

    def fill(self, *letters: DeadLetter) -> None:
        asyncio.run(self.intake.shelf.add(letters))
        self.intake.up = UP | {"dead_letters": len(self.intake.shelf.letters)}

    def ask(self, method: str, url: str) -> Reply:
        self.before()
        parts = urlsplit(url)
        self.asked.append(f"{method} {parts.path}")
        answer = asyncio.run(self.client.request(method, f"{parts.path}?{parts.query}"))
        body = answer.json() if answer.content else {}
        return Reply(answer.status_code, body, float(answer.headers.get("retry-after", 0)))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def left(self) -> list[str]:
        return list(self.intake.shelf.letters)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    one = Far()
    monkeypatch.setattr(dead_letters, "_shelf", lambda base_url: one.shelf)
    return one


def command(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(dead_letters.app, list(arguments), input=answer)


def test_a_list_names_what_an_operator_needs(far: Far) -> None:
    far.fill(letter(1), letter(2, "shop.people", "Document failed validation [121]\x1b[2J"))
    told = command("list").output
    for text in (opaque(letter(1).id), "insert shop.orders", "id2", "E11000 duplicate", "validation [121]"):
        assert text in told
    assert "\x1b" not in told
    assert "shop.orders" not in command("list", "--namespace", "shop.people").output
    assert "no dead letters like that" in command("list", "--reason", "other").output


def test_a_list_for_programs_has_as_many_as_were_asked_for(far: Far) -> None:
    far.fill(*(letter(i) for i in range(700)))
    lines = command("list", "--json", "--limit", "600").stdout.splitlines()
    assert [json.loads(line)["document_id"] for line in lines] == [f"id{i}" for i in range(600)]
    assert "may be more" in command("list", "--limit", "600").output


def test_one_is_shown_with_its_bytes(far: Far) -> None:
    far.fill(letter(1))
    assert json.loads(command("show", opaque(letter(1).id)).stdout)["body"] == {"_id": "id1"}
    assert command("show", opaque(letter(1).id), "--raw").stdout_bytes == letter(1).write.body
    gone = command("show", "no~1-1~1")
    assert (gone.exit_code, "none with this id" in gone.output) == (1, True)


def test_a_replay_is_of_what_was_named_and_says_what_became_of_it(far: Far) -> None:
    far.fill(*(letter(i, "shop.people" if i % 2 else "shop.orders") for i in range(1_200)))
    done = command("replay", "--namespace", "shop.orders")
    assert done.exit_code == 0
    assert "Replayed 600: 600 stored, 0 refused again." in done.stdout
    assert {write.namespace for write in far.intake.writes} == {"shop.orders"}
    assert far.left == [letter(i).id for i in range(1, 1_200, 2)]
    assert command("replay", "--all").exit_code == 0
    assert far.left == []


def test_a_replay_in_vain_is_no_success(far: Far) -> None:
    far.fill(letter(1))
    far.intake.final = State("dead-lettered", "still")
    done = command("replay", "--all")
    assert done.exit_code == 1
    assert "0 stored, 1 refused again" in done.stdout


@pytest.mark.parametrize("act", ["replay", "discard"])
def test_some_are_named_by_their_ids(far: Far, act: str) -> None:
    far.fill(*(letter(i) for i in range(4)))
    done = command(act, opaque(letter(1).id), opaque(letter(2).id), *(["--yes"] if act == "discard" else []))
    assert (done.exit_code, f"{act.capitalize()}ed 2." in done.stdout) == (0, True)
    assert far.left == [letter(0).id, letter(3).id]


@pytest.mark.parametrize("act", ["replay", "discard"])
@pytest.mark.parametrize("named", [[], ["--all", "--reason", "x"], ["0~1-0~0", "--all"]])
def test_what_is_meant_has_to_be_said_in_one_way(far: Far, act: str, named: list[str]) -> None:
    far.fill(letter(0))
    assert command(act, *named).exit_code == 2
    assert far.left == [letter(0).id]


def test_more_than_one_is_discarded_only_when_asked_for_twice(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    far.fill(*(letter(i) for i in range(3)), letter(3, reason="schema"))
    nobody = command("discard", "--reason", "e11000")
    assert (nobody.exit_code, "Say --yes" in nobody.output, len(far.left)) == (1, True, 4)
    monkeypatch.setattr(dead_letters, "_somebody_is_here", lambda: True)
    refused = command("discard", "--reason", "e11000", answer="n\n")
    assert (refused.exit_code, "Discard 3 dead letters?" in refused.output, len(far.left)) == (1, True, 4)
    assert command("discard", "--reason", "schema").exit_code == 0, "one needs no question"
    assert command("discard", "--reason", "e11000", answer="y\n").exit_code == 0
    assert far.left == []


def test_to_ask_about_all_of_them_none_is_listed(far: Far) -> None:
    """A million are two minutes of pages, in which nothing is said."""
    far.fill(letter(1), letter(2))
    assert "Discard 2 dead letters?" in command("discard", "--all").output
    assert len(far.asked) == 1


@pytest.mark.parametrize("there", [0, 1, 3])
@pytest.mark.parametrize("named", [["--all"], ["--reason", "e11000"]])
def test_what_comes_after_the_count_is_not_discarded(
    far: Far, monkeypatch: pytest.MonkeyPatch, named: list[str], there: int
) -> None:
    """While the operator reads the question, and also where none is asked."""
    far.fill(*(letter(i) for i in range(there)))
    later = [letter(100 + i) for i in range(400)]
    asked: list[bool] = []

    def somebody_is_here() -> bool:
        asked.append(True)
        far.fill(*later)
        return True

    def before() -> None:
        if len(far.asked) == 2 - ("--all" in named) and there < 2:  # counted, and nothing to ask
            far.fill(*later)

    far.before = before
    monkeypatch.setattr(dead_letters, "_somebody_is_here", somebody_is_here)
    done = command("discard", *named, answer="y\n")
    assert (done.exit_code, len(asked)) == (0, int(there > 1))
    assert f"Discarded {there}.\n400 more came meanwhile; they stay." in done.stdout
    assert far.left == [one.id for one in later]


@pytest.mark.parametrize("act", ["replay", "discard"])
def test_ctrl_c_says_how_far_it_came_and_leaves_the_rest(far: Far, act: str) -> None:
    far.fill(*(letter(i) for i in range(1_200)))

    def interrupt() -> None:
        if sum(act in asked for asked in far.asked) == 2:
            raise KeyboardInterrupt

    far.before = interrupt
    stopped = command(act, "--all", *(["--yes"] if act == "discard" else []))
    assert stopped.exit_code == 130
    assert f"Stopped. {act.capitalize()}ed 1,000" in stopped.stdout
    assert far.left == [letter(i).id for i in range(1_000, 1_200)]
    far.before = lambda: None
    assert command(act, "--all", *(["--yes"] if act == "discard" else [])).exit_code == 0
    assert far.left == []


# Patience


def test_a_full_queue_is_waited_for_as_long_as_it_takes_with_smaller_pages(far: Far) -> None:
    far.fill(*(letter(i) for i in range(100)))
    far.intake.failing_append = QueueFull("full", 7.0)
    heard: list[str] = []

    def drained() -> None:
        if far.now > 10 * PATIENCE_S:
            far.intake.failing_append = None

    far.before = drained
    pages = list(far.shelf.pages("replay", {"namespace": "*"}, 64, heard.append))
    assert [page["replayed"] for page in pages][:5] == [1, 2, 4, 8, 16]
    assert sum(page["replayed"] for page in pages) == 100
    assert "full" in heard
    assert heard[-1] == ""
    assert far.now >= 10 * PATIENCE_S
    assert far.left == []


def test_a_page_without_an_answer_is_asked_for_again(far: Far) -> None:
    far.fill(*(letter(i) for i in range(10)))
    faults: list[Exception | None] = [OutcomeUnknown("lost"), LogUnavailable("away"), None]
    far.before = lambda: setattr(far.intake, "failing_forget", faults.pop(0) if faults else None)
    assert [page["replayed"] for page in far.shelf.pages("replay", {"namespace": "*"}, 100)] == [10]
    assert len(far.intake.appends) == 3, "twice is once, for MongoDB"
    assert far.left == []


def test_a_service_that_stays_away_is_given_up_on_and_nothing_is_lost(far: Far) -> None:
    far.fill(letter(1))
    far.intake.failing_append = LogUnavailable("Redis is away", 1.0)
    done = command("replay", "--all")
    assert (done.exit_code, "Redis is away" in done.output, "Replayed 0." in done.output) == (1, True, True)
    assert PATIENCE_S <= far.now <= 2 * PATIENCE_S
    assert far.left == [letter(1).id]


def test_nobody_at_the_address_is_told_as_that() -> None:
    def nobody(method: str, url: str) -> Reply:
        raise ConnectionError("http://edge does not answer: refused")

    with pytest.raises(Refused, match="does not answer"):
        Shelf("http://edge", nobody).span()
    slept: list[float] = []

    def pause(seconds: float) -> None:
        assert seconds >= 1.0, "whoever is in trouble is not asked without a pause"
        slept.append(seconds)

    with pytest.raises(Refused, match="does not answer"):
        list(Shelf("http://edge", nobody, pause, lambda: sum(slept)).pages("replay", {}, 10))
    assert sum(slept) == PATIENCE_S


@pytest.mark.parametrize("asked_s", [3_600.0, 99_999_999_999.0, float("inf")])
def test_a_proxy_in_between_does_not_put_a_run_to_sleep(asked_s: float) -> None:
    """Its Retry-After is not ours, which is a minute at most; with the last two no machine can sleep at all."""
    full = Reply(503, {"code": "queue-full"}, asked_s)
    answers = [full, full, Reply(200, {"next": None}, 0.0)]
    slept: list[float] = []
    shelf = Shelf("http://edge", lambda method, url: answers.pop(0), slept.append, lambda: 0.0)
    assert len(list(shelf.pages("replay", {}, 10))) == 1
    assert slept == [LONGEST_PAUSE_S] * 2


def test_a_wrong_filter_is_told_at_once(far: Far) -> None:
    done = command("list", "--since", "yesterday")
    assert (done.exit_code, "since: It must be a time" in done.output, far.now) == (1, True, 0.0)


@pytest.mark.parametrize(
    ("text", "time"),
    [("90m", "2026-01-02T01:30:00.000Z"), ("1d", "2026-01-01T03:00:00.000Z"), ("2026-01-01T00:00:00Z",) * 2],
)
def test_times_may_be_so_long_ago(text: str, time: str) -> None:
    assert moment(text, datetime(2026, 1, 2, 3, tzinfo=UTC)) == time
