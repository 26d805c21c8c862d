"""The power goes: of Redis' file there is left what was synced. Every write acknowledged by then must be in it.

strace tells which bytes each fdatasync covered and when it ended, so the file as any moment would have left it can be
made afterwards: it is its beginning, up to that length. A Redis started on such a copy is asked for the writes that had
been acknowledged when the power went. MongoDB is stopped meanwhile, so that no write is anywhere else.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from cluster.embedded import ports, redis_server
from cluster.embedded.child import Child
from tests.acceptance.disk import Strace, append_only_file, data_folder, down, synced_at, syncs_of
from tests.acceptance.service import Service
from tests.acceptance.session import Session
from tests.acceptance.trial import FIRST_FAULT_S, Fault, Trials

WRITING_S = 5.0
WRITERS = 6
CUTS = 5
TRACE = ("-ttt", "-T", "-y", "-e", "trace=write,fdatasync", "-s", "0")


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


@contextmanager
def traced(service: Service, output: Path) -> Iterator[list[str]]:
    """The trace of Redis' writes and syncs; its lines are there when the block has ended."""
    lines: list[str] = []
    strace = Strace(service.part("Redis").pid, output, *TRACE)
    yield lines
    strace.stop()
    lines += output.read_text().splitlines()


def held_by(folder: Path) -> bytes:
    """Everything in the streams of a Redis started on the append-only file in `folder`."""
    port = ports.free_port(0)
    child = Child(redis_server.recipe(redis_server.find(), port, folder, folder / "redis.log", 1 << 29))
    child.start()
    try:
        child.await_ready()
        with redis.Redis.from_url(redis_server.address(port)) as client:
            entries = [fields for key in client.scan_iter("*:stream:*") for _, fields in client.xrange(key)]
            return b"".join(value for fields in entries for value in fields.values())
    finally:
        child.stop()


def losses(recording: Recording, trace: list[str], source: Path, before: int, room: Path, seed: int) -> list[int]:
    """How many acknowledged writes are missing after each of some power cuts, right after an answer each."""
    syncs, content = syncs_of(trace, before), append_only_file(source).read_bytes()
    dice = random.Random(seed)
    lost = []
    for when_s in dice.sample(sorted(recording.acknowledged.values()), CUTS):
        left = room / f"{when_s}"
        left.mkdir(parents=True)
        # copied as bytes, cut to what was synced, under the name that Redis 6 and 7 both look for
        (left / "appendonly.aof").write_bytes(content[: synced_at(syncs, when_s, before)])
        held = held_by(left)
        lost.append(sum(at_s <= when_s and id.encode() not in held for id, at_s in recording.acknowledged.items()))
    return lost


@pytest.mark.chaos
def test_what_was_acknowledged_is_there_after_a_power_cut(
    service: Service, trial: Trials, session: Session, tmp_path: Path
) -> None:
    mongodb, folder = service.part("MongoDB"), data_folder(service)
    recording = Recording(service, f"power-{session.seed}")
    made = trial(service, "power cut, Redis left with what was synced")
    before = append_only_file(folder).stat().st_size
    try:
        with traced(service, tmp_path / "trace") as trace:
            made.strike(Fault(mongodb.suspend, at_s=0.0), Fault(recording.run), load_s=FIRST_FAULT_S + WRITING_S + 2)
        assert losses(recording, trace, folder, before, tmp_path / "cuts", session.seed) == [0] * CUTS
        with down(service):  # and once the whole way, under the judges
            service.actor("BufferActor").kill()
            path = append_only_file(folder)
            with path.open("r+b") as file:
                file.truncate(synced_at(syncs_of(trace, before), time.time(), before))
    finally:
        mongodb.resume()
    service.eventually(service.ready, 60)
    assert made.judge().ok > 50
    assert len(recording.acknowledged) > 50


@pytest.mark.chaos
def test_the_same_finds_a_loss_where_redis_syncs_every_second_only(
    service: Service, session: Session, tmp_path: Path
) -> None:
    """The check is checked: this setting is refused at start, and acknowledges what no disk holds yet."""
    mongodb, folder = service.part("MongoDB"), data_folder(service)
    recording = Recording(service, f"everysec-{session.seed}")
    before = append_only_file(folder).stat().st_size
    with redis.Redis.from_url(service.status_of_run()["redis_url"]) as client:
        mongodb.suspend()
        client.config_set("appendfsync", "everysec")
        try:
            with traced(service, tmp_path / "trace") as trace:
                recording.run()
        finally:
            client.config_set("appendfsync", "always")
            mongodb.resume()
    assert max(losses(recording, trace, folder, before, tmp_path / "cuts", session.seed)) > 0
