"""More than the cap can drain, as long as `--overload-s` says: nothing grows, and what was refused never appears."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from pymongo import MongoClient

from loadtests.window import read_record, traffic
from tests.acceptance.service import Service

CAP = 6  # commands in any second
BATCH = 100
MOST_WRITES = 5_000  # waiting
USERS = 12
SAMPLE_S = 1.0
GROWTH = 1.15  # of a process's median memory, from the second quarter of the run to the last
SMALL_BYTES = 16 * 1024 * 1024  # growth that is no growth: a few pages of a small process
DRAIN_S = 300.0
DATABASE, COLLECTION = "overload", "writes"


@dataclass
class Overload:
    """Users who never wait, and what became of each of their batches."""

    url: str
    statuses: Counter[int] = field(default_factory=Counter)
    batches: dict[str, int] = field(default_factory=dict)  # name -> status; 0: no answer
    waits: list[int] = field(default_factory=list)  # what Retry-After said

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=30, trust_env=False) as session:
            await asyncio.gather(*(self._user(session, end, user) for user in range(USERS)))

    async def _user(self, session: httpx.AsyncClient, end: float, user: int) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            name = f"{user}-{number}"
            body = json.dumps([{"batch": name, "payload": "x" * 300}] * BATCH)
            try:
                answer = await session.post(
                    f"{self.url}/v1/{DATABASE}/{COLLECTION}/batch", content=body,
                    headers={"content-type": "application/json"},
                )  # fmt: skip
            except httpx.HTTPError:
                self.batches[name] = 0
                self.statuses[0] += 1
                continue
            self.batches[name] = answer.status_code
            self.statuses[answer.status_code] += 1
            if answer.status_code == 503:
                self.waits.append(int(answer.headers["retry-after"]))
                await asyncio.sleep(0.02)


class Memory:
    """Resident memory of every process of a run, over time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.samples: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)

    async def watch(self) -> None:
        began = time.monotonic()
        while True:
            processes = await asyncio.to_thread(self._service.processes)
            for process in processes:
                try:
                    title = " ".join(process.cmdline())[:48] or process.name()
                    sample = (time.monotonic() - began, process.memory_info().rss)
                except psutil.Error:
                    continue
                self.samples[title, process.pid].append(sample)
            await asyncio.sleep(SAMPLE_S)

    def growth(self, seconds: float) -> list[tuple[str, int, int]]:
        """Title, and median bytes in the second and in the last quarter, of each process there was all the time."""
        found = []
        for (title, pid), samples in self.samples.items():
            second = [rss for at, rss in samples if seconds / 4 <= at < seconds / 2]
            last = [rss for at, rss in samples if 3 * seconds / 4 <= at < seconds]
            if second and last:
                found.append((f"{title} ({pid})", int(median(second)), int(median(last))))
        return found


@pytest.mark.chaos
def test_memory_stays_flat_under_overload_and_what_was_refused_never_appears(
    start: Callable[..., Service], pytestconfig: pytest.Config
) -> None:
    seconds = float(pytestconfig.getoption("--overload-s"))
    service = start(  # with patience, so that on a slow machine too it is the cap that limits
        SPILLWAY_RATE_LIMIT_PER_S=str(CAP), SPILLWAY_WRITER_LANES="2", SPILLWAY_BATCH_SIZE="100",
        SPILLWAY_MAX_QUEUE_SIZE=str(MOST_WRITES), SPILLWAY_MAX_QUEUE_BYTES=str(8 * 1024 * 1024),
        SPILLWAY_MONGODB_TIMEOUT_S="10", SPILLWAY_REQUEST_TIMEOUT_S="20",
    )  # fmt: skip
    overload, memory, began_s = Overload(service.url), Memory(service), time.time()

    async def flood() -> None:
        watching = asyncio.create_task(memory.watch())
        await overload.run(seconds)
        watching.cancel()

    asyncio.run(flood())
    print(f"\nanswers {dict(overload.statuses)}, Retry-After {min(overload.waits)} to {max(overload.waits)} s")
    database = service.part("MongoDB").pid  # it caches what it stores, and is no process of ours
    grown = []
    for title, before, after in memory.growth(seconds):
        print(f"{before / 2**20:8.1f} MiB -> {after / 2**20:8.1f} MiB  {after / before:5.3f}  {title}")
        if f"({database})" not in title and after > before * GROWTH and after - before > SMALL_BYTES:
            grown.append(title)
    print(f"status at the end of the load: {service.get('/v1/status')[2]}")
    assert memory.growth(seconds)
    assert not grown, f"grew: {grown}"
    assert set(overload.statuses) <= {202, 503, 504}
    assert overload.statuses[202] * BATCH > 2 * MOST_WRITES, "the queue was never emptied: the trial shows nothing"
    assert overload.statuses[503] > overload.statuses[202], "it was no overload: the trial shows nothing"
    assert all(1 <= wait <= 60 for wait in overload.waits)
    service.eventually(lambda: service.told("backlog", "writes") == 0, DRAIN_S)
    record = read_record(Path(service.addresses["witness_record"]))
    assert 0 < traffic(record, began_s, time.time()).worst <= CAP
    client: MongoClient = MongoClient(service.status_of_run()["mongodb_uri"])
    stored = Counter(document["batch"] for document in client[DATABASE][COLLECTION].find({}, {"batch": 1}))
    client.close()
    refused = [name for name, status in overload.batches.items() if status == 503]
    assert not [name for name in refused if name in stored]
    kept = [name for name, status in overload.batches.items() if status == 202]
    assert {name: stored[name] for name in kept} == dict.fromkeys(kept, BATCH)
