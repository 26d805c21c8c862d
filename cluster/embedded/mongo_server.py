"""The database of a machine that has no MongoDB: mongod on PATH, else FerretDB.

mongod runs standalone, not as a replica set: the service needs no transactions and no change streams, and a replica
set remembers a port that may be another one tomorrow. Its journal makes j=true mean the same in both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from cluster.embedded.child import Recipe
from cluster.embedded.ports import LOOPBACK

PREFERRED_PORT = 27117
"""Not 27017: that one belongs to the MongoDB a developer may have."""


def mongod_on_path() -> Path | None:
    """A real MongoDB server, if this machine has one."""
    found = shutil.which("mongod")
    return Path(found) if found else None


def mongod_recipe(binary: Path, port: int, data: Path, log: Path) -> Recipe:
    """How to run mongod on loopback:`port` with its files in `data`, which must exist."""
    return Recipe(
        name="MongoDB",
        command=[str(binary), "--port", str(port), "--bind_ip", LOOPBACK, "--dbpath", str(data), "--nounixsocket"],
        log=log,
        ready=lambda: is_ready(address(port)),
        ready_timeout_s=60.0,
        stop_timeout_s=30.0,
        advice="A data folder of another mongod version is a usual cause. Data folder: " + str(data),
    )


def ferretdb_recipe(binary: Path, port: int, data: Path, log: Path) -> Recipe:
    """How to run our FerretDB on loopback:`port` with its files in `data`, which must exist."""
    return Recipe(
        name="MongoDB (FerretDB)",
        command=[str(binary), "-listen", f"{LOOPBACK}:{port}", "-data", str(data)],
        log=log,
        ready=lambda: is_ready(address(port)),
        ready_timeout_s=60.0,
        advice="Data folder: " + str(data),
    )


def address(port: int) -> str:
    """The URI of a server of ours, or of the witness before it."""
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true"


def is_ready(uri: str) -> bool:
    """Whether a MongoDB server answers at `uri` within a second; asks only for `hello`, which is no counted command."""
    try:
        with pymongo.MongoClient[dict[str, object]](
            uri, serverSelectionTimeoutMS=800, connectTimeoutMS=800, socketTimeoutMS=800
        ) as client:
            client.admin.command("hello")
    except PyMongoError:
        return False
    return True
