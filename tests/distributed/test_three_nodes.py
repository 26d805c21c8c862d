"""Three nodes, one of which is lost under load: nothing lost, nothing doubled, one writer, the cap at the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient

from actors.channel import Channel
from actors.core.document import Kind, Write
from actors.core.errors import OutcomeUnknown, SpillwayError
from actors.remote_intake import RemoteIntake
from cluster import launch, topology
from cluster.embedded import mongo_server
from cluster.settings import Settings, load
from loadtests.window import read_record, traffic
from tests.distributed.pool import ready, whole_status
from tests.witness import Witness

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ROOT / "tests/distributed/machines"
BUFFERS = 3
USERS = 12
WRITES = 5  # of one append: they belong to several buffers, on several nodes
PAUSE_S = 0.25  # of a user: 240 writes a second, of which MongoDB is given 92; more would take long to drain
DRAIN_S = 300.0
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024}


pytestmark = pytest.mark.usefixtures("clean_up")


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Nodes on this machine, whose processes find no channel to each other. The driver is on the head."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = f"{MACHINES}:{ROOT}"
    import ray
    from ray.cluster_utils import Cluster

    head = {"include_dashboard": False, "_system_config": {"health_check_period_ms": 1000}}
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, **head})
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ["PYTHONPATH"] = str(ROOT)


@pytest.fixture
def nodes(ray_cluster: Any) -> dict[str, Any]:
    """Three living nodes by id; the one a test before has lost is replaced."""
    while len(ray_cluster.list_all_nodes()) < 3:
        ray_cluster.add_node(**SMALL)
    ray_cluster.wait_for_nodes()
    return {node.node_id: node for node in ray_cluster.list_all_nodes()}


@pytest.fixture
def witness(mongodb_uri: str, tmp_path: Path) -> Iterator[Witness]:
    running = Witness.before(mongodb_uri, tmp_path / "record")
    yield running
    running.end()


@pytest.fixture
def settings(redis_url: str, witness: Witness, nodes: dict[str, Any]) -> Settings:
    run = uuid.uuid4().hex[:8]
    return load(
        redis_url=redis_url,
        mongodb_uri=mongo_server.address(int(witness.address.rpartition(":")[2])),
        key_prefix=f"t{run}",
        data_namespace=f"spillwaytest.run{run}",
        buffers=BUFFERS,
        batch_size=1,  # a command a write, so that the cap holds them back and a backlog grows
        writer_lease_s=1.0,
        mongodb_timeout_s=1.0,
        request_timeout_s=10.0,
    )


@pytest.fixture
async def intake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> RemoteIntake:
    monkeypatch.setattr(Channel, "connect", other_machine)  # for the driver, what MACHINES is for the actors
    return await ready(settings)


async def other_machine(name: str) -> Channel:
    raise ConnectionRefusedError("this actor is on another machine")


class Flood:
    """Users who append more than MongoDB is given, and remember what they were told about each id."""

    def __init__(self, intake: RemoteIntake, namespace: str) -> None:
        self.accepted: list[str] = []
        self.unknown: list[str] = []
        self.refused: list[str] = []
        self._intake = intake
        self._namespace = namespace
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Flood:
        self._users = [asyncio.create_task(self._user()) for _ in range(USERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._users)

    async def more(self, count: int, timeout_s: float = 60.0) -> None:
        """Until so many further writes have been accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(timeout_s):
            while len(self.accepted) < wanted:
                await asyncio.sleep(0.05)

    async def _user(self) -> None:
        while not self._stop.is_set():
            ids = [uuid.uuid4().hex for _ in range(WRITES)]
            try:
                await self._intake.append(
                    [Write(Kind.INSERT, self._namespace, id_, bson.encode({"_id": id_})) for id_ in ids]
                )
            except OutcomeUnknown:
                self.unknown += ids
            except SpillwayError:
                self.refused += ids
            else:
                self.accepted += ids
            await asyncio.sleep(PAUSE_S)


async def process(name: str) -> tuple[str, int]:
    """The id of the node an actor is on, and its process there, once it lives."""
    import ray

    handle = ray.get_actor(name, namespace=topology.NAMESPACE)
    pid = await handle.pid.remote()
    actor = ray._private.state.actors(handle._actor_id.hex())
    return str(actor["Address"]["NodeID"]), int(pid)


async def where(name: str) -> str:
    return (await process(name))[0]


async def test_writer_and_buffers_are_spread_and_the_head_is_taken_last(
    settings: Settings, nodes: dict[str, Any], intake: RemoteIntake
) -> None:
    writer = await where(launch.writer_name(settings))
    homes = [await where(name) for name in launch.buffer_names(settings)]
    assert sorted(homes) == sorted(nodes)
    assert not nodes[writer].head
    assert nodes[homes[1]].head  # the third place, after the writer's and the first buffer's


@pytest.mark.parametrize("lost", ["a buffer", "the writer"])
async def test_a_node_lost_under_load_costs_no_write_and_the_cap_holds(
    lost: str,
    settings: Settings,
    ray_cluster: Any,
    nodes: dict[str, Any],
    intake: RemoteIntake,
    witness: Witness,
    mongodb_uri: str,
) -> None:
    began_s = time.time()
    name = launch.writer_name(settings) if lost == "the writer" else launch.buffer_names(settings)[0]
    home = await where(name)
    async with Flood(intake, settings.data_namespace) as flood:
        await flood.more(500)
        writer, epoch = await process(launch.writer_name(settings)), (await whole_status(intake))["writer"]["epoch"]
        await holding(intake, 20)
        await asyncio.to_thread(ray_cluster.remove_node, nodes[home], allow_graceful=False)
        await elsewhere(name, home)
        await back(intake)
        await flood.more(500)
    if lost == "the writer":  # by more than one, when a busy machine also let the successor's lease lapse
        assert (await whole_status(intake))["writer"]["epoch"] > epoch
    else:
        assert await process(launch.writer_name(settings)) == writer
    assert await launch.drain(settings, DRAIN_S) == 0

    stored = await ids_in(mongodb_uri, settings.data_namespace)
    assert len(set(stored)) == len(stored)
    assert set(flood.accepted) - set(stored) == set()
    assert set(stored) & set(flood.refused) == set()
    assert set(stored) - {*flood.accepted, *flood.unknown} == set()
    seen = traffic(read_record(witness.record), began_s, time.time())
    assert seen.commands["insert"] > 0  # or the service went around the witness
    assert seen.worst <= settings.rate_limit_per_s


async def holding(intake: RemoteIntake, writes: int, timeout_s: float = 60.0) -> None:
    """Until each buffer has so many writes on their way, which only the log can bring back."""
    async with asyncio.timeout(timeout_s):
        while min(buffer.get("writes", 0) for buffer in (await intake.status())["buffers"]) < writes:
            await asyncio.sleep(0.05)


async def elsewhere(name: str, home: str, timeout_s: float = 90.0) -> None:
    """Until the actor lives on another node. Ray needs some seconds to see that one is gone, and until then its
    processes, which are on this machine, may go on answering."""
    from ray.exceptions import RayError

    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(RayError):
                if await where(name) != home:
                    return
            await asyncio.sleep(0.1)


async def back(intake: RemoteIntake, timeout_s: float = 60.0) -> None:
    """Until every part answers and commands leave again."""
    async with asyncio.timeout(timeout_s):
        while not ((status := await intake.status())["ready"] and status["mongodb"] == "up"):
            await asyncio.sleep(0.1)


async def ids_in(mongodb_uri: str, namespace: str) -> list[str]:
    """Read past the service and past the witness; doubled ones appear twice."""
    database, collection = namespace.split(".", 1)
    async with AsyncMongoClient(mongodb_uri) as client:
        return [document["_id"] async for document in client[database][collection].find({}, {"_id": 1})]
