"""Which port a part gets: the one it prefers, unless somebody has it or it is promised to another part."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from cluster import reaper
from cluster.embedded import ports
from cluster.embedded.steps import Steps
from cluster.head import HeadConfig
from cluster.parts import PREFERRED_DASHBOARD_PORT, Parts
from cluster.settings import load
from cluster.state import PROJECT_ROOT, Process, Record, StateFolder

# Its child hides /proc/PID/fd from its own user by PR_SET_DUMPABLE, as a program with file capabilities does.
A_HIDDEN_PART = """import ctypes, os, signal, socket, sys
from cluster.embedded import ports
if os.getuid() == 0:  # who is shown everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
port, others = map(int, sys.argv[1:])
told, tell = os.pipe()
part = os.fork()
if not part:
    os.setsid()
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    with socket.create_server((ports.LOOPBACK, port)):
        os.write(tell, b"!")
        signal.pause()
try:
    os.read(told, 1)
    print(ports.holder(port), ports.intruder(port, ports.LOOPBACK, part), sep="|")
    print(ports.intruder(others, ports.LOOPBACK, part))
finally:
    os.kill(part, signal.SIGKILL)
"""


@pytest.fixture
def held() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_is_the_preferred_one_unless_it_is_held_or_promised_and_so_is_any_other(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = ports.free_port(0)
    assert free > 20_000, "below are those of Ray's workers"
    assert ports.free_port(free) == free
    assert ports.free_port(free, taken=[free]) != free
    monkeypatch.setattr(ports, "_quiet_ports", lambda: [free])
    assert ports.free_port(held) == free
    assert ports.free_port(held, taken=[free]) not in (held, free)
    monkeypatch.setattr(ports, "_quiet_ports", lambda: [held])
    assert ports.free_port(0) != held


def test_a_part_that_hides_from_its_own_user_is_no_intruder_and_another_users_program_is(held: int) -> None:
    command = [sys.executable, "-c", A_HIDDEN_PART, str(ports.free_port(0)), str(held)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    part, other = done.stdout.splitlines()
    assert part == "None|None", "hidden, and no intruder"
    assert other == ("another user's program" if os.getuid() == 0 else ports.holder(held))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whose_a_hidden_socket_is_tells_the_kernel(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    seen = psutil.net_connections
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [one._replace(pid=None) for one in seen(kind)])
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert ports.intruder(port, "0.0.0.0", 1) is None
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert ports.intruder(port, "0.0.0.0", 1) == "another user's program"
        monkeypatch.setattr(ports, "_SOCKETS", [Path("/nowhere")])
        assert ports.intruder(port, "0.0.0.0", 1) is None, "unknown"


def test_where_the_kernels_list_cannot_be_read_nobody_is_an_intruder(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert ports.intruder(held, ports.LOOPBACK, 1) is None


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    yield folder
    shutil.rmtree(folder.sockets)


@pytest.mark.parametrize(
    ("host", "reached_at", "direct"),
    [("0.0.0.0", "127.0.0.1", None), ("127.0.0.2", "127.0.0.2", PREFERRED_DASHBOARD_PORT)],
    ids=["the front door's", "the dashboard's"],
)
def test_no_two_parts_get_one_port_and_the_record_tells_what_ray_is_told(
    folder: StateFolder, host: str, reached_at: str, direct: int | None
) -> None:
    """Not even where the settings ask for it."""
    public = ports.free_port(0)
    settings = load(http_host=host, http_port=public, direct_port=direct or public)
    record = Record("run", Process(1, 1, "boot"), redis_url="redis://r/", service_mongodb_uri="mongodb://witness/")
    told = Parts(settings, folder, record, Steps(Console())).head().environment
    config = HeadConfig.read(folder.run / "head.json")
    chosen = [public, config.dashboard_port, config.metrics_port]
    chosen += [int(value) for name, value in told.items() if name.endswith("_PORT")]
    assert len(chosen) == len(set(chosen)) == 8
    assert record.http_url == f"http://{reached_at}:{public}"
    assert record.direct_url == f"http://{reached_at}:{told['SPILLWAY_DIRECT_PORT']}"
    assert record.dashboard_url == f"http://127.0.0.1:{config.dashboard_port}"
    assert record.ray_address == f"127.0.0.1:{told['RAY_GCS_SERVER_PORT']}"
    assert record.ray_temp_dir == config.temp_dir == str(folder.ray_temp_dir)
    assert record.ray_token_file == told["RAY_AUTH_TOKEN_PATH"]
    assert (told["SPILLWAY_REDIS_URL"], told["SPILLWAY_MONGODB_URI"]) == ("redis://r/", "mongodb://witness/")
    assert told[reaper.RUN_VARIABLE] == "run", "by which its processes are found"
    assert os.access(told["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
    assert {"502.http", "503.http", "504.http"} <= {path.name for path in folder.run.iterdir()}
