"""What a part of the service being away looks like from outside, and that readiness tells the truth within 2 s."""

from __future__ import annotations

from tests.acceptance.flood import Users
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials


def test_while_mongodb_is_away_writes_are_accepted_and_readiness_says_so(service: Service, trial: Trials) -> None:
    mongodb = service.part("MongoDB")
    row = trial(service, "MongoDB paused for 5 s").run(
        Fault(mongodb.suspend, mongodb.resume, lasts_s=5.0, hides="mongodb"), users=Users(orders=0, editors=0)
    )
    assert row.fail == row.unknown == 0


def test_while_redis_is_away_nothing_is_acknowledged(service: Service) -> None:
    redis = service.part("Redis")
    redis.suspend()
    try:
        service.eventually(lambda: not service.ready(), 10)
        status, headers, body = service.request(
            "POST", "/v1/shop/orders", b'{"sum": 1}', Content_Type="application/json"
        )
        assert status == 503
        assert headers["content-type"] == "application/problem+json"
        assert int(headers["retry-after"]) >= 1
        assert body["code"] == "log-unavailable"
    finally:
        redis.resume()
    service.eventually(service.ready, 10)
    assert service.request("POST", "/v1/shop/orders", b'{"sum": 1}', Content_Type="application/json")[0] == 202
