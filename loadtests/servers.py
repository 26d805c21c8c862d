"""FerretDB and Redis for experiments: where they are, and their command lines, the same for every contender."""

from __future__ import annotations

from pathlib import Path

from loadtests.service import ServiceError, tool


def path_of(name: str) -> str:
    """`redis-server`: the one `make up` would start. `ferretdb`: what stands for MongoDB in every experiment, mongod on
    the PATH or not. Raises ServiceError."""
    found = tool(name)
    if found is None:
        raise ServiceError(f"`python -m cluster tool {name}` gave no path")
    return found


def ferretdb_command(program: str, port: int, data: Path) -> list[str]:
    """A FerretDB on loopback with its files in `data`, which must exist; under a name without # or [."""
    return ["env", "-C", str(data), program, "-listen", f"127.0.0.1:{port}", "-data", "/proc/self/cwd"]


def redis_command(server: str, port: int, data: Path, appendfsync: str) -> list[str]:
    """A Redis on loopback that keeps a log in `data`, which must exist, and nothing else."""
    options = {"port": port, "bind": "127.0.0.1", "dir": data, "save": "", "appendonly": "yes"}
    options["appendfsync"] = appendfsync
    return [server, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
