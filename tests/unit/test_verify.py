"""The judge: every planted fault must turn the verdict red, and only that fault."""

from __future__ import annotations

import json
import os
import random
import string
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from rich.console import Console
from typer.testing import CliRunner

from loadtests import verify
from loadtests.answers import Answers, read_answers
from loadtests.report import Outcome, keep, rows
from loadtests.service import Addresses, Drain
from loadtests.verdict import Comparison, Finding, Verdict
from loadtests.window import Stamp, Traffic

START_MS = 1_800_000_000_000
SEED = random.Random(7)


def uuid7(number: int, at_ms: int = START_MS + 1000) -> str:
    digits = f"{at_ms:012x}7{number >> 60:03x}8{number & (1 << 60) - 1:015x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


DURING = datetime.fromtimestamp(START_MS / 1000 + 5, UTC)


def document(identity: Any, **changes: Any) -> dict[str, Any]:
    payload = "".join(SEED.choices(string.ascii_letters + string.digits, k=512))
    timestamp = datetime.fromtimestamp(START_MS / 1000 + 1, UTC)
    return {"_id": identity, "type": "write", "index": 0, "payload": payload, "timestamp": timestamp} | changes


def answer(ids: list[str], reads: list[str] | None = None) -> str:
    return json.dumps({"status": "success", "reads": reads or [], "writes": ids, "timestamp": "-"})


REQUESTS = 4
IDS = [uuid7(number) for number in range(5 * REQUESTS)]


EPOCH = 3  # of the writer that was there before the load


def record(*more: str) -> list[str]:
    """A k6 record of four accepted requests over ten seconds, and more lines."""
    answers = [answer(IDS[start : start + 5], IDS[:5]) for start in range(0, len(IDS), 5)]
    stopped = f"stopped {START_MS + 10_000} " + json.dumps({"backlog": {"writes": 4, "bytes": 9}})
    return [f"started {START_MS} 5 " + json.dumps({"writer": {"epoch": EPOCH}}), *answers, *more, stopped]


def compare(documents: list[dict[str, Any]], *more: str) -> Verdict:
    comparison = Comparison(read_answers(record(*more)))
    for stored in documents:
        comparison.see(stored)
    return comparison.verdict()


def stored() -> list[dict[str, Any]]:
    return [document(identity, index=number % 5) for number, identity in enumerate(IDS)]


def counts(verdict: Verdict) -> tuple[int, int, int, int, int]:
    findings = (verdict.lost, verdict.doubled, verdict.ghosts, verdict.malformed, verdict.phantoms)
    return tuple(finding.count for finding in findings)  # type: ignore[return-value]


# ---------------------------------------------------------------------------------------------------- comparisons


def test_what_was_accepted_is_stored() -> None:
    verdict = compare(stored())
    assert counts(verdict) == (0, 0, 0, 0, 0)
    assert (verdict.of_run, verdict.documents) == (20, 20)


def test_a_lost_id() -> None:
    documents = stored()
    gone = documents.pop(7)
    verdict = compare(documents)
    assert counts(verdict) == (1, 0, 0, 0, 0)
    assert verdict.lost.examples == [gone["_id"]]


def test_an_id_accepted_twice_is_a_lost_write() -> None:
    again = answer([IDS[0], *(uuid7(n) for n in range(90, 94))])
    assert counts(compare(stored(), again))[0] == 1 + 4
    assert read_answers(record(again)).writes == 20 + 5


def test_an_id_stored_twice() -> None:
    assert counts(compare([*stored(), document(IDS[3])])) == (0, 1, 0, 0, 0)
    verdict = compare([*stored(), *[document(uuid7(99))] * 2])
    assert (counts(verdict), verdict.of_run) == ((0, 1, 1, 0, 0), 21)


def test_a_payload_stored_twice() -> None:
    documents = stored()
    documents[4]["payload"] = documents[9]["payload"]
    assert counts(compare(documents)) == (0, 1, 0, 0, 0)


def test_a_write_stored_again_under_another_id() -> None:
    documents = stored()
    verdict = compare([*documents, documents[4] | {"_id": ObjectId.from_datetime(DURING)}])
    assert counts(verdict) == (0, 1, 1, 0, 0)


@pytest.mark.parametrize(
    "identity",
    [
        uuid7(99),
        uuid7(99, START_MS),
        ObjectId.from_datetime(DURING),
        "by-its-timestamp",
        "0f8fad5b-d9cb-469f-a165-70867728950e",  # no version 7: its digits are no time
        5,
        b"\0",
        {"of": "somebody else"},
    ],
)
def test_a_ghost(identity: Any) -> None:
    verdict = compare([*stored(), document(identity)])
    assert counts(verdict) == (0, 0, 1, 0, 0)


def test_documents_of_earlier_runs_are_none_of_ours() -> None:
    early = datetime.fromtimestamp(START_MS / 1000 - 60, UTC)
    earlier = [
        document(uuid7(1, START_MS - 1), payload="x"),
        document(ObjectId.from_datetime(early)),
        document("by-its-timestamp", timestamp=early),
    ]
    verdict = compare([*stored(), *earlier, {"_id": "ageless"}])
    assert counts(verdict) == (0, 0, 0, 0, 0)
    assert (verdict.of_run, verdict.documents, verdict.undated) == (20, 24, 1)


@pytest.mark.parametrize(("after_s", "ghosts"), [(35.0, 1), (35.001, 0)])
def test_a_finished_run_may_be_judged_again_after_others(after_s: float, ghosts: int) -> None:
    """Its own last documents are made within the time a request may take; what comes later is another run's."""
    at_ms = START_MS + 10_000 + int(after_s * 1000)
    later = datetime.fromtimestamp(at_ms / 1000, UTC)
    for stranger in (document(uuid7(99, at_ms)), document("by-its-timestamp", timestamp=later)):
        assert counts(compare([*stored(), stranger])) == (0, 0, ghosts, 0, 0)


def test_a_request_with_unknown_outcome_accounts_for_five_documents_at_most() -> None:
    documents = [*stored(), *(document(uuid7(number)) for number in range(50, 56))]
    verdict = compare(documents, "unknown 504 1504")
    assert verdict.unknown == 5
    assert counts(verdict) == (0, 0, 1, 0, 0)


def test_a_refused_request_accounts_for_none() -> None:
    assert counts(compare([*stored(), document(uuid7(50))], "refused 503 1503")) == (0, 0, 1, 0, 0)


def at(second: float) -> datetime:
    """Of the run, which lasts ten."""
    return datetime.fromtimestamp(START_MS / 1000 + second, UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "x" * 511},
        {"payload": "-" * 512},
        {"payload": "é" * 512},
        {"payload": None},
        {"payload": ["x" * 512]},
        {"type": "read"},
        {"index": "0"},
        {"index": -1},
        {"index": 5},
        {"index": 3},  # another write's of the same request: its id was the third in the answer
        {"index": 2.0},
        {"note": "of somebody else"},
        {"timestamp": "yesterday"},
        {"timestamp": at(-5.1)},
        {"timestamp": at(15.1)},
    ],
)
def test_a_document_that_is_not_what_was_promised(change: dict[str, Any]) -> None:
    documents = stored()
    documents[2] |= change
    assert counts(compare(documents)) == (0, 0, 0, 1, 0)


@pytest.mark.parametrize("timestamp", [at(-5), at(15).replace(tzinfo=None)])
def test_a_document_that_is_what_was_promised(timestamp: datetime) -> None:
    documents = stored()
    documents[2]["timestamp"] = timestamp
    assert counts(compare(documents)) == (0, 0, 0, 0, 0)


def test_where_a_write_stood_is_not_known_of_an_unknown_outcome() -> None:
    strangers = [document(uuid7(50 + index), index=index) for index in (4, 5)]
    verdict = compare([*stored(), *strangers], "unknown 504 1504")
    assert (verdict.unknown, counts(verdict)) == (2, (0, 0, 0, 1, 0))


def test_a_scenario_that_writes_one_document_a_request_promises_one_index() -> None:
    for index, malformed in ((0, 0), (1, 1), (False, 1)):
        lines = [f"started {START_MS} 1", answer(IDS[:1]), f"stopped {START_MS + 10_000} null"]
        comparison = Comparison(read_answers(lines))
        comparison.see(document(IDS[0], index=index))
        assert counts(comparison.verdict()) == (0, 0, 0, malformed, 0)


def test_a_read_of_something_that_is_not_there() -> None:
    ids = [uuid7(number) for number in range(30, 35)]
    documents = [*stored(), *(document(identity, index=index) for index, identity in enumerate(ids))]
    assert counts(compare(documents, answer(ids, ["never written"]))) == (0, 0, 0, 0, 1)


# -------------------------------------------------------------------------------------------------- k6's record


def test_the_record_is_counted() -> None:
    damaged = ('{"status": "succ', "five words of no sense", "")
    answers = read_answers(record("unknown 0 1050", "refused 429 1429", *damaged))
    assert (answers.requests, answers.writes, answers.read_count) == (4, 20, 20)
    assert (answers.unknown, answers.refused) == (3, 1)  # what cannot be understood is an unknown outcome
    assert (answers.duration_s, answers.status_at_stop) == (10.0, {"backlog": {"writes": 4, "bytes": 9}})


@pytest.mark.parametrize(
    "line",
    [
        answer(IDS[:4]),
        answer(IDS[:5], ["r"] * 6),
        json.dumps({"status": "error", "reads": [], "writes": IDS[:5]}),
        json.dumps({"status": "success", "reads": []}),
        json.dumps({"status": "success", "reads": [], "writes": [[], 1, 2, 3, 4]}),
    ],
)
def test_an_answer_of_another_shape_is_no_acceptance(line: str) -> None:
    answers = read_answers([line])
    assert (answers.writes, answers.unknown) == (0, 1)
    answers = read_answers([f"1500 9.0 {line}"])
    assert (answers.writes, answers.unknown, list(answers.ends_s), list(answers.failed_ends_s)) == (0, 1, [], [1.5])


# -------------------------------------------------------------------------------------------- verdict and exit code


LATENCY = {
    "http_req_duration": {"values": {"med": 9.0, "p(95)": 9.0, "p(99)": 9.0}},
    "http_req_duration{expected_response:true}": {"values": {"med": 1.0, "p(95)": 2.0, "p(99)": 3.0}},
}


LEAST_BYTES = 20 * len(bson.encode(document(uuid7(1))))


def outcome(**changes: Any) -> Outcome:
    answers = read_answers(record())
    base: dict[str, Any] = {
        "answers": answers,
        "verdict": compare(stored()),
        "drain": Drain(1.5, 0),
        "limit": 100,
        "traffic": Traffic(96, {"insert": 2, "find": 1}, LEAST_BYTES),
        "self_reported": 55,
        "summary": {"metrics": LATENCY},
        "writer": EPOCH,
    }
    return Outcome(**(base | changes))


def test_a_good_run() -> None:
    good = outcome()
    assert good.problems() == []
    assert good.final_line() == "lost 0, doubled 0, ghosts 0, worst window 96"
    figures = good.figures()
    assert (figures["requests_per_second"], figures["writes_per_command"], figures["commands"]) == (0.4, 10.0, 3)
    assert (figures["backlog_at_stop_seconds"], figures["p99_ms"]) == (2.0, 3.0)


def test_an_answer_that_brings_fewer_documents_than_one_before_is_told() -> None:
    """A read that is left out under load makes a service look faster than one that answers it."""

    def body(at: int, reads: list[str]) -> str:
        return json.dumps({"status": "success", "writes": [uuid7(at + number) for number in range(5)], "reads": reads})

    five = ["a", "b", "c", "d", "e"]
    answers = read_answers([body(0, []), body(10, five[:4]), body(20, five), body(30, ["a"] * 5), body(40, five[:4])])
    assert (answers.requests, answers.short_reads) == (5, 2)
    figures = outcome(answers=answers).figures()
    assert dict(rows(figures))["reads"] == "18; 2 answers brought fewer than one before"
    assert "reads" not in dict(rows(outcome().figures()))


def test_what_connecting_took_is_shown_where_connections_are_not_kept() -> None:
    for values, shown in (
        ({"p(95)": 0, "p(99)": 0.2, "max": 3.0}, None),
        ({"p(95)": 0.5, "p(99)": 1.5, "max": 1003.0},
         "p95 0.5 ms, p99 1.5 ms, 1,003.0 ms at most: k6 does not count it as latency"),
    ):  # fmt: skip
        found = outcome(summary={"metrics": {**LATENCY, "http_req_connecting": {"values": values}}})
        assert dict(rows(found.figures())).get("connecting") == shown


def test_answers_after_the_load_are_none_of_its_rate() -> None:
    bodies = {at_ms: answer([uuid7(200 + at_ms + number) for number in range(5)]) for at_ms in (0, 7_999, 8_000)}
    answers = read_answers(record(*(f"{START_MS + at_ms} 1.0 {body}" for at_ms, body in bodies.items())))
    assert outcome(answers=answers, load_s=8.0).figures()["requests_per_second"] == 0.2  # 2 in 8 s
    assert outcome(answers=answers, load_s=60.0).figures()["requests_per_second"] == 0.3  # Ctrl-C: 3 in the 10 s it ran


def test_several_steps_have_no_percentile_in_common() -> None:
    stepped = outcome(summary={"metrics": {**LATENCY, "http_req_duration{scenario:at25}": {"values": {"med": 1.0}}}})
    assert stepped.figures()["p99_ms"] is None
    assert "latency" not in dict(rows(stepped.figures()))
    assert dict(rows(outcome().figures()))["latency"] == "p50 1.0 ms, p95 2.0 ms, p99 3.0 ms"


def test_without_a_witness_the_figure_is_the_services_own_and_says_so() -> None:
    assert outcome(traffic=None).final_line() == "lost 0, doubled 0, ghosts 0, worst window 55 (self-reported)"
    assert dict(rows(outcome(traffic=None).figures()))["worst window"] == "55 of 100, self-reported"
    assert outcome(traffic=None, self_reported=101).problems()
    assert outcome(traffic=None, self_reported=None).problems()
    assert not outcome(traffic=None, self_reported=None, limit=None).problems()
    assert not outcome(traffic=None).problems()


def test_what_a_writer_says_that_came_after_the_load_began_is_not_taken_for_the_whole_run() -> None:
    for begun, writer, told in (
        (EPOCH, 4, "epoch 3 before the load, 4 after"),
        (EPOCH, None, "epoch 3 before the load, unknown after"),
        (None, EPOCH, "epoch unknown before the load, 3 after"),
        (0, None, "epoch unknown before the load, unknown after"),
    ):
        answers = read_answers(record())
        answers.status_at_start = {"writer": {"epoch": begun}}
        found = outcome(traffic=None, answers=answers, writer=writer)
        assert [told in problem for problem in found.problems()] == [True], found.problems()
        assert found.final_line().endswith("worst window 55 (self-reported, since its last writer's start)")
        assert outcome(answers=answers, writer=writer).problems() == [], "a witness saw both"
    (over, _) = outcome(traffic=None, self_reported=101, writer=4).problems()
    assert over.startswith("101 commands")


def test_a_writer_that_has_sent_nothing_since_its_start_tells_of_no_window() -> None:
    blind = outcome(traffic=None, self_reported=0)
    assert blind.final_line() == "lost 0, doubled 0, ghosts 0, worst window unknown"
    assert blind.figures()["worst_window"] is None
    assert blind.problems() == ["no witness, and the service reports no worst window"]


@pytest.mark.parametrize("rest", ["", " 5", " 5 null", ' 5 {"writer": {"ep'])
def test_a_record_that_does_not_say_who_wrote_at_its_start_can_be_judged(rest: str) -> None:
    answers = read_answers([f"started 1000{rest}"])
    assert (answers.started_s, answers.writes_per_request, answers.status_at_start) == (1.0, 5, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"traffic": Traffic(101, {"insert": 500}, LEAST_BYTES)}, "101 commands"),
        ({"traffic": Traffic(0, {}, 0)}, "saw no command"),
        ({"traffic": Traffic(9, {"insert": 9}, LEAST_BYTES - 1)}, "not whole: its writing commands have 12,459 bytes"),
        ({"traffic": Traffic(9, {"insert": 9}, LEAST_BYTES, reaches_back=False)}, "not whole: it was dropped"),
        (
            {"answers": Answers(started_s=1.0, stopped_s=2.0, status_at_stop={"backlog": {"writes": 3}})},
            "nothing was accepted",
        ),
        ({"drain": Drain(None, 12)}, "12 writes"),
        *(
            ({"verdict": Verdict(**{name: Finding(2, ["a", "b"])})}, f"2 {name}, for example a, b")
            for name in ("lost", "doubled", "ghosts", "malformed", "phantoms")
        ),
    ],
)
def test_a_bad_run(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    bad = outcome(**changes)
    (found,) = bad.problems()
    assert problem in found
    keep(bad, tmp_path / "verdict.json")
    kept = json.loads((tmp_path / "verdict.json").read_text())
    assert (kept["passed"], kept["problems"]) == (False, [found])


def requests_of_k6(failed: int, good: int) -> dict[str, Any]:
    return {"metrics": {"http_req_failed": {"values": {"rate": 0.5, "passes": failed, "fails": good}}}}


def test_a_request_without_a_line_in_the_record_is_told() -> None:
    whole = read_answers(record("refused 503 1503", "unknown 0 1050"))
    assert outcome(answers=whole, summary=requests_of_k6(2, 4)).problems() == []
    (missing,) = outcome(answers=whole, summary=requests_of_k6(2, 5)).problems()
    assert missing.startswith("1 requests of k6 left no line")


SAID: dict[str, Any] = {"commands": {"worst_window": 9}, "writer": {"epoch": EPOCH}}  # by the service, after the drain
Plant = Callable[[list[dict[str, Any]], list[Stamp]], None]


def plant_loss(documents: list[dict[str, Any]], _stamps: list[Stamp]) -> None:
    documents.pop()


def plant_double(documents: list[dict[str, Any]], _stamps: list[Stamp]) -> None:
    documents[1]["payload"] = documents[0]["payload"]


def plant_ghost(documents: list[dict[str, Any]], _stamps: list[Stamp]) -> None:
    documents.append(document(uuid7(70)))


def plant_window(_documents: list[dict[str, Any]], stamps: list[Stamp]) -> None:
    stamps.append(Stamp(999_999_999, START_MS / 1000 + 19, "ping", 50))  # while the backlog drained


@pytest.mark.parametrize(
    ("plant", "code", "line"),
    [
        (None, 0, "lost 0, doubled 0, ghosts 0, worst window 100"),
        (plant_loss, 1, "lost 1, doubled 0, ghosts 0, worst window 100"),
        (plant_double, 1, "lost 0, doubled 1, ghosts 0, worst window 100"),
        (plant_ghost, 1, "lost 0, doubled 0, ghosts 1, worst window 100"),
        (plant_window, 1, "lost 0, doubled 0, ghosts 0, worst window 101"),
    ],
)
def test_the_command_exits_by_its_verdict(
    plant: Plant | None, code: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = stored()
    stamps = [Stamp(number * 9_000_000, START_MS / 1000 + 1, "insert", 600) for number in range(100)]
    others = [Stamp(number, START_MS / 1000 + at, "insert", 600) for number, at in ((1, -1), (2, 21))]
    if plant:
        plant(documents, stamps)
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    (tmp_path / "witness").write_text("".join(stamp.line() for stamp in (*stamps, *others)))
    store(monkeypatch, documents)
    printed = _run([str(tmp_path), "--witness", str(tmp_path / "witness")])
    assert printed.output.rstrip().splitlines()[-1] == line
    assert printed.exit_code == code
    kept = json.loads((tmp_path / verify.VERDICT).read_text())
    assert (kept["passed"], kept["verdict"]) == (code == 0, line)


def store(
    monkeypatch: pytest.MonkeyPatch, documents: list[dict[str, Any]], status: dict[str, Any] | None = None
) -> list[str]:
    """From here on MongoDB holds these documents, and the service, drained 10 s after the run, has this status. Returns
    what is asked for either."""
    asked: list[str] = []

    def each_document(uri: str) -> Iterator[dict[str, Any]]:
        asked.append(uri)
        return iter(documents)

    def get_json(url: str) -> dict[str, Any] | None:
        asked.append(url)
        return status if url.endswith("/v1/status") else None

    monkeypatch.setattr(verify, "each_document", each_document)
    monkeypatch.setattr(verify, "get_json", get_json)
    monkeypatch.setattr(verify, "wait_for_drain", lambda *_arguments: Drain(0.5, 0))
    monkeypatch.setattr(verify.time, "time", lambda: START_MS / 1000 + 20)
    monkeypatch.setattr(verify, "Console", lambda: Console(width=200))
    return asked


def test_a_writer_that_does_not_answer_after_the_drain_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    store(monkeypatch, stored())
    now, said, asked = 0.0, list[Any](), 0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def get_json(url: str) -> Any:
        nonlocal asked
        asked += url.endswith("/v1/status")
        return said[min(asked, len(said)) - 1]

    monkeypatch.setattr(verify.time, "sleep", sleep)
    monkeypatch.setattr(verify.time, "monotonic", lambda: now)
    monkeypatch.setattr(verify, "get_json", get_json)
    said = [None, {"ready": False}, {"writer": {"last_error": "no answer"}}, SAID | {"writer": {"epoch": 0}}, SAID]
    assert (_run([str(tmp_path)]).exit_code, asked, now) == (0, 5, 2.0)
    said, asked = [None], 0
    found = _run([str(tmp_path)])
    assert (found.exit_code, asked, now) == (1, 31, 17.0), "it ends"
    (tmp_path / "witness").write_text(Stamp(1, START_MS / 1000 + 1, "insert", 60_000).line())
    assert (_run([str(tmp_path), "--witness", str(tmp_path / "witness")]).exit_code, asked, now) == (0, 32, 17.0)


def test_what_is_not_named_is_taken_from_the_running_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    (tmp_path / "witness").write_text(Stamp(1, START_MS / 1000 + 1, "insert", 60_000).line())
    asked = store(monkeypatch, stored(), SAID | {"commands": {"worst_window": 101}})
    monkeypatch.setattr(verify, "find_service", lambda: here)

    here = Addresses("http://here", mongodb_uri="mongodb://here", witness_record=tmp_path / "witness")
    found = _run([str(tmp_path)], [])
    assert (found.exit_code, asked) == (0, ["http://here/v1/status", "http://here/api/stats", "mongodb://here"])
    asked.clear()
    found = _run([str(tmp_path), "--base-url", "http://named/"], [])
    assert (found.exit_code, asked) == (0, ["http://named/v1/status", "http://named/api/stats", "mongodb://here"])
    asked.clear()
    found = _run([str(tmp_path), "--mongodb-uri", "mongodb://named", "--witness", str(tmp_path / "other")], [])
    assert (found.exit_code, asked[-1], "no record at" in found.output) == (2, "mongodb://named", True)
    here = Addresses("http://here", mongodb_uri="mongodb://here")
    assert "101 commands reached MongoDB" in _run([str(tmp_path)], []).output
    here = Addresses("http://here")
    found = _run([str(tmp_path)], [])
    assert (found.exit_code, "names no address" in found.output) == (2, True)


def test_a_request_that_was_under_way_accounts_for_its_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    strangers = [document(uuid7(50 + index), index=index) for index in range(5)]
    store(monkeypatch, [*stored(), *strangers, document(uuid7(60))], SAID)
    for unknown, ghosts in ((0, 6), (1, 1)):
        line = _run([str(tmp_path), "--unknown", str(unknown)]).output.splitlines()[-1]
        assert line == f"lost 0, doubled 0, ghosts {ghosts}, worst window 9 (self-reported)"


def test_a_request_that_only_k6_counted_keeps_a_run_from_passing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    (tmp_path / verify.SUMMARY).write_text(json.dumps(requests_of_k6(0, 5)))
    store(monkeypatch, stored(), SAID)
    found = _run([str(tmp_path)])
    assert (found.exit_code, "1 requests of k6 left no line" in found.output) == (1, True)


def test_the_drain_is_waited_for_before_the_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading millions of lines takes a minute, in which the backlog would be gone before anybody looked."""
    (tmp_path / verify.ANSWERS).write_text("\n".join(record()) + "\n")
    (tmp_path / verify.SUMMARY).write_text('{"metrics": {"http_re')  # k6 was killed while it wrote
    order: list[str] = []

    def drain(*_: Any) -> Drain:
        order.append("drain")
        return Drain(0.5, 0)

    def load(path: Path) -> Answers:
        order.append("read")
        return read_answers(path.read_text().splitlines())

    monkeypatch.setattr(verify, "wait_for_drain", drain)
    monkeypatch.setattr(verify, "load_answers", load)
    monkeypatch.setattr(verify, "each_document", lambda _uri: iter(stored()))
    monkeypatch.setattr(verify, "get_json", lambda _url: None)
    found = verify.verify(
        tmp_path,
        "http://service",
        "mongodb://store",
        limit=None,
        console=Console(quiet=True),
        drained=lambda: order.append("drained"),
    )
    assert (order, found.summary, found.problems()) == (["drain", "drained", "read"], {}, [])


@pytest.mark.parametrize("cut", [-1, -30, -45, -61])
def test_a_record_without_an_end_is_judged_and_does_not_pass(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k6 was killed, or the disk was full: what it had asked since may be stored, or not."""
    (tmp_path / verify.ANSWERS).write_text("\n".join(record())[:cut])
    os.utime(tmp_path / verify.ANSWERS, (START_MS / 1000 + 9, START_MS / 1000 + 9))
    monkeypatch.setattr(verify, "wait_for_drain", lambda *_arguments: Drain(0.5, 0))
    monkeypatch.setattr(verify, "each_document", lambda _uri: iter(stored()))
    monkeypatch.setattr(verify, "get_json", lambda _url: None)
    found = verify.verify(tmp_path, "http://service", "mongodb://store", limit=None, console=Console(quiet=True))
    assert (found.answers.requests, found.answers.duration_s) == (4, 9.0)
    assert found.problems() == ["k6 did not come to its end, so its record has none: requests may be missing from it"]


def test_no_record_is_no_verdict(tmp_path: Path) -> None:
    printed = _run([str(tmp_path)])
    assert (printed.exit_code, "no verdict" in printed.output) == (2, True)


SERVICE = ("--base-url", "http://service", "--mongodb-uri", "mongodb://store")


def _run(arguments: list[str], service: Sequence[str] = SERVICE) -> Any:
    import typer

    command = typer.Typer()
    command.command()(verify.main)
    return CliRunner().invoke(command, [*arguments, *service])
