"""What the laboratory makes of the way in which k6 ended, and that it ends k6; k6 itself is a double."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from loadtests import compare, facts, k6_run, laboratory, samples, stored, trial_page, verify
from loadtests import throughput as unjudged
from loadtests.__main__ import app, leave_by_exception
from loadtests.answers import read_answers
from loadtests.findings import generator_of
from loadtests.generator import GeneratorError, Load, Threshold
from loadtests.laboratory import Target, Trial, check_sources, conduct
from loadtests.processes import Usage, Watch
from loadtests.samples import Sample, Sampler
from loadtests.scenario import Plan, Step, plan_of
from loadtests.service import Drain, ServiceError
from loadtests.throughput import throughput, warm_up
from loadtests.window import Stamp

DURING = datetime.fromtimestamp(1001, UTC)
PLAN = Plan("flood", (Step("flood", 0.0, 10.0, 64),), 64, False)


class EndedK6:
    """A process that has ended with a code."""

    pid = os.getpid()

    def __init__(self, code: int) -> None:
        self._code = code

    def wait(self, _timeout_s: float) -> int:
        return self._code

    def poll(self) -> int:
        return self._code


class RunningK6(EndedK6):
    """One that runs until it is killed; while it is waited for, something happens."""

    def __init__(self, happens: BaseException) -> None:
        self._happens = happens
        self.is_killed = False

    def wait(self, _timeout_s: float) -> int:
        raise self._happens

    def poll(self) -> None:  # type: ignore[override]
        return None

    def kill(self) -> None:
        self.is_killed = True


def k6_ends(
    monkeypatch: pytest.MonkeyPatch, code: int, made: int = 0, failed: int = 0, words: str = "", record: str = ""
) -> None:
    """From here on k6 makes so many requests, leaves this record, says these words and ends with this code."""

    def start(_k6: str, _load: Load, _users: int, answers: Path, summary: Path, log: Path) -> EndedK6:
        answers.write_text(record)
        rate = {"rate": failed / max(made, 1), "passes": failed, "fails": made - failed}
        metrics: dict[str, Any] = {"http_reqs": {"values": {"count": made}}, "http_req_failed": {"values": rate}}
        if made:
            summary.write_text(json.dumps({"metrics": metrics}))
        log.write_text(words)
        return EndedK6(code)

    monkeypatch.setattr(unjudged, "inspect", lambda *_: PLAN)
    monkeypatch.setattr(k6_run, "start_k6", start)


def load(folder: Path) -> Load:
    return Load("flood", ("http://service",), folder)


def test_a_closed_loop_tells_its_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 0, made=500)
    assert throughput(load(tmp_path), Console(quiet=True), "k6").per_s == 50.0


def test_answers_that_came_after_the_load_are_no_part_of_the_rate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = '1.0 {"status":"success","reads":[],"writes":["%s"]}'
    lines = [f"{ms} {good % ms}" for ms in (1000, 10_999, 11_000)]
    k6_ends(monkeypatch, 0, made=5, record="\n".join(["started 1000 1", *lines, "stopped 11000 null"]))
    assert throughput(load(tmp_path), Console(quiet=True), "k6").per_s == 0.2


def test_where_nothing_was_answered_there_is_no_capacity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 0, made=5, record="started 1000 1\nstopped 11000 null")
    with pytest.raises(GeneratorError, match="http://service answered nothing within 10 s"):
        throughput(load(tmp_path), Console(quiet=True), "k6")


def test_a_rate_with_failures_is_no_capacity_but_warms_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 99, made=500, failed=7)
    with pytest.raises(GeneratorError, match="7 of 500 requests to http://service failed"):
        throughput(load(tmp_path), Console(quiet=True), "k6")
    warm_up(load(tmp_path), Console(quiet=True), "k6")


def test_ctrl_c_in_a_warm_up_ends_the_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 105, made=500)
    with pytest.raises(KeyboardInterrupt):
        warm_up(load(tmp_path), Console(quiet=True), "k6")


@pytest.mark.parametrize(("code", "reason"), [(108, "not ready: readyz"), (107, "k6 ended with 107: readyz")])
def test_a_k6_that_did_not_come_to_its_end_measured_nothing(
    code: int, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    k6_ends(monkeypatch, code, made=500, words="readyz answered 503")
    with pytest.raises(GeneratorError, match=reason):
        warm_up(load(tmp_path), Console(quiet=True), "k6")


def test_a_closed_loop_without_figures_measured_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 0)
    with pytest.raises(GeneratorError, match="no figures"):
        throughput(load(tmp_path), Console(quiet=True), "k6")


def test_a_report_of_the_run_before_is_not_left_for_one_of_this(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    k6_ends(monkeypatch, 0, made=500)
    (tmp_path / "report.html").write_text("Passed")
    throughput(load(tmp_path), Console(quiet=True), "k6")
    assert not (tmp_path / "report.html").exists()


def test_k6_does_not_outlive_whoever_started_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process = RunningK6(SystemExit(143))
    k6_ends(monkeypatch, 0)
    monkeypatch.setattr(k6_run, "start_k6", lambda *_: process)
    with pytest.raises(SystemExit):
        warm_up(load(tmp_path), Console(quiet=True), "k6")
    assert process.is_killed


def test_samples_are_on_disk_before_anybody_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    k6_ends(monkeypatch, 0)
    with k6_run.k6_run("k6", load(tmp_path), PLAN, Watch(None), None, Console(quiet=True)) as (_code, sampler):
        sampler.stop()
        lines = (tmp_path / k6_run.SAMPLES).read_text().splitlines()
    assert len(lines) == len(sampler.seen) > 0


def test_a_sampler_that_cannot_go_on_says_since_when_nobody_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_blind = threading.Event()

    def blinded(self: Sampler) -> Sample:
        if len(self.seen) == 3:
            is_blind.set()
            raise OSError("no space left")
        return Sample(100.0 + 4 * len(self.seen), Usage(machine_busy=1.0))

    def outlast(_k6: EndedK6, _timeout_s: float) -> int:
        assert is_blind.wait(30.0)
        return 0

    monkeypatch.setattr(EndedK6, "wait", outlast)
    monkeypatch.setattr(samples, "PERIOD_S", 0.0)
    monkeypatch.setattr(Sampler, "take", blinded)
    k6_ends(monkeypatch, 0, made=500)
    generator = throughput(load(tmp_path), Console(quiet=True), "k6").generator
    assert generator.others_cores == 0.0, "the service, which is not watched here, is no stranger"
    assert generator.saturated == "not watched after 8 s (OSError: no space left), so it may have been saturated"


def test_plots_go_on_to_the_end_of_the_load_when_the_samples_do_not(tmp_path: Path) -> None:
    answers = read_answers(["started 1000000", "stopped 1060000 null"])
    outcome: Any = SimpleNamespace(answers=answers, limit=None)
    target, nothing = Target("ours", ("http://service",), "mongodb://store"), generator_of([], 2, 0.0, 0, 0)
    seen = [Sample(1000.0, Usage()), Sample(1008.0, Usage())]
    trial = Trial(load(tmp_path), target, PLAN, 0, outcome, {}, seen, nothing, [], [])
    assert {plot.x_max for plot in trial_page.plots_of(trial)} == {60.0}


@pytest.mark.parametrize(("seconds", "told"), [(599.0, False), (600.0, True)])
def test_the_report_of_a_long_run_says_why_k6_takes_more_and_more(seconds: float, told: bool, tmp_path: Path) -> None:
    outcome: Any = SimpleNamespace(answers=read_answers(["started 1000", "stopped 61000 null"]), limit=None)
    target, nothing = Target("ours", ("http://service",), "mongodb://store"), generator_of([], 2, 0.0, 0, 0)
    plan = Plan("flood", (Step("flood", 0.0, seconds, 64),), 64, False, has_thresholds=True)
    trial = Trial(load(tmp_path), target, plan, 0, outcome, {}, [], nothing, [], [])
    (cpu,) = (plot for plot in trial_page.plots_of(trial) if plot.title == "CPU by part")
    assert (trial_page.SORTED in cpu.note) is told


@pytest.mark.parametrize(
    ("redis", "limit", "warned"),
    [
        ({"Redis": "7.0.1, appendfsync always"}, 100, ""),
        ({"Redis": "7.0.1, appendfsync no"}, 100, "Redis ran with appendfsync no:"),
        ({"Redis": "7.0.1, appendonly no"}, 100, "Redis ran with appendonly no:"),
        ({"Redis": "7.0.1, appendfsync no"}, None, ""),  # a baseline
        ({}, 100, ""),  # a service elsewhere, whose Redis nobody here can ask
    ],
)
def test_a_redis_that_does_not_sync_is_told_before_the_figures(
    redis: dict[str, str], limit: int | None, warned: str, tmp_path: Path
) -> None:
    target = Target("ours", ("http://service",), "mongodb://store", tmp_path / "witness.record", limit=limit)
    watched = generator_of([Sample(1.0, Usage())], 2, 1.0, 0, 0)
    outcome: Any = SimpleNamespace(answers=read_answers([]))
    trial = Trial(load(tmp_path), target, PLAN, 0, outcome, {}, [], watched, [], [])
    assert [told[: len(warned)] for told in trial_page.warnings_of(trial, redis)] == ([warned] if warned else [])


@pytest.mark.parametrize(
    ("host", "run_id", "strangers", "service_us"),
    [("127.0.0.1", "a-run", 1, 50_000), ("127.0.0.1", None, 0, None), ("elsewhere", None, 1, None)],
)
def test_a_service_whose_processes_are_not_known_is_no_stranger(
    host: str, run_id: str | None, strangers: int, service_us: float | None, tmp_path: Path
) -> None:
    url, answers = f"http://{host}:8080", read_answers(["started 1000000", "stopped 1004000 null"])
    answers.requests = 40
    seen = [Sample(1000.0 + at, Usage({"k6": 0.1, "Replicas": 0.5}, machine_busy=1.0)) for at in range(5)]
    outcome, sampler = SimpleNamespace(answers=answers, summary={}), SimpleNamespace(seen=seen, unwatched=None)
    target = Target("ours", (url,), "mongodb://store", run_id=run_id)
    trial = laboratory._trial(Load("flood", (url,), tmp_path), target, PLAN, 0, outcome, sampler)  # type: ignore[arg-type]
    assert len(trial.generator.warnings()) == strangers
    assert trial.generator.service_us_per_request == service_us
    assert (trial.generator.share_of_used is None) == (service_us is None)


def test_lag_counts_while_load_is_offered(tmp_path: Path) -> None:
    """What grows while the last answers come, or the backlog is poured, is no lag under load."""
    answers = read_answers(["started 1000000", "stopped 1090000 null"])
    outcome: Any = SimpleNamespace(answers=answers, figures=dict, problems=list)
    target = Target("ours", ("http://service",), "mongodb://store")
    k6 = generator_of([Sample(1.0, Usage())], 2, 1.0, 0, 0)
    lags = {999.0: 9.0, 1000.0: 8.0, 1002.0: 0.2, 1005.0: 0.4, 1008.0: None, 1011.0: 7.0}
    seen = [Sample(at_s, Usage(), lag_s=lag_s) for at_s, lag_s in lags.items()]
    trial = Trial(load(tmp_path), target, PLAN, 0, outcome, {}, seen, k6, [], [])
    assert trial.lag_most_s() == 0.4
    (told,) = trial.warnings()
    assert told.startswith("1 of 3 looks at the service under load found no lag"), "too busy for its status"
    assert trial_page.warnings_of(trial, {})[0] == told
    assert compare._round("ours", 64, trial).warnings == [told]
    trial.target = replace(trial.target, limit=None)
    assert trial.warnings() == [], "nothing is demanded of a baseline"
    trial.samples = []
    assert trial.lag_most_s() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_laboratory_passes_through_everything_it_started(number: signal.Signals) -> None:
    before = {known: signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(number, signal.SIG_DFL)  # whoever runs these tests may ignore it, as nohup does
        leave_by_exception()
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == 128 + number
        signal.signal(number, signal.SIG_IGN)
        leave_by_exception()
        assert signal.getsignal(number) is signal.SIG_IGN  # nohup
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


def test_what_the_judge_will_need_is_looked_for_before_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def silent(_uri: str) -> None:
        raise stored.StoreError("MongoDB does not answer: refused")

    target = Target("ours", ("http://service",), "mongodb://store", tmp_path / "witness.record")
    monkeypatch.setattr(stored, "check", lambda _uri: None)
    with pytest.raises(ServiceError, match="no record of a witness"):
        check_sources(target)
    (tmp_path / "witness.record").touch()
    check_sources(target)
    monkeypatch.setattr(stored, "check", silent)
    with pytest.raises(ServiceError, match="--mongodb-uri"):
        check_sources(target)


@pytest.mark.parametrize(
    ("code", "summary", "problems"),
    [
        (0, {"metrics": {"checks": {}}}, []),
        (99, {"metrics": {"checks": {}}}, ["k6 missed a threshold, and its figures do not say which"]),
        (0, {}, ["k6 left no figures, so its thresholds were not judged"]),
        (101, {"metrics": {"checks": {}}}, ["k6 ended with 101"]),
        (-9, {}, ["k6 ended with -9", "k6 left no figures, so its thresholds were not judged"]),
    ],
)
def test_a_trial_whose_record_is_not_whole_does_not_pass(
    code: int, summary: dict[str, Any], problems: list[str], tmp_path: Path
) -> None:
    outcome: Any = SimpleNamespace(problems=list)
    target = Target("ours", ("http://service",), "mongodb://store")
    nothing = generator_of([], 2, 0.0, 0, 0)
    trial = Trial(load(tmp_path), target, PLAN, code, outcome, summary, [], nothing, [], [])
    assert trial.problems() == problems


def test_a_threshold_that_was_missed_keeps_a_trial_from_passing(tmp_path: Path) -> None:
    thresholds = [
        Threshold("checks", "rate>0.99", False, 0.98),
        Threshold("http_req_failed", "rate<0.01", True, 0.0),
        Threshold("http_req_duration", "p(95)<500", False, None),
    ]
    outcome: Any = SimpleNamespace(problems=list)
    target, nothing = Target("ours", ("http://service",), "mongodb://store"), generator_of([], 2, 0.0, 0, 0)
    trial = Trial(load(tmp_path), target, PLAN, 99, outcome, {"metrics": {"x": {}}}, [], nothing, thresholds, [])
    assert trial.problems() == [
        "threshold checks rate>0.99 was missed, measured 0.98",
        "threshold http_req_duration p(95)<500 was missed",
    ]


@pytest.mark.parametrize(("judged", "problems"), [({"rate==0": {"ok": True}}, 0), ({}, 1)])
def test_a_k6_that_judged_no_threshold_of_the_scenario_proved_nothing(
    judged: dict[str, Any], problems: int, tmp_path: Path
) -> None:
    plan = plan_of("flood", {"maxVUs": 64, "scenarios": {}, "thresholds": {"http_req_failed": ["rate==0"]}})
    summary = {"metrics": {"http_reqs": {}, "http_req_failed": {"thresholds": judged}}}
    outcome: Any = SimpleNamespace(problems=list)
    target, nothing = Target("ours", ("http://service",), "mongodb://store"), generator_of([], 2, 0.0, 0, 0)
    trial = Trial(load(tmp_path), target, plan, 0, outcome, summary, [], nothing, [], [])
    assert len(trial.problems()) == problems


# ------------------------------------------------------------------------------------------ a trial from end to end


def staged(monkeypatch: pytest.MonkeyPatch, folder: Path, stored_ids: str, code: int = 0) -> tuple[Path, list[str]]:
    """From here on `a` is accepted, two commands reach MongoDB in one second, and these documents are there. Returns
    the witness' record, and a list that tells when MongoDB was read."""
    order: list[str] = []

    def each_document(_uri: str) -> Iterator[dict[str, Any]]:
        order.append("judged")
        for identity in stored_ids:
            payload = identity * 512
            yield {"_id": identity, "type": "write", "index": 0, "payload": payload, "timestamp": DURING}

    record = ["started 1000000 1", '1001000 1.0 {"status":"success","reads":[],"writes":["a"]}', "stopped 1010000 null"]
    k6_ends(monkeypatch, code, made=1, record="\n".join(record) + "\n")
    monkeypatch.setattr(laboratory, "inspect", lambda *_: PLAN)
    monkeypatch.setattr(laboratory, "is_ready", lambda *_: True)
    monkeypatch.setattr(laboratory.preflight, "lacks", lambda *_: [])
    monkeypatch.setattr(stored, "check", lambda _uri: None)
    monkeypatch.setattr(Sampler, "take", lambda _self: Sample(1011.0, Usage()))
    monkeypatch.setattr(verify, "get_json", lambda _url: None)
    monkeypatch.setattr(verify, "wait_for_drain", lambda *_: Drain(0.5, 0))
    monkeypatch.setattr(verify, "each_document", each_document)
    witness = folder / "witness.record"
    witness.write_text("".join(Stamp(at, 1001.0, "insert", 900).line() for at in (1, 2)))
    return witness, order


def conducted(monkeypatch: pytest.MonkeyPatch, folder: Path, stored_ids: str, limit: int, code: int = 0) -> Trial:
    witness, order = staged(monkeypatch, folder, stored_ids, code)
    target = Target("ours", ("http://service",), "mongodb://store", witness, limit=limit)
    trial = conduct(load(folder), target, Console(quiet=True), "k6", until=lambda: order.append("struck"))
    assert order == ["struck", "judged"]
    return trial


def test_only_a_k6_that_was_cut_off_has_asked_what_nobody_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else each of its users would excuse a ghost."""
    finished = conducted(monkeypatch, tmp_path, "ab", limit=2)
    assert finished.problems() == ["1 ghosts, for example b"]
    assert conducted(monkeypatch, tmp_path, "ab", limit=2, code=105).problems() == ["interrupted"]


@pytest.mark.parametrize(
    ("stored_ids", "limit", "problems"),
    [
        ("a", 2, []),
        ("", 2, ["1 lost, for example a"]),
        ("a", 1, ["2 commands reached MongoDB in one second, 1 are allowed"]),
    ],
)
def test_the_report_says_of_a_trial_what_the_judge_said(
    stored_ids: str, limit: int, problems: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial = conducted(monkeypatch, tmp_path, stored_ids, limit)
    page, told = trial_page.page_of(trial, {}), trial_page.json_of(trial, {})
    passed = not problems
    verdict = f"{'Passed' if passed else 'Failed'}: {trial.outcome.final_line()}"
    assert (page.passed, page.verdict, page.reasons) == (passed, verdict, problems)
    assert (told["passed"], told["problems"]) == (passed, problems)
    assert trial_page.NO_WITNESS not in told["warnings"]
    trial.target = replace(trial.target, witness_record=None)
    assert trial_page.NO_WITNESS in trial_page.warnings_of(trial, {})


@pytest.mark.parametrize(
    ("stored_ids", "limit", "code", "exit_code"), [("a", 2, 0, 0), ("", 2, 0, 1), ("a", 1, 0, 1), ("a", 2, 105, 1)]
)
def test_the_command_exits_by_all_that_the_trial_shows(
    stored_ids: str, limit: int, code: int, exit_code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    witness, _order = staged(monkeypatch, tmp_path, stored_ids, code)
    monkeypatch.setattr("loadtests.__main__.find_k6", lambda: "k6")
    monkeypatch.setattr(facts, "where", lambda _k6: {})
    monkeypatch.setattr(facts, "servers", lambda *_: {})
    named = ["--base-url", "http://service", "--mongodb-uri", "mongodb://store", "--witness", str(witness)]
    done = CliRunner().invoke(app, ["flood", *named, "--limit", str(limit), "--out", str(tmp_path)])
    assert done.exit_code == exit_code, done.output
    assert json.loads((tmp_path / "report.json").read_text())["passed"] == (exit_code == 0)
    assert f"lost {1 - len(stored_ids)}, doubled 0, ghosts 0, worst window 2" in done.output


@pytest.mark.parametrize(
    "words",
    [["--mongodb-uri", "mongodb://u:a@b:c/@h:1/?x=y"], ["--mongodb-uri=mongodb://u:a@b:c@h:1/?x=y"],
     ["--mongodb-uri=mongodb://u@h:1/?x=y&tlsCertificateKeyFilePassword=a@b:c"], ["--out", "a token=here"]],
)  # fmt: skip
def test_a_report_publishes_no_password(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["loadtests", "flood", *words])
    monkeypatch.setattr(facts, "_said", lambda _command: "")
    told = facts.where("no-k6")["command"]
    assert told.startswith("python -m loadtests flood ")
    assert ("a@b:c" in told, "h:1/?x=y" in told) == (False, "--out" not in words)
    assert ("a token=here" in told) == ("--out" in words)


def test_the_uri_with_its_password_need_not_stand_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("LOADTESTS_MONGODB_URI", "mongodb://u:secret@h")
    monkeypatch.setattr("loadtests.__main__.find_k6", lambda: "k6")

    def conduct(_load: Load, target: Target, *_: object) -> Trial:
        asked.append(target.mongodb_uri)
        raise GeneratorError("enough")

    monkeypatch.setattr("loadtests.__main__.conduct", conduct)
    CliRunner().invoke(app, ["flood", "--base-url", "http://service", "--out", str(tmp_path)])
    assert asked == ["mongodb://u:secret@h"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["[/x]"], "there is no scenario '[/x]'"),
     (["flood", "--base-url", ",", "--mongodb-uri", "mongodb://h"], "no address of the service's own")],
)  # fmt: skip
def test_what_nobody_can_ask_for_has_no_verdict_and_a_reason(words: list[str], reason: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", *words, "--out", str(tmp_path)])
    assert (done.exit_code, reason in done.output) == (2, True), done.output


def test_an_address_with_a_password_is_refused_before_a_report_names_it(tmp_path: Path) -> None:
    words = ["--base-url", "http://service,http://u:secret@service", "--mongodb-uri", "mongodb://h", "--out"]
    done = CliRunner().invoke(app, ["flood", *words, str(tmp_path)])
    assert done.exit_code != 0
    assert "--base-url takes no user and no password" in done.output
    assert "secret" not in done.output
