"""The runbook "Dead letters grow" of docs/operations.md, step by step and as it is written there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from loadtests.window import read_record, worst_window
from tests.acceptance.service import ROOT, Service

POISON = 120


def cluster(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What an operator types."""
    command = [sys.executable, "-m", "cluster", "dead-letters", *arguments]
    nobody = subprocess.DEVNULL
    return subprocess.run(
        command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=300, stdin=nobody
    )


@contextmanager
def collection(service: Service, name: str) -> Iterator[Collection[dict[str, Any]]]:
    """As MongoDB itself sees it, past the witness."""
    with MongoClient[dict[str, Any]](service.addresses["mongodb_uri"]) as client:
        database, _, rest = name.partition(".")
        yield client[database][rest]


def poison(service: Service, name: str) -> set[str]:
    """Writes that a unique index refuses, with good ones between them; returns the ids of all."""
    with collection(service, name) as documents:
        documents.create_index("email", unique=True, name="email_1")
    path = f"/v1/{name.replace('.', '/', 1)}"
    first = service.request("POST", f"{path}?ack=db", b'{"email": "a@b"}', Content_Type="application/json")
    assert first[0] == 201, first
    emails = [{"email": f"{i}@b" if i % 4 == 0 else "a@b"} for i in range(POISON * 4 // 3)]
    body = json.dumps(emails).encode()
    status, _, answer = service.request("POST", f"{path}/batch", body, Content_Type="application/json")
    assert (status, answer["accepted"]) == (202, len(emails))
    return {item["id"] for item in answer["items"]} | {first[2]["id"]}


def letters(service: Service, name: str) -> list[dict[str, Any]]:
    done = cluster(service, "list", "--json", "--limit", "10000", "--namespace", name)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stored(service: Service, name: str) -> list[str]:
    with collection(service, name) as documents:
        return sorted(document["_id"] for document in documents.find())


def mend(service: Service, name: str) -> None:
    with collection(service, name) as documents:
        documents.drop_index("email_1")


@pytest.fixture
def name() -> str:
    return f"shop.accounts{uuid4().hex[:8]}"


def test_the_runbook_dead_letters_grow(service: Service, name: str) -> None:
    other = f"{name}.codes"
    before = service.get("/v1/status")[2]["dead_letters"]
    ids, others = poison(service, name), poison(service, other)
    service.eventually(lambda: service.get("/v1/status")[2]["dead_letters"] == before + 2 * POISON, 90)
    assert len(stored(service, name)) == len(ids) - POISON

    table = cluster(service, "list", "--namespace", name)
    assert "E11000" in table.stdout
    one = letters(service, name)[0]
    shown = json.loads(cluster(service, "show", one["id"]).stdout)
    assert shown["body"] == {"_id": one["document_id"], "email": "a@b"}

    in_vain = cluster(service, "replay", one["id"])  # the cause is not mended yet
    assert (in_vain.returncode, in_vain.stdout) == (0, "Replayed 1.\n")
    service.eventually(lambda: one["id"] not in [letter["id"] for letter in letters(service, name)], 30)
    service.eventually(lambda: len(letters(service, name)) == POISON, 30)

    mend(service, name)
    done = cluster(service, "replay", "--namespace", name, "--reason", "e11000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Replayed {POISON}" in done.stdout
    service.eventually(lambda: stored(service, name) == sorted(ids), 60)
    assert letters(service, name) == []
    assert len(letters(service, other)) == POISON, "the filter means no others"

    refused = cluster(service, "discard", "--namespace", other)
    assert (refused.returncode, f"Discard {POISON} dead letters?" in refused.stderr) == (1, True)
    assert cluster(service, "discard", "--namespace", other, "--yes").returncode == 0
    assert letters(service, other) == []
    assert len(stored(service, other)) == len(others) - POISON
    service.eventually(lambda: service.get("/v1/status")[2]["dead_letters"] == before, 10)
    record = read_record(Path(service.addresses["witness_record"]))
    assert 0 < worst_window([stamp.monotonic_ns for stamp in record])[0] <= 100


def test_a_replay_goes_on_through_the_death_of_a_buffer_and_doubles_nothing(service: Service, name: str) -> None:
    ids = poison(service, name)
    service.eventually(lambda: len(letters(service, name)) == POISON, 90)
    mend(service, name)
    victim: psutil.Process = service.actor("BufferActor")
    victim.kill()
    done = cluster(service, "replay", "--namespace", name)
    assert done.returncode == 0, done.stdout + done.stderr
    service.eventually(lambda: stored(service, name) == sorted(ids), 60)
    service.eventually(lambda: letters(service, name) == [], 30)
