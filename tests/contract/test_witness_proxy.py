"""The witness between a real driver and a real MongoDB wire server."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo.errors import ConnectionFailure

from loadtests.window import read_record, traffic
from tests.witness import Witness


@pytest.fixture
def witness(mongodb_uri: str, tmp_path: Path) -> Iterator[Witness]:
    running = Witness.before(mongodb_uri, tmp_path / "record")
    yield running
    running.end()


def test_a_driver_works_through_it_and_every_command_is_stamped(witness: Witness) -> None:
    client = witness.client()
    collection = client["spillway_witness"]["documents"]
    collection.drop()
    began = time.time()
    documents = [{"_id": number, "payload": "x" * 4000} for number in range(1000)]  # 4 MB: many TCP segments
    collection.insert_many(documents, ordered=False)
    assert collection.find_one({"_id": 999})["payload"] == "x" * 4000  # type: ignore[index]
    client.admin.command("ping")
    assert sum(1 for _ in collection.find({}, batch_size=400)) == 1000
    collection.drop()
    client.close()  # endSessions: not counted
    counted = traffic(read_record(witness.record), began, time.time())
    assert counted.commands["insert"] == 1
    assert counted.commands["ping"] == 1
    assert counted.commands["find"] == 2
    assert counted.commands["getMore"] >= 2
    assert not {"hello", "isMaster", "ismaster", "endSessions", "saslStart"} & set(witness.names())
    assert witness.stop() == 0


def test_commands_on_many_connections_are_all_stamped(witness: Witness) -> None:
    clients = [witness.client() for _ in range(8)]
    for _ in range(5):
        for client in clients:
            client.admin.command("ping")
    assert witness.names().count("ping") == 40
    for client in clients:
        client.close()
    assert witness.stop() == 0


def test_a_server_that_is_gone_is_a_failed_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    witness = Witness(f"127.0.0.1:{port}", tmp_path / "record")
    try:
        with pytest.raises(ConnectionFailure):
            witness.client().admin.command("ping")
        assert witness.names() == []
    finally:
        assert witness.stop() == 0
