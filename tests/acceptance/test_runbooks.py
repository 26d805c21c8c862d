"""The runbooks of docs/operations.md, carried out: what they say is seen is seen, and what they say helps helps."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loadtests.window import read_record, traffic
from tests.acceptance.flood import Users
from tests.acceptance.service import Service
from tests.acceptance.trial import Fault, Trials

Start = Callable[..., Service]

WRITERS = Users(data=16, orders=0, editors=0, think_s=0.05)


def test_mongodb_is_down(service: Service, trial: Trials) -> None:
    mongodb = service.part("MongoDB")

    def look() -> None:
        """As the runbook says: ready, down, the reason told, and what is accepted piles up."""
        mongodb.suspend()
        service.eventually(lambda: service.told("mongodb") == "down", 30)
        service.eventually(lambda: service.told("lag_s") > 2 and service.told("backlog", "writes") > 100, 30)
        service.eventually(is_ready_without_mongodb, 30)
        assert service.told("writer", "last_error")
        assert service.get("/v1/status")[2]["drain_eta_s"] is None

    def is_ready_without_mongodb() -> bool:
        code, _, body = service.get("/readyz")
        return (code, body["mongodb"]) == (200, "down")

    def is_as_before() -> bool:
        found = (service.told("mongodb"), service.told("backlog", "writes"), service.told("writer", "last_error"))
        return found == ("up", 0, "")

    trial(service, "runbook: MongoDB is down").run(Fault(look, mongodb.resume), users=WRITERS)
    service.eventually(is_as_before, 30)


@pytest.mark.chaos
def test_the_lag_grows(start: Start, trial: Trials) -> None:
    service = start(SPILLWAY_BATCH_SIZE="5", SPILLWAY_RATE_LIMIT_PER_S="10", SPILLWAY_WRITER_LANES="2")

    def look() -> None:
        """The commands are at their limit and each is full, so MongoDB is given all that it may get."""
        service.eventually(lambda: service.told("lag_s") > 3, 60)
        service.eventually(lambda: service.told("accepted_per_s") > service.told("drained_per_s"), 30)
        service.eventually(lambda: service.told("commands", "last_second") >= 6, 30)  # of 8 slots
        service.eventually(lambda: service.told("batch", "mean_writes") >= 4, 30)

    def mend() -> None:
        """Larger batches under the same cap."""
        service.stop()
        service.restart(SPILLWAY_BATCH_SIZE="1000")
        service.eventually(lambda: service.told("lag_s") < 1.5, 120)

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
        began_s = time.time()
        with ThreadPoolExecutor(20) as readers:
            reading = [readers.submit(read, number) for number in range(20)]
            service.eventually(lambda: service.told("commands", "last_second") >= 7, 30)
            service.eventually(lambda: service.told("writer", "waiting_reads") > 0, 30)
            assert service.told("commands", "limit") == 10
            for one in reading:
                one.result()
        record = read_record(Path(service.addresses["witness_record"]))
        assert 0 < traffic(record, began_s, time.time()).worst <= 10

    def mend() -> None:
        """The database may be asked more often."""
        service.stop()
        service.restart(SPILLWAY_RATE_LIMIT_PER_S="100")

    trial(service, "runbook: the limiter is saturated").run(Fault(look, mend), users=Users(data=4))
    service.eventually(lambda: service.told("writer", "waiting_reads") == 0, 30)
    assert service.told("commands", "limit") == 100


@pytest.mark.chaos
def test_the_writer_flaps(service: Service, trial: Trials) -> None:
    def holds_still_after(epoch: int) -> Callable[[], bool]:
        def condition() -> bool:
            writer = service.told("writer")
            return writer.get("epoch", 0) > epoch and writer["held_s"] > 0

        return condition

    def look() -> None:
        """Killed three times, as the kernel does to who takes too much memory."""
        for _ in range(3):
            before = service.told("writer", "epoch")
            service.actor("MongoWriter").kill()
            service.eventually(holds_still_after(before), 60)
            service.eventually(service.ready, 30)

    trial(service, "runbook: the writer flaps").run(Fault(look))
