"""Who is heard where: addresses, tokens, and callers who would name themselves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from tests.acceptance.service import Service


def test_only_each_replicas_grpc_port_listens_beyond_loopback(service: Service) -> None:
    beyond: Counter[str] = Counter()
    listening = 0
    for process in service.processes():
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue  # Ray keeps some in reserve, and lets them go
        for connection in connections:
            if connection.status != psutil.CONN_LISTEN:
                continue
            listening += 1
            if connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
                beyond[" ".join(process.cmdline())[:40]] += 1
    assert listening > 5
    assert all(name.startswith("ray::ServeReplica") and count == 1 for name, count in beyond.items()), beyond


def test_the_dashboard_which_can_run_code_asks_for_its_token(service: Service) -> None:
    address = f"{service.addresses['dashboard_url']}/api/serve/applications/"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address, timeout=30)
    assert refused.value.code in (401, 403)
    with open(service.addresses["ray_token_file"]) as file:
        known = urllib.request.Request(address, headers={"Authorization": f"Bearer {file.read().strip()}"})
    with urllib.request.urlopen(known, timeout=30) as answer:
        assert "spillway" in json.load(answer)["applications"]


@pytest.mark.chaos
def test_a_caller_of_the_front_door_cannot_name_itself(start: Callable[..., Service]) -> None:
    service = start(SPILLWAY_QUOTA_PER_S="0.01", SPILLWAY_QUOTA_BURST="1")
    statuses = [
        service.request("POST", "/v1/d/c", b"{}", Content_Type="application/json", X_Forwarded_For=name)[0]
        for name in ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    ]
    assert statuses == [202, 429, 429]


@pytest.mark.parametrize(("name", "value"), [("X_Request_Timeout_Seconds", "0.001"), ("X_Request_Id", "caf\u00e9")])
def test_what_serve_takes_for_orders_is_not_taken_from_a_caller(service: Service, name: str, value: str) -> None:
    """A 408 for a write that is kept, or a 500 for a header that is not UTF-8."""
    for _ in range(20):
        status, _, _ = service.request("POST", "/v1/d/c", b"{}", Content_Type="application/json", **{name: value})
        assert status == 202


def test_without_its_front_door_the_direct_port_goes_on(service: Service) -> None:
    direct = f"{service.addresses['direct_url']}/v1/d/c"
    service.haproxy().kill()
    ids = []
    for turn in range(2_000):
        request = urllib.request.Request(direct, b"{}", {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202
            ids.append(json.load(answer)["id"])
        if turn > 20 and service.ready():
            break
    service.eventually(service.ready, 30)
    found = [service.get(f"/v1/d/c/{id_}")[0] for id_ in ids]
    assert set(found) == {200}
