"""k6's half of the judgement, with the real k6: what each kind of answer becomes in its record."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from cluster.embedded import ports
from cluster.embedded.steps import Steps
from cluster.embedded.toolchain import BuildFailed
from cluster.embedded.toolchain import k6 as find_k6
from loadtests import preflight, scenario
from loadtests.answers import Answers, load_answers
from loadtests.generator import THRESHOLDS_FAILED, Load, inspect, start_k6, thresholds_of
from loadtests.service import backlog_of, writer_of
from tests.conftest import missing

SECONDS = 2.0
ANSWER_S = 0.02  # of the server, so that users who never think ask a hundred times and not thousands
KINDS = ("good", "503", "504", "429", "499", "no success", "half a JSON", "cut", "reset")
ACCEPTED, REFUSED = {"good"}, {"503", "429"}
UNKNOWN = set(KINDS) - ACCEPTED - REFUSED
RESET = struct.pack("ii", 1, 0)  # linger: on, no time


@pytest.fixture(scope="session")
def k6() -> str:
    try:
        return str(find_k6(Steps(Console(stderr=True))))
    except BuildFailed as error:
        missing(str(error))


class Stub(BaseHTTPRequestHandler):
    """Answers each kind in turn, every one on a connection of its own: on a used one Go would ask again unseen."""

    served: Counter[str]
    turns: Iterator[int]
    statuses: list[tuple[int, Any]]

    def do_GET(self) -> None:
        if self.path == "/api/data":
            self.answer(json.dumps({"status": "success", "reads": [], "writes": [str(uuid4()) for _ in range(5)]}), 200)
        elif self.path == "/readyz":
            self.send(200, "{}")
        else:  # the last one for ever
            self.served["status"] += 1
            code, status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            self.send(code, json.dumps(status, indent=1))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(json.dumps({"id": str(uuid4()), "state": "stored"}), 201)

    def answer(self, good: str, status: int) -> None:
        kind = KINDS[next(self.turns) % len(KINDS)]
        self.served[kind] += 1
        time.sleep(ANSWER_S)
        if kind.isdigit():
            self.send(int(kind), "{}")
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()
        else:
            bodies = {"no success": '{"status": "error"}', "half a JSON": good[: len(good) // 2]}
            self.send(status, bodies.get(kind, good), announced=9 if kind == "cut" else 0)

    def send(self, status: int, body: str, announced: int = 0) -> None:
        """With so many bytes announced that never come."""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) + announced))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A connection that was reset is no news here."""


@pytest.fixture
def stub() -> Iterator[tuple[str, Counter[str]]]:
    """Its address, and how many answers of each kind it gave."""
    served: Counter[str] = Counter()
    statuses = [(200, {"backlog": {"writes": 7, "bytes": 9}, "writer": {"epoch": 2}})]
    with serving(type("Counting", (Stub,), {"served": served, "turns": count(), "statuses": statuses})) as url:
        yield url, served


@contextmanager
def serving(stub: type[Stub]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(k6: str, load: Load) -> tuple[Answers, dict[str, Any]]:
    """What the judge reads of a run in which requests failed."""
    answers, summary = load.out / "answers.log", load.out / "summary.json"
    process = start_k6(k6, load, 5, answers, summary, load.out / "k6.log")
    try:
        assert process.wait(60) == THRESHOLDS_FAILED, (load.out / "k6.log").read_text()
    finally:
        process.kill()
    return load_answers(answers), json.loads(summary.read_text())


def told(served: Counter[str], kinds: set[str]) -> int:
    assert set(served) - {"status"} == set(KINDS), "not every kind had its turn: the test shows nothing"
    return sum(served[kind] for kind in kinds)


def test_reads_and_writes_as_they_are_answered(k6: str, stub: tuple[str, Counter[str]], tmp_path: Path) -> None:
    url, served = stub
    answers, summary = run(k6, Load("flood", (url,), tmp_path, users=3, seconds=SECONDS))
    assert answers.requests == told(served, ACCEPTED)
    assert answers.refused == told(served, REFUSED)
    assert answers.unknown == told(served, UNKNOWN)
    assert answers.writes == 5 * answers.requests == len(answers.accepted)
    assert len(answers.ends_s) == len(answers.took_ms) == answers.requests
    assert len(answers.failed_ends_s) == answers.refused + answers.unknown
    assert backlog_of(answers.status_at_stop) == 7
    assert (writer_of(answers.status_at_start), writer_of(answers.status_at_stop)) == (2, 2)
    assert SECONDS <= answers.duration_s < SECONDS + 30
    assert thresholds_of(summary)


BEGUN, NOT_BEGUN = ({"ready": True, "writer": {"epoch": epoch}} for epoch in (3, 0))
A_BASELINES = {"backlog": {"writes": 0}}
NO_ANSWER = {"ready": True, "writer": {"last_error": "the MongoWriter does not answer"}}
NOT_TOLD = {"ready": False, "mongodb": "unknown", "redis": "unknown"}


@pytest.mark.parametrize(
    ("statuses", "asked", "told"),
    [
        ([(200, NOT_BEGUN), (503, {}), (200, NO_ANSWER), (200, NOT_TOLD), (200, BEGUN)], [5], BEGUN),
        ([(200, NOT_BEGUN)], [3, 4], NOT_BEGUN),
        ([(404, {})], [1], None),
        ([(200, A_BASELINES)], [1], A_BASELINES),
        ([(200, "hello")], [1], "hello"),
    ],
    ids=["begins", "never begins", "no such page", "a baseline", "another page"],
)
def test_the_load_waits_for_a_writer_where_there_will_be_one(
    statuses: list[tuple[int, Any]], asked: list[int], told: Any, k6: str, tmp_path: Path
) -> None:
    shutil.copytree(scenario.FOLDER / "lib", tmp_path / "lib")
    patience = 5000 if told == BEGUN else 1500
    record = (tmp_path / "lib/record.js").read_text()
    assert record.count("WRITER_WAIT_MS = 15000") == 1
    (tmp_path / "lib/record.js").write_text(record.replace("WRITER_WAIT_MS = 15000", f"WRITER_WAIT_MS = {patience}"))
    (tmp_path / "begin.js").write_text(
        "import { begin } from './lib/record.js'; export const setup = () => begin(5); export default () => {};"
    )
    answers, questions = tmp_path / "answers.log", Counter[str]()
    with serving(type("Telling", (Stub,), {"statuses": list(statuses), "served": questions})) as url:
        command = [k6, "run", "--quiet", "--no-usage-report", "--address", "", "--env", f"BASE_URL={url}"]
        command += ["--console-output", str(answers), "--log-format", "raw", str(tmp_path / "begin.js")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert load_answers(answers).status_at_start == told
    assert questions["status"] in asked


def test_acknowledged_writes_and_an_address_where_nobody_listens(
    k6: str, stub: tuple[str, Counter[str]], tmp_path: Path
) -> None:
    url, served = stub
    nobody = f"http://127.0.0.1:{ports.free_port(0)}"
    answers, summary = run(k6, Load("ackdb", (url, nobody), tmp_path, seconds=SECONDS, rate=60))
    assert answers.writes_per_request == 1
    assert answers.writes == answers.requests == told(served, ACCEPTED)
    assert answers.unknown == told(served, UNKNOWN)
    asked = summary["metrics"]["http_req_failed"]["values"]
    not_connected = asked["passes"] + asked["fails"] - told(served, set(KINDS))
    assert not_connected > 0
    assert answers.refused == told(served, REFUSED) + not_connected


@pytest.mark.parametrize("name", scenario.names())
def test_k6_takes_every_scenario(name: str, k6: str, tmp_path: Path) -> None:
    plan = inspect(k6, Load(name, ("http://127.0.0.1:1",), tmp_path))
    assert plan.has_thresholds
    assert plan.seconds > 0
    assert plan.users >= max(step.users for step in plan.steps) > 0
    quick = inspect(k6, Load(name, ("http://127.0.0.1:1",), tmp_path, quick=True))
    assert [step.users for step in quick.steps] == [step.users for step in plan.steps]
    assert quick.seconds < plan.seconds


def test_who_does_not_listen_where_is_asked_is_not_looked_at() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert list(preflight.file_limits([os.getpid()], f"http://127.0.0.1:{port}")) == [os.getpid()]
    assert preflight.file_limits([os.getpid()], f"http://127.0.0.1:{port}") == {}
