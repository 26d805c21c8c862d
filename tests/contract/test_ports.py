"""Which port a part gets: the one it prefers, unless somebody has it or it is promised to another part."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cluster import reaper
from cluster.embedded import ports
from cluster.embedded.steps import Steps
from cluster.head import HeadConfig
from cluster.parts import PREFERRED_DASHBOARD_PORT, Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder


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
