"""MongoDB is away for longer than the backlog has room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.flood import Users
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

BOUND = 2003  # the users write five at once, so at least three more would fit when they are refused
USERS = Users(data=16, orders=0, editors=0, think_s=0.05)
CALL = 5 * USERS.data  # most writes in one call of the replica, which is taken or refused as a whole
FULL_S = 120.0


@pytest.mark.chaos
def test_beyond_the_bound_writes_are_refused_until_there_is_room_to_speak_of(
    start: Callable[..., Service], trial: Trials
) -> None:
    service = start(SPILLWAY_MAX_QUEUE_SIZE=str(BOUND))
    mongodb = service.part("MongoDB")

    def backlog() -> int:
        return int(service.get("/v1/status")[2].get("backlog", {}).get("writes") or 0)

    def look() -> None:
        mongodb.suspend()
        service.eventually(lambda: not service.ready(), FULL_S)
        held = backlog()
        assert BOUND - CALL < held <= BOUND - 3
        for _ in range(10):
            status, headers, body = service.request("POST", "/v1/shop/orders", b"{}", Content_Type="application/json")
            assert (status, body["code"]) == (503, "queue-full"), "one would fit, but full is full until it is at 80 %"
            assert int(headers["retry-after"]) >= 1
        assert backlog() == held

    row = trial(service, f"MongoDB down past the bound ({BOUND} writes)").run(
        Fault(look, mongodb.resume), users=USERS
    )
    assert row.fail > 0
    assert row.unknown == 0
