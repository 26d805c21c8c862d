"""Receipts, reports, errors, positions, status: the small values that cross borders."""

from __future__ import annotations

import inspect
import pickle
import time
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.adapters.clock import SystemClock
from actors.backlog import Backlog
from actors.core import errors, ports
from actors.core.batching import Entry
from actors.core.document import Key, Kind, Write
from actors.core.errors import SpillwayError
from actors.core.outcome import Outcome, Report, join
from actors.core.position import accepted_s, order
from actors.core.receipt import Receipt, decode_receipt
from actors.core.status import drain_eta_s, summarize

plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100)


@given(st.builds(Receipt, plain, st.just("1800000000000-7"), st.integers(0, 9_999), plain, plain))
def test_a_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    text = receipt.encode()
    assert decode_receipt(text) == receipt
    assert text.isascii()
    assert not set(text) & set("/+=?#%&")


def forged(*parts: str) -> str:
    return urlsafe_b64encode("\x1f".join(parts).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "not base64!",
        "é",
        "A" * 3_000,
        forged("0of1", "1-0", "0", "d.c"),
        forged("0of1", "1-0", "0", "d.c", "x", "y"),
        forged("0of1", "one-0", "0", "d.c", "x"),
        forged("0of1", "1", "0", "d.c", "x"),
        forged("0of1", "1-0", "-1", "d.c", "x"),
        forged("0of1", "1-0", "00", "d.c", "x"),
        forged("0of1", "1-0", " 0", "d.c", "x"),
    ],
)
def test_anything_else_is_no_receipt(text: str) -> None:
    with pytest.raises(ValueError, match="receipt"):
        decode_receipt(text)


@given(st.text(max_size=80))
def test_no_text_makes_the_decoder_stumble(text: str) -> None:
    try:
        receipt = decode_receipt(text)
    except ValueError:
        return
    assert receipt.encode() == text


def test_positions_are_ordered_by_number_and_not_by_letter() -> None:
    assert sorted(["10-0", "9-11", "9-2"], key=order) == ["9-2", "9-11", "10-0"]


def test_the_time_that_a_sleeping_machine_misses_has_passed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that slept longer than its lease must know, and Linux' monotonic clock sleeps too."""
    monkeypatch.setattr(time, "clock_gettime_ns", {time.CLOCK_BOOTTIME: 20, time.CLOCK_MONOTONIC: 1}.__getitem__)
    assert SystemClock().now_ns() == 20


def test_no_write_was_accepted_in_the_future() -> None:
    assert accepted_s("1800000000500-3", 1_800_000_001.0) == 1_800_000_000.5
    assert accepted_s("1800000000500-3", 1_800_000_000.0) == 1_800_000_000.0


outcomes = st.lists(st.sampled_from(list(Outcome)), max_size=8)


def report_of(some: list[Outcome]) -> Report:
    reasons = {i: f"because {i}" for i, outcome in enumerate(some) if outcome == Outcome.REJECTED}
    return Report(bytes(some), reasons, some.count(Outcome.STORED))


@given(st.lists(outcomes, max_size=5))
def test_joined_reports_part_into_what_they_were(groups: list[list[Outcome]]) -> None:
    whole = join([report_of(group) for group in groups])
    assert whole.grown == sum(group.count(Outcome.STORED) for group in groups)
    start = 0
    for group in groups:
        assert whole.part(start, start + len(group)) == report_of(group)._replace(grown=0)
        start += len(group)
    assert start == len(whole.outcomes)


def test_one_write_to_be_tried_again_is_enough() -> None:
    assert report_of([Outcome.STORED, Outcome.RETRY]).needs_retry
    assert not report_of([Outcome.STORED, Outcome.DUPLICATE, Outcome.REJECTED]).needs_retry
    assert Report.all(Outcome.RETRY, 3).outcomes == b"\x03\x03\x03"
    assert Report.rejected("why") == Report(bytes([Outcome.REJECTED]), {0: "why"})


ERRORS = sorted(
    {
        found
        for module in (errors, ports)
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, SpillwayError)
    },
    key=lambda found: found.__name__,
)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_crosses_a_process_border_whole(kind: type[SpillwayError]) -> None:
    error = pickle.loads(pickle.dumps(kind("why", 2.5)))
    assert type(error) is kind
    assert (error.message, error.retry_after_s, str(error), error.code) == ("why", 2.5, "why", kind.code)


def test_every_error_has_a_code_of_its_own_and_a_sentence_for_people() -> None:
    assert len({kind.code for kind in ERRORS}) == len(ERRORS) >= 15
    assert all(str(kind()).endswith(".") for kind in ERRORS)


# The backlog's books


def entry(position: str, *ids: str) -> Entry:
    return Entry(position, [Write(Kind.PUT, "d.c", id_, b"12345") for id_ in ids], 5 * len(ids), 0.0)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=8), st.data())
def test_the_backlog_counts_what_is_open_and_what_is_held(groups: list[list[str]], data: st.DataObject) -> None:
    backlog = Backlog()
    entries = [entry(f"{i}-0", *ids) for i, ids in enumerate(groups, 1)]
    for one in entries:
        backlog.add(one)
    resolved = data.draw(st.integers(0, len(entries)))
    forgotten = data.draw(st.integers(0, resolved))
    backlog.resolve(entries[:resolved])
    backlog.forget(forgotten)
    still_open = [write for one in entries[resolved:] for write in one.writes]
    held = [write for one in entries[forgotten:] for write in one.writes]
    assert (backlog.open_writes, backlog.open_bytes) == (len(still_open), 5 * len(still_open))
    assert (backlog.writes, backlog.bytes, len(backlog)) == (len(held), 5 * len(held), len(entries) - forgotten)
    assert backlog.oldest == (entries[resolved] if resolved < len(entries) else None)
    for id_ in "abc":
        assert backlog.pending(("d.c", id_)) == [write for write in held if write.id == id_]


class Moved(list[Write]):
    """A list that counts how often all that is behind its front has moved."""

    times = 0

    def pop(self, *place: Any) -> Write:
        self.times += 1
        return super().pop(*place)

    def __delitem__(self, place: Any) -> None:
        self.times += 1
        super().__delitem__(place)


def test_to_forget_a_batch_moves_what_waits_behind_it_once() -> None:
    """It is done in the buffer's loop, and a flood may be one of PUTs to a single document."""
    backlog = Backlog()
    entries = [entry(f"{number}-0", *["hot"] * 1_000) for number in range(3)]
    for one in entries:
        backlog.add(one)
    backlog.resolve(entries)
    waiting = backlog._by_key["d.c", "hot"] = Moved(backlog.pending(Key("d.c", "hot")))
    backlog.forget(1)
    assert (len(waiting), waiting.times) == (2_000, 1)


def test_before_its_first_entry_the_backlog_knows_everything() -> None:
    backlog = Backlog()
    assert backlog.before_first == "0-0"
    backlog.add(entry("5-3", "a"))
    assert backlog.before_first == "5-2"
    other = Backlog()
    other.add(entry("5-0", "a"))
    assert order("4-99") < order(other.before_first) < order("5-0")
    other.resolve([entry("5-0", "a")])
    other.forget(1)
    assert other.before_first == "5-0"


# GET /v1/status


def buffer(**changes: Any) -> dict[str, Any]:
    return {
        "ready": True, "log_up": True, "writes": 100, "bytes": 1_000, "lag_s": 0.5, "accepted_total": 500,
        "accepted_per_s": 40.0, "drained_total": 400, "drained_per_s": 50.0, "dead_lettered_total": 1,
    } | changes  # fmt: skip


WRITER = {"commands": {"last_second": 7, "worst_window": 96, "limit": 100}, "mean_writes": 12.5, "mongodb": "up",
          "documents": {"d.c": 3}}  # fmt: skip


def test_the_status_adds_up_the_buffers() -> None:
    status = summarize([buffer(), buffer(lag_s=2.0, writes=300)], WRITER)
    assert status["ready"]
    assert status["backlog"] == {"writes": 400, "bytes": 2_000}
    assert status["lag_s"] == 2.0
    assert status["drain_eta_s"] == 400 / (100.0 - 80.0)
    assert (status["mongodb"], status["redis"]) == ("up", "up")
    assert (status["accepted_total"], status["drained_total"], status["dead_lettered_total"]) == (1_000, 800, 2)
    assert (status["accepted_per_s"], status["drained_per_s"]) == (80.0, 100.0)


def test_a_part_that_does_not_answer_is_never_shown_as_fine() -> None:
    status = summarize([buffer(), None], None)
    assert not status["ready"]
    assert status["backlog"] == {"writes": None, "bytes": None}, "what the silent one holds is not nothing"
    assert (status["lag_s"], status["drain_eta_s"]) == (None, None)
    for name in ("accepted_total", "drained_total", "dead_lettered_total", "accepted_per_s", "drained_per_s"):
        assert status[name] is None, "a counter that falls and rises again would be new writes to an alert"
    assert status["mongodb"] == "unknown", "only the writer asks it"
    assert status["commands"]["worst_window"] is None
    assert status["buffers"][1]["last_error"] == "this buffer does not answer"
    assert summarize([None], WRITER)["redis"] == "down"
    assert summarize([buffer(log_up=False)], WRITER)["redis"] == "down"
    assert not summarize([buffer(ready=False)], WRITER)["ready"]


@pytest.mark.parametrize(
    ("writes", "accepted", "drained", "eta_s"),
    [(0, 50.0, 0.0, 0.0), (100, 0.0, 50.0, 2.0), (100, 40.0, 50.0, 10.0), (100, 50.0, 50.0, None), (1, 0.0, 0.0, None)],
)
def test_the_end_of_the_drain_is_told_while_the_backlog_shrinks(
    writes: int, accepted: float, drained: float, eta_s: float | None
) -> None:
    assert drain_eta_s(writes, accepted, drained) == eta_s
