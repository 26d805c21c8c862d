"""A service whose Redis and MongoDB are beyond fault proxies: service → proxy → Redis, service → proxy → witness →
MongoDB. The witness stands behind the proxy, so it stamps what MongoDB gets, when it gets it."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cluster.embedded import mongo_server, ports, redis_server
from cluster.embedded.child import Child, Recipe
from cluster.parts import WITNESS
from tests.acceptance.proxy import FaultProxy, carries
from tests.acceptance.service import Service
from tests.conftest import mongodb_recipe

MIB = 1024 * 1024
INSERT = carries(b"insert\0")  # to MongoDB
APPEND = carries(b"EVALSHA", b":stream:", b":once")  # to Redis; scripts are told apart by their keys
ACKNOWLEDGE = carries(b"EVALSHA", b":stream:", b":by")


@dataclass
class Servers:
    """Redis, MongoDB and the witness before it, and a fault proxy before each of the two."""

    folder: Path
    children: list[Child] = field(default_factory=list)

    def start(self) -> None:
        """They need no more than a few seconds. What cannot be had skips the test, or fails in CI."""
        redis_port, mongodb_port, self.witness_port = (ports.free_port(0) for _ in range(3))
        log = self.folder / "state" / "logs" / "redis.log"  # where a judge looks for it
        data = self._room("redis")
        self._run(redis_server.recipe(redis_server.find(data), redis_port, data, log, 1024 * MIB))
        self._run(mongodb_recipe(mongodb_port, self._room("mongodb")))
        self.mongodb_uri = mongo_server.address(mongodb_port)
        self.witness_record = self.folder / "witness.record"
        self._run(self._witness(mongodb_port))
        self.redis = FaultProxy(redis_port)
        self.mongodb = FaultProxy(self.witness_port)

    def stop(self) -> None:
        self.redis.close()
        self.mongodb.close()
        for child in reversed(self.children):
            child.stop()

    def _run(self, recipe: Recipe) -> None:
        child = Child(recipe)
        self.children.append(child)
        child.start()
        child.await_ready()

    def _witness(self, upstream_port: int) -> Recipe:
        listen, upstream = f"{ports.LOOPBACK}:{self.witness_port}", f"{ports.LOOPBACK}:{upstream_port}"
        command = [sys.executable, str(WITNESS), "--listen", listen, "--upstream", upstream]
        command += ["--record", str(self.witness_record)]
        address = mongo_server.address(self.witness_port)
        return Recipe("the witness", command, self.folder / "witness.log", lambda: mongo_server.is_ready(address))

    def _room(self, name: str) -> Path:
        room = self.folder / name
        room.mkdir()
        return room


class Wired(Service):
    """A running service beyond proxies. `redis` and `mongodb` are the proxies."""

    command: ClassVar = (sys.executable, "-m", "cluster", "up", "--no-witness")
    servers: Servers

    @classmethod
    def beyond(cls, servers: Servers, **settings: str) -> Wired:
        """Starts the servers and it. Raises `AssertionError` with the end of its output when it does not get ready."""
        servers.start()
        redis, mongodb = redis_server.address(servers.redis.port), mongo_server.address(servers.mongodb.port)
        try:
            found = cls.start(servers.folder, SPILLWAY_REDIS_URL=redis, SPILLWAY_MONGODB_URI=mongodb, **settings)
        except BaseException:
            servers.stop()
            raise
        found.servers = servers
        return found

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        try:
            return super().stop(by)
        finally:
            if self.addresses:  # else it did not start, and `beyond` stops them
                self.servers.stop()

    @property
    def redis(self) -> FaultProxy:
        return self.servers.redis

    @property
    def mongodb(self) -> FaultProxy:
        return self.servers.mongodb

    def status_of_run(self) -> dict[str, Any]:
        """With the addresses a judge needs: MongoDB itself, and the witness' record."""
        found = super().status_of_run()
        if found and hasattr(self, "servers"):
            found["mongodb_uri"] = self.servers.mongodb_uri
            found["witness_record"] = str(self.servers.witness_record)
        return found
