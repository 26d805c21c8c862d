"""Under which names the service is asked: a site's page may have its own name lead to this machine."""

from __future__ import annotations

import pytest
from edge import EdgeClient, problem

WRITES = [
    ("POST", "/v1/shop/orders"), ("POST", "/v1/shop/orders/batch"), ("PUT", "/v1/shop/orders/o1"),
    ("PATCH", "/v1/shop/orders/o1"), ("DELETE", "/v1/shop/orders/o1"), ("POST", "/v1/dead-letters/discard?namespace=*"),
    ("POST", "/v1/dead-letters/replay?namespace=*"),
]  # fmt: skip
READS = [("GET", path) for path in ("/v1/shop/orders/o1", "/v1/dead-letters", "/v1/status", "/metrics", "/api/stats")]


@pytest.mark.parametrize(("method", "path"), WRITES + READS)
async def test_on_loopback_a_sites_own_name_is_refused_whatever_its_origin(method: str, path: str) -> None:
    client = EdgeClient()
    named = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    told = problem(await client.send_json(method, path, "{}", **named), 421, "unknown-host", "Host")
    assert "evil.example:8080" in told["detail"]
    assert "SPILLWAY_ALLOWED_HOSTS" in told["detail"]
    assert client.intake.appends == []


@pytest.mark.parametrize("path", ["/api/data", "/livez", "/healthz", "/readyz", "/docs", "/problems/unknown-host"])
async def test_probes_and_what_a_page_may_ask_anywhere_know_no_names(path: str) -> None:
    assert (await EdgeClient().get(path, headers={"Host": "evil.example"})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost.:8080", "spillway.localhost", "127.0.0.1:8000", "10.1.2.3", "[::1]:8000", "[fd00::1]", ""],
)
async def test_an_address_and_localhost_are_the_names_of_no_site(host: str) -> None:
    assert (await EdgeClient().get("/v1/status", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "[evil.example]:80", "evil.example:127"],
)
async def test_what_only_looks_like_one_is_refused(host: str) -> None:
    problem(await EdgeClient().get("/v1/status", headers={"Host": host}), 421, "unknown-host")


@pytest.mark.parametrize(
    ("listens_on", "allowed", "taken", "refused"),
    [
        ("127.0.0.1", "Spillway.example, *.intern", ["spillway.example", "a.INTERN:80", "127.0.0.1"], ["evil.example"]),
        ("127.0.0.2", "", ["localhost"], ["evil.example"]),
        ("localhost", "", ["localhost"], ["evil.example"]),
        ("127.0.0.1", "*", ["evil.example"], []),
        ("0.0.0.0", "", ["evil.example", "spillway.spillway.svc:8000"], []),
        ("0.0.0.0", "spillway.*", ["spillway.spillway.svc:8000", "10.1.2.3:8000"], ["evil.example"]),
        ("server-7", "", ["server-7", "evil.example"], []),
    ],
)
async def test_names_are_those_of_the_setting_and_elsewhere_any_without_it(
    listens_on: str, allowed: str, taken: list[str], refused: list[str]
) -> None:
    client = EdgeClient(http_host=listens_on, allowed_hosts=allowed)
    for host in taken:
        assert (await client.get("/v1/status", headers={"Host": host})).status_code == 200, host
    for host in refused:
        problem(await client.get("/v1/status", headers={"Host": host}), 421, "unknown-host")
