"""The database of a machine that has no MongoDB: mongod on PATH, else FerretDB; but the one goes on that has begun.

mongod runs standalone, not as a replica set: the service needs no transactions and no change streams, and a replica
set remembers a port that may be another one tomorrow. Its journal makes j=true mean the same in both.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pymongo
from pymongo.errors import ConfigurationError, PyMongoError

from actors.adapters import mongos
from cluster.embedded.child import Recipe
from cluster.embedded.ports import LOOPBACK

PREFERRED_PORT = 27117
"""Not 27017: that one belongs to the MongoDB a developer may have."""
FAR_S = 5.0
"""How long a server that is not ours may take for a first answer: names, TLS and a primary have to be found."""


class NoMongoServer(RuntimeError):
    """There is no server for these data; the message says why, and in its second line what to do."""


class UnusableUri(ValueError):
    """No server can be asked under this URI, now or later; the message says why, without any part of a password."""


@dataclass(frozen=True)
class MongoServer:
    """A mongod, or, without one, the FerretDB that is built; `why`, where one would look for the other."""

    mongod: Path | None
    why: str = ""

    @property
    def folder(self) -> str:
        """What its data folder is called; neither reads the other's."""
        return "mongod" if self.mongod else "ferretdb"


def find(data: Path) -> MongoServer:
    """The server to start: mongod where there is one, unless FerretDB has begun in `data`, the folder of both.

    Raises `NoMongoServer`: the other one would begin with an empty database, and say nothing.
    """
    mongod = mongod_on_path()
    by_mongod, by_ferretdb = any(data.glob("mongod/WiredTiger*")), any(data.glob("ferretdb/*.sqlite"))
    if by_mongod and by_ferretdb:
        raise NoMongoServer(
            f"Two databases are in {data}, and a run has one: mongod is of a mongod, ferretdb is of FerretDB.\n"
            "Neither is touched. What to do: docs/operations.md, 'Two databases are in'"
        )
    if by_mongod and mongod is None:
        raise NoMongoServer(
            f"The database in {data / 'mongod'} was written by a mongod, and none is on PATH.\n"
            "It is not touched. Bring mongod back to PATH, or set SPILLWAY_MONGODB_URI to a server that has these "
            "documents; or move that folder away, to begin with none (docs/operations.md, 'Another Redis')"
        )
    if by_ferretdb and mongod:
        why = f"FerretDB goes on with {data / 'ferretdb'}, which it wrote; {mongod} would begin with an empty database"
        return MongoServer(None, why)
    return MongoServer(mongod)


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
        environment={"LC_ALL": "C"},  # it does not start under a locale that this machine has not
        ready=lambda: is_ready(address(port)),
        port=port,
        ready_timeout_s=60.0,
        stop_timeout_s=30.0,
        advice="A data folder of another mongod version is a usual cause. Data folder: " + str(data),
    )


def ferretdb_recipe(binary: Path, port: int, data: Path, log: Path) -> Recipe:
    """How to run our FerretDB on loopback:`port` with its files in `data`, which must exist.

    It takes the folder's name for a part of a URL, and of a pattern: with a # ? or % in it, it does not start; with a [
    it finds no database again, and begins an empty one in the same file. So it is told of the folder it stands in.
    """
    return Recipe(
        name="MongoDB (FerretDB)",
        command=["env", "-C", str(data), str(binary), "-listen", f"{LOOPBACK}:{port}", "-data", "/proc/self/cwd"],
        log=log,
        ready=lambda: is_ready(address(port)),
        port=port,
        ready_timeout_s=60.0,
        advice="Data folder: " + str(data),
    )


def address(port: int) -> str:
    """The URI of a server of ours, or of the witness before it."""
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true"


def too_weak(write_concern: str) -> str:
    """What is wrong with it; empty when nothing is. Not for a server of ours: a standalone one has no failover."""
    if write_concern.isdecimal() and int(write_concern) == 1:
        return f"SPILLWAY_WRITE_CONCERN={write_concern}: a failover may take back what has left the log"
    return ""


def is_ready(uri: str) -> bool:
    """Whether the server of ours at `uri` answers within a second."""
    return not trouble(uri, wait_s=0.8)


def trouble(uri: str, wait_s: float) -> str:
    """Why the MongoDB server at `uri` does not answer within `wait_s`, empty when it does. Raises `UnusableUri`.

    Asks only for `hello`, which is no counted command.
    """
    most = int(wait_s * 1000)
    try:
        client = pymongo.MongoClient[dict[str, object]](
            uri, connect=False, serverSelectionTimeoutMS=most, connectTimeoutMS=most, socketTimeoutMS=most
        )
    except OSError as error:  # of a file that an option names
        raise UnusableUri(f"{error.strerror}: {error.filename}" if error.filename else str(error)) from None
    except (ConfigurationError, ValueError, TypeError) as error:
        # What the driver quotes, or says behind a colon, may be a piece of a password that was not escaped.
        why = re.split('["\']|: |[.] ', str(error))[0].strip()
        raise UnusableUri(f"{why}. In a name or a password, write each of : / ? # [ ] @ % as %40 for @") from None
    with client:
        try:
            hello = client.admin.command("hello")
        except PyMongoError as error:
            # The driver's first sentence; it goes on with the whole topology.
            return re.split(", Timeout:|,? full error:| [(]configured timeouts", str(error))[0].rstrip(".,")
        if wrong := mongos.too_many(hello, client):
            raise UnusableUri(wrong)
    return ""
