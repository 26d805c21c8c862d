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


def poison(service: Service, name: str) -> tuple[set[str], set[str]]:
    """Writes that a unique index refuses, with good ones between them: the ids of all, and of the refused ones.

    Returns when each of them is decided. FerretDB does not say which index a duplicate violates, so there a good write
    that is sent twice becomes a letter too.
    """
    with collection(service, name) as documents:
        documents.create_index("email", unique=True, name="email_1")
    path = f"/v1/{name.replace('.', '/', 1)}"
    first = service.request("POST", f"{path}?ack=db", b'{"email": "a@b"}', Content_Type="application/json")
    assert first[0] == 201, first
    emails = [f"{i}@b" if i % 4 == 0 else "a@b" for i in range(160)]
    body = json.dumps([{"email": email} for email in emails]).encode()
    status, _, answer = service.request("POST", f"{path}/batch", body, Content_Type="application/json")
    assert (status, answer["accepted"]) == (202, len(emails))
    ids = [item["id"] for item in answer["items"]]
    refused = {id_ for id_, email in zip(ids, emails, strict=True) if email == "a@b"}
    service.eventually(lambda: refused <= {letter["document_id"] for letter in letters(service, name)}, 120)
    service.eventually(lambda: service.told("backlog", "writes") == 0, 60)
    return {first[2]["id"], *ids}, refused


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
    before = service.told("dead_letters")
    (ids, refused), (others, _) = poison(service, name), poison(service, other)
    found, of_others = letters(service, name), letters(service, other)
    service.eventually(lambda: service.told("dead_letters") == before + len(found) + len(of_others), 30)
    assert set(stored(service, name)) == ids - refused

    assert "E11000" in cluster(service, "list", "--namespace", name).stdout
    one = next(letter for letter in found if letter["document_id"] in refused)
    shown = json.loads(cluster(service, "show", one["id"]).stdout)
    assert shown["body"] == {"_id": one["document_id"], "email": "a@b"}

    in_vain = cluster(service, "replay", one["id"])  # the cause is not mended yet
    assert (in_vain.returncode, in_vain.stdout) == (0, "Replayed 1.\n")
    service.eventually(lambda: came_back(one, letters(service, name)), 60)

    mend(service, name)
    replay_until_all_is_well(service, name, len(found))
    assert stored(service, name) == sorted(ids)
    assert len(letters(service, other)) == len(of_others), "the filter means no others"

    asked = cluster(service, "discard", "--namespace", other)
    assert (asked.returncode, f"Discard {len(of_others)} dead letters?" in asked.stderr) == (1, True)
    assert cluster(service, "discard", "--namespace", other, "--yes").returncode == 0
    assert letters(service, other) == []
    assert set(stored(service, other)) < others
    service.eventually(lambda: service.told("dead_letters") == before, 30)
    record = read_record(Path(service.addresses["witness_record"]))
    assert 0 < worst_window([stamp.monotonic_ns for stamp in record])[0] <= 100


def came_back(one: dict[str, Any], found: list[dict[str, Any]]) -> bool:
    """Under a new id."""
    same = [letter["id"] for letter in found if letter["document_id"] == one["document_id"]]
    return len(same) == 1 and same != [one["id"]]


def replay_until_all_is_well(service: Service, name: str, expected: int) -> None:
    """Once does, but for FerretDB: ten seconds long it takes the index for there, and a duplicate for a violation."""
    first = cluster(service, "replay", "--namespace", name, "--reason", "e11000")
    assert f"Replayed {expected}" in first.stdout, first.stdout + first.stderr
    service.eventually(
        lambda: cluster(service, "replay", "--namespace", name).returncode == 0 and letters(service, name) == [], 120
    )


def test_a_replay_goes_on_through_the_death_of_a_buffer_and_doubles_nothing(service: Service, name: str) -> None:
    ids, _ = poison(service, name)
    mend(service, name)
    victim: psutil.Process = service.actor("BufferActor")
    victim.kill()
    service.eventually(
        lambda: cluster(service, "replay", "--namespace", name).returncode == 0 and letters(service, name) == [], 120
    )
    service.eventually(lambda: stored(service, name) == sorted(ids), 60)
