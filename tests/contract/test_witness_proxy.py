"""The witness between a real driver and a real MongoDB wire server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure
from pymongo.uri_parser import parse_uri

from loadtests.window import read_record, traffic

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0


class Witness:
    """A witness process of its own on a port it picked."""

    def __init__(self, upstream: str, record: Path) -> None:
        self.record = record
        self.process = subprocess.Popen(
            [
                *(sys.executable, "loadtests/witness.py", "--listen", "127.0.0.1:0"),
                *("--upstream", upstream, "--record", str(record)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()  # `witness: HOST:PORT -> ...`, once it listens
        assert said.startswith("witness: "), "the witness did not start; its complaint is above"
        self.address = said.split(" ")[1]

    def client(self) -> MongoClient[dict[str, object]]:
        return MongoClient(
            f"mongodb://{self.address}/?directConnection=true&retryWrites=false&retryReads=false",
            serverSelectionTimeoutMS=3000,
        )

    def names(self) -> list[str]:
        return [stamp.command for stamp in read_record(self.record)]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=START_S)


@pytest.fixture
def witness(mongodb_uri: str, tmp_path: Path) -> Iterator[Witness]:
    host, port = parse_uri(mongodb_uri)["nodelist"][0]
    running = Witness(f"{host}:{port}", tmp_path / "record")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


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
