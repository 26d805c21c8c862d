"""Documents nobody can store, between good ones: the edge refuses what it can and says where and why; what only MongoDB
can refuse becomes a dead letter with its reason; every neighbour is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from tests.acceptance.service import Service
from tests.acceptance.session import Session
from tests.acceptance.trial import Fault, Trials

STORED_S = 60.0
MIB = 1024 * 1024
# What is wrong, as JSON, and: the status alone, the field named, what the message says.
REFUSED = {
    "too large": ('{"big": "%s"}' % ("x" * MIB), 413, None, "at most 1048576 are taken"),
    "too deep": ('{"a":' * 70 + "1" + "}" * 70, 422, "a.a.a", "deeper than 64 levels"),
    "far too deep": ('{"a":' * 20_000 + "1" + "}" * 20_000, 422, None, "deeper than 64 levels"),
    "a NUL in a name": (r'{"ok": 1, "in": {"a\u0000b": 1}}', 422, "in.a\0b", "without NUL"),
    "an integer of 65 bits": ('{"list": [1, 18446744073709551616]}', 422, "list[1]", "at most 64 bits"),
    "half a surrogate pair": (r'{"text": "\ud800"}', 422, "text", "surrogate"),
    "half a surrogate pair in a name": (r'{"\udc00": 1}', 422, "\\udc00", "valid Unicode"),
    "an operator for a name": ('{"$where": "1"}', 422, "$where", "begins with $"),
    "not a number": ('{"n": NaN}', 400, "n", "not JSON"),
    "a name twice": ('{"n": 1, "n": 2}', 400, "n", "twice"),
}


@contextmanager
def collection(service: Service, name: str) -> Iterator[Collection[dict[str, Any]]]:
    """Read past the service and past the witness."""
    client: MongoClient[dict[str, Any]] = MongoClient(service.status_of_run()["mongodb_uri"])
    try:
        yield client["chaos"][name]
    finally:
        client.close()


def post(service: Service, name: str, body: str, media_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    status, _, answer = service.request("POST", name, body.encode(), Content_Type=media_type)
    return status, answer


@pytest.mark.parametrize("what", REFUSED)
def test_the_edge_refuses_what_it_can_and_keeps_nothing_of_it(service: Service, session: Session, what: str) -> None:
    body, status, field, reason = REFUSED[what]
    name = f"refused-{session.seed}-{list(REFUSED).index(what)}"
    answered, problem = post(service, f"/v1/chaos/{name}", body)
    assert (answered, reason in problem["detail"]) == (status, True), problem
    assert problem.get("field") == field or (field and problem["field"].startswith(field))
    lines = "\n".join(['{"good": 1}', body, '{"good": 2}'])
    answered, batch = post(service, f"/v1/chaos/{name}/batch", lines, "application/x-ndjson")
    assert (answered, batch["accepted"], batch["rejected"]) == (202, 2, 1)
    assert [item["index"] for item in batch["items"] if "error" in item] == [1]
    assert batch["items"][1]["error"]["code"] == problem["code"]
    ids = {item["id"] for item in batch["items"] if "id" in item}
    with collection(service, name) as stored:
        service.eventually(lambda: {document["_id"] for document in stored.find()} == ids, STORED_S)


def test_a_document_that_violates_a_unique_index_becomes_a_dead_letter(
    service: Service, trial: Trials, session: Session
) -> None:
    """A validator would do as well, and FerretDB has none. Nor does it say which index was violated: with a second
    unique one it has every duplicate refused, which is one letter too many now and then, and never a loss."""
    name, path = f"poison-{session.seed}", f"/v1/chaos/poison-{session.seed}"
    sent: dict[str, str] = {}  # document id -> email
    receipts: dict[str, str] = {}

    def poison() -> None:
        with collection(service, name) as stored:
            stored.create_index("email", unique=True)
        for round_ in range(10):
            for email in ("same@example.org", f"{round_}@example.org"):
                status, answer = post(service, path, json.dumps({"email": email}))
                assert status == 202
                sent[answer["id"]], receipts[answer["id"]] = email, answer["receipt"]

    row = trial(service, "documents that violate a unique index, between good ones").run(Fault(poison))
    assert row.ok > 50
    with collection(service, name) as found:
        stored = {str(document["_id"]): document["email"] for document in found.find()}
    assert sorted(stored.values()) == sorted({*sent.values()}), "each good one, and one of those that are the same"
    letters = {letter["document_id"]: letter for letter in service.get("/v1/dead-letters?limit=1000")[2]["items"]}
    buried = [id for id, email in sent.items() if id not in stored]
    assert len(buried) == 9
    for id in buried:
        assert "duplicate key" in letters[id]["reason"]
        shown = service.get(f"/v1/dead-letters/{letters[id]['id']}")[2]
        assert shown["body"]["email"] == "same@example.org"
        state = service.get(f"/v1/receipts/{receipts[id]}")[2]
        assert (state["state"], state["reason"]) == ("dead-lettered", letters[id]["reason"])


def test_a_value_that_only_the_server_refuses_becomes_a_dead_letter_and_its_neighbours_are_stored(
    service: Service, session: Session
) -> None:
    """On FerretDB: extended JSON that MongoDB has and it has not. On MongoDB all of them are good."""
    name = f"unstorable-{session.seed}"
    values = [{"v": 1}, {"v": {"$numberDecimal": "1.5"}}, {"v": 2}, {"v": {"$minKey": 1}}, {"v": 3}]
    status, batch = post(service, f"/v1/chaos/{name}/batch", json.dumps(values))
    assert (status, batch["accepted"]) == (202, 5)
    receipts = [item["receipt"] for item in batch["items"]]

    def states() -> list[str]:
        return [service.get(f"/v1/receipts/{receipt}")[2]["state"] for receipt in receipts]

    service.eventually(lambda: "logged" not in states(), STORED_S)
    with collection(service, name) as found:
        stored = {str(document["_id"]) for document in found.find()}
        is_ferretdb = "ferretdbVersion" in found.database.client.server_info()
    expected = ["stored", "dead-lettered"] * 2 + ["stored"] if is_ferretdb else ["stored"] * 5
    assert states() == expected
    assert stored == {item["id"] for item, state in zip(batch["items"], expected, strict=True) if state == "stored"}
    if is_ferretdb:
        reasons = [service.get(f"/v1/receipts/{receipts[at]}")[2]["reason"] for at in (1, 3)]
        assert all(reasons), "each says why"
