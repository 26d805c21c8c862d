"""The environment Ray and Serve are started with: pure arithmetic and names, no process is touched here.

Ray reads most of these once, when its first process starts; later is too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HAPROXY_DEFAULT_MAXCONN = 20_000
HAPROXY_FEWEST = 256
HAPROXY_FOLDER = "h"
"""Inside the folder for sockets; one letter, because HAProxy refuses socket paths above 97 bytes."""
FRONT_DOOR_CHECK_S = 0.2
"""Seconds between two looks at HAProxy. After three in vain Serve starts another; its own 10 would be half a minute."""
FRONT_DOOR_START_S = 30.0
"""Seconds HAProxy and the proxy behind it may take to start, three times; Serve's own 5 never do on a busy machine."""
CONTROL_LOOP_S = 0.25
"""Seconds between two looks of Serve's controller at everything; its own 0.1 take a twentieth of a core, always."""
SLOW_CALLER_S = 90
"""Seconds a caller may read nothing of what HAProxy holds of its answer, whose own are an hour; a replica has its own
limit for the rest (serve_app/unread.py). It does not count while the caller waits for us."""
SILENT_REPLICA_S = 600
"""Seconds after which HAProxy answers for a replica that does not: above the longest a request may take, whatever is
set: a minute each for its body, its turn and the append, five for MongoDB. Serve kills one that hangs after 90 s;
HAProxy itself has no limit, and where Serve hangs as well nobody would ever answer."""
LOG_BYTES = 8 * 1024 * 1024
"""Of each log file of Ray's, and of the one before it; Ray's own are 512 MiB, and five before. A dozen of them grow by
170 MiB a day together: in memory where /tmp is that, and a pod is evicted when its volume is full."""
DRAINING_S = 2
"""Seconds a replica keeps serving after it was told to stop; Serve's own 30 would outlast its shutdown."""


@dataclass(frozen=True)
class Ports:
    """Every port of Ray that would otherwise be fixed, or open to the network."""

    gcs: int
    dashboard: int
    metrics: int
    fallback_proxy: int
    haproxy_stats: int
    haproxy_metrics: int


def max_connections(hard_nofile: int) -> int:
    """Connections HAProxy may be told to accept: each takes 2.5 descriptors, some 40 come on top.

    Raises `ValueError` when the limit is too low for any use.
    """
    fitting = int((hard_nofile - 60) / 2.5)
    if fitting < HAPROXY_FEWEST:
        raise ValueError(f"the limit of open files is {hard_nofile}; 700 is the least: ulimit -Hn, limits.conf")
    return min(fitting, HAPROXY_DEFAULT_MAXCONN)


def unstartable(python: str) -> str:
    """Why Ray could start no worker with the program `python`, and what to do; empty where it can.

    It quotes the command as Windows does, which minds a blank alone, and takes it apart as a shell does.
    """
    if " " in python or not set("'\\") & set(python):
        return ""
    return f"Ray starts no worker where a folder has a ' or a \\ in its name: rename it, or move the project: {python}"


def client_environment(token_file: str, ray_address: str) -> dict[str, str]:
    """What any program needs to join a running Ray of ours."""
    return {
        "RAY_ADDRESS": ray_address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_file,
        # Despite its name it decides on Linux too: without it Ray binds to the network's address, not to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def tuning(hard_nofile: int, cores: int) -> dict[str, str]:
    """What makes Ray and Serve fit this service, on a machine or in a pod. Raises `ValueError` as `max_connections`."""
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(1 if cores <= 4 else 4),
        "RAY_SERVE_HAPROXY_MAXCONN": str(max_connections(hard_nofile)),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(SLOW_CALLER_S),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(SILENT_REPLICA_S),
        "RAY_SERVE_HAPROXY_LOG_TARGET": "127.0.0.1:514 sample 1:1000",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(FRONT_DOOR_CHECK_S),
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(FRONT_DOOR_START_S),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAINING_S),
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": str(CONTROL_LOOP_S),
        "RAY_worker_niceness": "0",
        # Arguments above this go through the object store: two more processes for a batch of a few hundred writes.
        "RAY_max_direct_call_object_size": str(8 * 1024 * 1024),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }


def head_environment(
    ports: Ports,
    *,
    token_file: Path,
    sockets: Path,
    haproxy: Path,
    root: Path,
    hard_nofile: int,
    cores: int,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """The variables of the Ray head. What the user has set under the same RAY_ name wins, except the addresses."""
    fixed = {
        **client_environment(str(token_file), ""),  # no address: one would make Ray join a cluster, not start one
        "RAY_GCS_SERVER_PORT": str(ports.gcs),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_proxy),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(sockets / HAPROXY_FOLDER / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(sockets / HAPROXY_FOLDER / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(sockets / HAPROXY_FOLDER),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(sockets / HAPROXY_FOLDER / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(sockets / HAPROXY_FOLDER / "m.sock"),
        "PYTHONPATH": ":".join(filter(None, (str(root), inherited.get("PYTHONPATH", "")))),
    }
    return {name: inherited.get(name, value) for name, value in tuning(hard_nofile, cores).items()} | fixed
