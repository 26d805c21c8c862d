"""The runbooks of docs/operations.md, carried out: what they say is seen is seen, and what they say helps helps."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.acceptance.flood import Users
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

Start = Callable[..., Service]

WRITERS = Users(data=16, orders=0, editors=0, think_s=0.05)


def status(service: Service) -> dict[str, Any]:
    return service.get("/v1/status")[2]


def lag_s(service: Service) -> float:
    """-1 while nobody knows."""
    found = status(service)["lag_s"]
    return -1.0 if found is None else float(found)


def test_mongodb_is_down(service: Service, trial: Trials) -> None:
    mongodb = service.part("MongoDB")

    def look() -> None:
        """As the runbook says: ready, down, the reason told, and what is accepted piles up."""
        mongodb.suspend()
        service.eventually(lambda: status(service)["mongodb"] == "down", 30)
        service.eventually(lambda: lag_s(service) > 2 and status(service)["backlog"]["writes"] > 100, 30)
        code, _, body = service.get("/readyz")
        assert (code, body["mongodb"]) == (200, "down")
        assert status(service)["writer"]["last_error"]
        assert status(service)["drain_eta_s"] is None

    trial(service, "runbook: MongoDB is down").run(Fault(look, mongodb.resume), users=WRITERS)
    found = status(service)
    assert (found["mongodb"], found["backlog"]["writes"], found["writer"]["last_error"]) == ("up", 0, "")


@pytest.mark.chaos
def test_the_lag_grows(start: Start, trial: Trials) -> None:
    service = start(SPILLWAY_BATCH_SIZE="5", SPILLWAY_RATE_LIMIT_PER_S="10", SPILLWAY_WRITER_LANES="2")

    def look() -> None:
        """The commands are at their limit and each is full, so MongoDB is given all that it may get."""
        service.eventually(lambda: lag_s(service) > 3, 60)
        found = status(service)
        assert found["accepted_per_s"] > found["drained_per_s"]
        assert found["commands"]["last_second"] >= 6  # of 8 slots
        assert found["batch"]["mean_writes"] >= 4

    def mend() -> None:
        """Larger batches under the same cap."""
        service.stop()
        service.restart(SPILLWAY_BATCH_SIZE="1000")
        service.eventually(lambda: 0 <= lag_s(service) < 1.5, 120)

    row = trial(service, "runbook: the lag grows").run(Fault(look, mend), users=WRITERS)
    assert row.worst_window is not None
    assert row.worst_window <= 10


@pytest.mark.chaos
def test_the_limiter_is_saturated(start: Start, trial: Trials) -> None:
    service = start(SPILLWAY_RATE_LIMIT_PER_S="10", SPILLWAY_WRITER_LANES="2")

    def read(_: int) -> None:
        """Ids that nobody has: each costs MongoDB a question, on FerretDB one of its own."""
        until = time.monotonic() + 8
        while time.monotonic() < until:
            service.request("GET", f"/v1/shop/orders/{uuid.uuid4()}", Cache_Control="no-cache")

    def look() -> None:
        with ThreadPoolExecutor(20) as readers:
            reading = [readers.submit(read, number) for number in range(20)]
            service.eventually(lambda: status(service)["commands"]["last_second"] >= 7, 30)
            service.eventually(lambda: status(service)["writer"]["waiting_reads"] > 0, 30)
            assert status(service)["commands"]["worst_window"] <= status(service)["commands"]["limit"] == 10
            for one in reading:
                one.result()

    def mend() -> None:
        """The database may be asked more often."""
        service.stop()
        service.restart(SPILLWAY_RATE_LIMIT_PER_S="100")

    trial(service, "runbook: the limiter is saturated").run(Fault(look, mend), users=Users(data=4))
    found = status(service)
    assert found["writer"]["waiting_reads"] == 0
    assert found["commands"]["limit"] == 100


@pytest.mark.chaos
def test_the_writer_flaps(service: Service, trial: Trials) -> None:
    before = status(service)["writer"]["epoch"]

    def epoch_is(at_least: int) -> Callable[[], bool]:
        return lambda: (status(service)["writer"].get("epoch") or 0) >= at_least

    def look() -> None:
        """Killed three times, as the kernel does to who takes too much memory."""
        for times in (1, 2, 3):
            service.actor("MongoWriter").kill()
            service.eventually(epoch_is(before + times), 60)
            assert status(service)["writer"]["held_s"] > 0
            assert service.ready()

    trial(service, "runbook: the writer flaps").run(Fault(look))
    assert status(service)["writer"]["epoch"] == before + 3
