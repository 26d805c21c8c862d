"""Kill each part under load: nothing lost or doubled, never over 100 commands a second, and it comes back by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.acceptance.service import Flood, Service

LOAD_S = 9.0
FAULT_AT_S = 3.0


def kill(find: Callable[[], psutil.Process]) -> Callable[[], None]:
    return lambda: find().kill()


FAULTS: dict[str, Callable[[Service], psutil.Process]] = {
    "the MongoWriter": lambda service: service.actor("MongoWriter"),
    "a BufferActor": lambda service: service.actor("BufferActor"),
    "a replica": lambda service: service.actor("ServeReplica"),
    "MongoDB": lambda service: service.part("MongoDB"),
    "Redis": lambda service: service.part("Redis"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_kill_minus_nine_loses_and_doubles_nothing(service: Service, tmp_path: Path, name: str) -> None:
    victim = FAULTS[name](service)
    flood = Flood(service, tmp_path / "run")
    flood.run(LOAD_S, (FAULT_AT_S, victim.kill))
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
    assert flood.outcomes["ok"] > 100
    assert "lost 0, doubled 0, ghosts 0" in flood.verify()
    service.eventually(lambda: service.get("/readyz")[0] == 200, 10)


def test_while_mongodb_is_away_writes_are_accepted_and_readiness_says_so(service: Service, tmp_path: Path) -> None:
    mongodb = service.part("MongoDB")
    flood = Flood(service, tmp_path / "run", users=4)
    service.eventually(lambda: service.get("/readyz")[2].get("mongodb") == "up", 30)
    mongodb.suspend()
    try:
        service.eventually(lambda: service.get("/readyz")[2].get("mongodb") == "down", 10)
        flood.run(3.0)
        status, _, body = service.get("/readyz")
        assert (status, body["mongodb"]) == (200, "down")
        assert flood.outcomes["ok"] > 20
        assert flood.outcomes["fail"] == flood.outcomes["unknown"] == 0
        accepted = 5 * flood.outcomes["ok"]
        service.eventually(lambda: service.get("/v1/status")[2]["backlog"]["writes"] >= accepted, 5)  # a picture ages
    finally:
        mongodb.resume()
    assert "lost 0, doubled 0, ghosts 0" in flood.verify()


def test_while_redis_is_away_nothing_is_acknowledged(service: Service) -> None:
    redis = service.part("Redis")
    redis.suspend()
    try:
        service.eventually(lambda: service.get("/readyz")[0] == 503, 10)
        status, headers, body = service.request(
            "POST", "/v1/shop/orders", b'{"sum": 1}', Content_Type="application/json"
        )
        assert status == 503
        assert headers["content-type"] == "application/problem+json"
        assert int(headers["retry-after"]) >= 1
        assert body["code"] == "log-unavailable"
    finally:
        redis.resume()
    service.eventually(lambda: service.get("/readyz")[0] == 200, 10)
    status, _, body = service.request("POST", "/v1/shop/orders", b'{"sum": 1}', Content_Type="application/json")
    assert status == 202
