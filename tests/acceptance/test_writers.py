"""There is one writer at a time, whatever is stopped, woken or started by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.lone_writer import LoneWriter
from tests.acceptance.service import Service
from tests.acceptance.session import Session
from tests.acceptance.trial import Fault, Trials


@pytest.fixture
def lone_writer(service: Service, session: Session) -> Iterator[LoneWriter]:
    writer = LoneWriter(service, session.room("lone-writer"))
    yield writer
    writer.stop()


def test_a_writer_that_wakes_up_after_its_lease_stops_itself(
    service: Service, trial: Trials, lone_writer: LoneWriter
) -> None:
    stale = service.actor("MongoWriter")
    before = service.told("writer", "epoch")

    def stop() -> None:
        """The successor has begun to send when this returns."""
        stale.suspend()
        lone_writer.start()
        service.eventually(lambda: lone_writer.last()["commands_total"] > 50, 60)

    def wake() -> None:
        """The stale one finds itself followed while its successor is sending as fast as it may."""
        stale.resume()
        gone, _ = psutil.wait_procs([stale], timeout=30)
        assert gone, "the stale writer goes on"
        time.sleep(1.5)
        lone_writer.stop()

    row = trial(service, "writer stopped beyond its lease, then woken").run(Fault(stop, wake))
    assert row.worst_window is not None
    successor = lone_writer.last()["epoch"]
    assert before < successor < service.told("writer", "epoch")


@pytest.mark.chaos
def test_a_second_writer_waits_while_there_is_one(service: Service, trial: Trials, lone_writer: LoneWriter) -> None:
    before = service.told("writer", "epoch")

    def begin() -> None:
        lone_writer.start()
        service.eventually(lambda: len(lone_writer.samples()) > 30, 60)  # three lease times and more

    trial(service, "a second writer started by hand").run(Fault(begin, lone_writer.stop))
    assert {sample["epoch"] for sample in lone_writer.samples()} == {0}
    assert lone_writer.last()["commands_total"] == 0
    assert lone_writer.last()["last_error"] == "another writer holds the lease"
    assert service.told("writer", "epoch") == before
