"""The power goes: of Redis' file there is left what was synced. Every write acknowledged by then must be in it.

MongoDB is stopped meanwhile, so that no write is anywhere else. That this check can fail is shown by
`tests/contract/test_power_cut.py`.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.acceptance.disk import append_only_file, data_folder, down
from tests.acceptance.power import CUTS, losses, traced
from tests.acceptance.service import Service
from tests.acceptance.session import Session
from tests.acceptance.trial import FIRST_FAULT_S, Fault, Trials

WRITING_S = 5.0
WRITERS = 6


class Recording:
    """Writes of named documents, and when each was acknowledged (wall clock, s)."""

    def __init__(self, service: Service, name: str) -> None:
        self.acknowledged: dict[str, float] = {}
        self._service = service
        self._name = name

    def run(self) -> None:
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write(self, writer: int) -> None:
        end, number = time.monotonic() + WRITING_S, 0
        while time.monotonic() < end:
            number += 1
            id = f"power-{writer}-{number}-"
            path = f"/v1/chaos/{self._name}/{id}"
            if self._service.request("PUT", path, b"{}", Content_Type="application/json")[0] == 202:
                self.acknowledged[id] = time.time()


@pytest.mark.chaos
def test_what_was_acknowledged_is_there_after_a_power_cut(
    service: Service, trial: Trials, session: Session, tmp_path: Path
) -> None:
    mongodb, folder = service.part("MongoDB"), data_folder(service)
    recording = Recording(service, f"power-{session.seed}")
    made = trial(service, "power cut, Redis left with what was synced")
    try:
        with traced(service.part("Redis").pid, tmp_path / "trace", folder) as trace:
            made.strike(Fault(mongodb.suspend, at_s=0.0), Fault(recording.run), load_s=FIRST_FAULT_S + WRITING_S + 2)
        assert losses(recording.acknowledged, trace, folder, tmp_path / "cuts", session.seed) == [0] * CUTS
        with down(service):  # and once the whole way, under the judges
            service.actor("BufferActor").kill()
            path = append_only_file(folder)
            with path.open("r+b") as file:
                file.truncate(trace.left(time.time()))
    finally:
        mongodb.resume()
    service.eventually(service.ready, 60)
    assert made.judge().ok > 50
    assert len(recording.acknowledged) > 50

