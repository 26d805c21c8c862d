"""What Ray is started with: arithmetic on limits, and nothing open to the network."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from cluster.head import HeadConfig
from cluster.ray_environment import Ports, client_environment, head_environment, max_connections, unstartable
from cluster.serve_config import for_a_run
from cluster.settings import Settings
from serve_app import bodies

PORTS = Ports(gcs=1, dashboard=2, metrics=3, fallback_proxy=4, haproxy_stats=5, haproxy_metrics=6)


def environment(**inherited: str) -> dict[str, str]:
    return head_environment(
        PORTS,
        token_file=Path("/s/token"),
        sockets=Path("/x/t"),
        haproxy=Path("/s/haproxy"),
        root=Path("/p"),
        hard_nofile=20_000,
        cores=2,
        inherited=inherited,
    )


@pytest.mark.parametrize(
    ("nofile", "connections"),
    [
        (20_000, 7_976),  # (20,000 - 60) / 2.5
        (1_048_576, 20_000),  # more is of no use here
        (700, 256),  # (700 - 60) / 2.5: the least
    ],
)
def test_connections_fit_the_limit_of_open_files(nofile: int, connections: int) -> None:
    assert max_connections(nofile) == connections
    assert 2.5 * connections + 40 <= nofile


def test_a_limit_too_low_is_refused_with_its_remedy() -> None:
    with pytest.raises(ValueError, match="ulimit"):
        max_connections(512)


def test_few_cores_get_one_haproxy_thread_and_the_users_choice_wins() -> None:
    assert environment()["RAY_SERVE_HAPROXY_NBTHREAD"] == "1"
    assert environment(RAY_SERVE_HAPROXY_NBTHREAD="3")["RAY_SERVE_HAPROXY_NBTHREAD"] == "3"


def test_haproxy_answers_for_a_silent_replica_but_not_while_a_request_may_still_wait_for_its_own() -> None:
    def most_s(name: str) -> float:
        return next(float(limit.le) for limit in Settings.model_fields[name].metadata if hasattr(limit, "le"))

    turn_and_append_s = 2 * most_s("request_timeout_s")
    longest_s = bodies.PATIENCE_S + turn_and_append_s + most_s("max_wait_s")
    assert longest_s + 60 <= int(environment()["RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"])


def test_rays_logs_fit_into_the_smallest_tmp() -> None:
    """That of compose.yaml, in memory. A session has some forty files, and the one before stays."""
    a_log = int(environment()["RAY_ROTATION_MAX_BYTES"]) * (1 + int(environment()["RAY_ROTATION_BACKUP_COUNT"]))
    assert 2 * 40 * a_log < 2 * 1024**3


def test_ray_stays_on_loopback_behind_a_token_and_joins_nobody_else() -> None:
    made = environment(RAY_AUTH_MODE="disabled", RAY_ADDRESS="elsewhere:6379", PYTHONPATH="/mine")
    assert made["RAY_AUTH_MODE"] == "token"
    assert made["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert made["RAY_ADDRESS"] == ""
    assert made["PYTHONPATH"] == "/p:/mine"


def test_a_client_gets_the_address_and_the_token() -> None:
    made = client_environment("/s/token", "127.0.0.1:6399")
    assert made["RAY_ADDRESS"] == "127.0.0.1:6399"
    assert made["RAY_AUTH_TOKEN_PATH"] == "/s/token"


def test_the_front_doors_address_is_put_into_the_serve_config() -> None:
    config = for_a_run("http_options: {keep_alive_timeout_s: 90, port: 1}\napplications: []\n", "127.0.0.1", 8001)
    assert config["http_options"] == {"keep_alive_timeout_s": 90, "host": "127.0.0.1", "port": 8001}
    assert for_a_run("applications: []\n", "h", 2)["http_options"] == {"host": "h", "port": 2}


def test_a_head_config_survives_the_disk(tmp_path: Path) -> None:
    config = HeadConfig("serve.yaml", "127.0.0.1", 8000, 2, 3, "/x/t")
    config.write(tmp_path / "head.json")
    assert HeadConfig.read(tmp_path / "head.json") == config


@pytest.mark.parametrize("folder", ["plain", "it's", "it's here", "a\\b", 'a"b', "C# [1] 100%", "é"])
def test_a_place_where_ray_could_start_no_worker_is_told(folder: str) -> None:
    python = f"/home/{folder}/.venv/bin/python"
    line = subprocess.list2cmdline([python, "worker.py"])  # as Ray does; its raylet takes it apart as a shell
    try:
        arrives = shlex.split(line)[0] == python
    except ValueError:  # a quotation without an end
        arrives = False
    assert ("rename it" in unstartable(python)) == (not arrives)
