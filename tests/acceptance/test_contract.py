"""The service over HTTP, as a caller meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.acceptance.service import ROOT, Service


def test_api_data_reads_and_writes_five_documents(service: Service) -> None:
    status, _, first = service.get("/api/data")
    assert status == 200
    assert first["status"] == "success"
    assert len(set(first["writes"])) == 5
    service.eventually(lambda: len(service.get("/api/data")[2]["reads"]) == 5, 30)


def test_what_was_written_is_read_before_and_after_it_is_stored(service: Service) -> None:
    body = json.dumps({"name": "Ada", "since": {"$date": "2026-01-02T03:04:05Z"}}).encode()
    status, headers, answer = service.request("POST", "/v1/shop/people", body, Content_Type="application/json")
    assert (status, answer["state"]) == (202, "logged")
    path = f"/v1/shop/people/{answer['id']}"
    assert service.get(path)[2]["name"] == "Ada"
    service.eventually(lambda: service.get(headers["location"])[2]["state"] == "stored", 20)
    patch = service.request("PATCH", path, b'{"name": null, "age": 36}', Content_Type="application/merge-patch+json")
    assert patch[0] == 202
    document = service.request("GET", path, Cache_Control="no-cache")[2]
    assert "name" not in document
    assert document["age"] == 36
    assert service.request("DELETE", path + "?ack=db")[0] in (200, 201)
    assert service.request("GET", path, Cache_Control="no-cache")[0] == 404


def test_waiting_for_mongodb_answers_201(service: Service) -> None:
    status, headers, body = service.request(
        "POST", "/v1/shop/orders", b'{"sum": 3}', Content_Type="application/json", Prefer="wait=10"
    )
    assert (status, body["state"]) == (201, "stored")
    assert headers["preference-applied"] == "wait=10"


def test_the_same_idempotency_key_is_one_document(service: Service) -> None:
    headers = {"Content_Type": "application/json", "Idempotency_Key": "order-4711"}
    first = service.request("POST", "/v1/shop/orders", b'{"sum": 9}', **headers)
    again = service.request("POST", "/v1/shop/orders", b'{"sum": 9}', **headers)
    other = service.request("POST", "/v1/shop/orders", b'{"sum": 10}', **headers)
    assert first[2]["id"] == again[2]["id"]
    assert again[1]["idempotency-replayed"] == "true"
    assert (other[0], other[2]["code"]) == (422, "idempotency-key-reused")


def test_status_counts_what_mongodb_was_asked(service: Service) -> None:
    service.eventually(lambda: service.told("ready") is True, 30)
    assert 0 < service.told("commands", "worst_window") <= service.told("commands", "limit") == 100
    assert service.told("writer", "epoch") >= 1


def test_the_command_line_tells_addresses_and_numbers(service: Service) -> None:
    command = [sys.executable, "-m", "cluster", "status", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=120)
    told = json.loads(done.stdout)
    assert told["http_url"] == service.url
    assert told["status"]["ready"] is True


def test_the_direct_port_serves_the_same_contract(service: Service) -> None:
    direct = service.addresses["direct_url"]
    assert re.match(r"http://127\.0\.0\.1:\d+", direct)
    service_by_direct = Service(service.folder, service.environment, service.process, service.log, {"http_url": direct})
    assert service_by_direct.get("/api/data")[2]["status"] == "success"
