"""What is said twice must be the same twice: environment, settings, ports, Ray's parameters, Redis' memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from actors.adapters.redis_link import SAFE
from cluster.footprint import shortage
from cluster.head import LOGICAL_CPUS, OBJECT_STORE_BYTES
from cluster.ray_environment import max_connections, tuning
from cluster.settings import Settings
from k8s.check.documents import Document, Fault, Pod, name_of, of_kind, pods, quantity
from k8s.check.variables import OPEN_FILES, environment, settings_of

NODE_PORTS = range(30000, 32768)


def faults(documents: Sequence[Document]) -> list[Fault]:
    """Every disagreement within these manifests, and between them and cluster/."""
    found = []
    for service in of_kind(documents, "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        workers = cluster.get("workerGroupSpecs") or []
        by_owner = {pod.owner.partition(" ")[2]: pod for pod in pods([service])}
        config = yaml.safe_load(service["spec"].get("serveConfigV2") or "") or {}
        if any(application.get("args") for application in config.get("applications") or ()):
            what = "args of serveConfigV2 are settings that neither the drain of a pod nor this check would know"
            found.append(Fault(name_of(service), f"{what}: set SPILLWAY_... in the pods' environment"))
        for group, pod in zip([cluster["headGroupSpec"], *workers], by_owner.values(), strict=True):
            parameters = group.get("rayStartParams") or {}
            found += [*_ray(pod), *_ports(pod, parameters, config), *_host_network(pod)]
            store = parameters.get("object-store-memory")
            if store != str(OBJECT_STORE_BYTES):
                found.append(Fault(pod.owner, f"object-store-memory is {store}, not {OBJECT_STORE_BYTES}"))
        head = cluster["headGroupSpec"]
        wanted = "0" if workers else str(LOGICAL_CPUS)
        if head.get("rayStartParams", {}).get("num-cpus") != wanted:
            where = "beside workers" if workers else "as in cluster/head.py"
            found.append(Fault(by_owner["head"].owner, f"num-cpus must be {wanted!r} {where}"))
        settings = settings_of(by_owner["head"])
        if isinstance(settings, Settings):
            found += _redis_memory(documents, settings)
    return found


def _ray(pod: Pod) -> Iterator[Fault]:
    settings = settings_of(pod)
    if isinstance(settings, Fault):
        yield settings
        return
    values = environment(pod)
    files = int(values.get(OPEN_FILES) or 0)
    connections = int(values.get("RAY_SERVE_HAPROXY_MAXCONN") or 0)
    if not 0 < connections <= (max_connections(files) if files else 0):
        yield Fault(pod.owner, f"{connections} connections of HAProxy do not fit {OPEN_FILES}={files}")
        return
    cores = int(pod.limit("cpu") or 1)
    for name, value in tuning(files, cores).items():
        if values.get(name) != value:
            yield Fault(pod.owner, f"{name} is {values.get(name)!r}, cluster/ray_environment.py has {value!r}")
    binary = str(values.get("RAY_SERVE_HAPROXY_BINARY_PATH", ""))
    mounts = [str(mount["mountPath"]) for mount in pod.containers[0].get("volumeMounts") or ()]
    if str(Path(binary).parent) not in mounts:
        yield Fault(pod.owner, f"no volume brings {binary or 'the HAProxy that keeps its statistics to itself'}")
    if settings.http_host != "0.0.0.0":  # noqa: S104 (compared, not bound)
        yield Fault(pod.owner, "SPILLWAY_HTTP_HOST must be 0.0.0.0, or the direct port is closed to its Service")


def _ports(pod: Pod, parameters: dict[str, str], config: dict[str, Any]) -> Iterator[Fault]:
    settings = settings_of(pod)
    direct = settings.direct_port if isinstance(settings, Settings) else None
    http = config.get("http_options") or {}
    for name, port, said_by in (
        ("serve", http.get("port"), "serveConfigV2"),
        ("direct", direct, "SPILLWAY_DIRECT_PORT"),
        ("metrics", int(parameters.get("metrics-export-port", 8080)), "metrics-export-port"),
    ):
        if pod.ports.get(name) != port:
            yield Fault(pod.owner, f"its port {name} is {pod.ports.get(name)}, {said_by} says {port}")
    if len(set(pod.ports.values())) < len(pod.ports):
        yield Fault(pod.owner, f"two of its ports are the same: {pod.ports}")
    if http.get("host") != "0.0.0.0":  # noqa: S104
        yield Fault(pod.owner, "http_options.host of serveConfigV2 must be 0.0.0.0, or its Service finds it closed")


def _host_network(pod: Pod) -> Iterator[Fault]:
    if not pod.spec.get("hostNetwork"):
        return
    if pod.spec.get("dnsPolicy") != "ClusterFirstWithHostNet":
        yield Fault(pod.owner, "with hostNetwork it needs dnsPolicy ClusterFirstWithHostNet to find Redis and MongoDB")
    values = environment(pod)
    lowest = int(values.get("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT") or 30000)
    highest = int(values.get("RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT") or 31000)
    if lowest in NODE_PORTS or highest in NODE_PORTS or lowest < NODE_PORTS.start < highest:
        yield Fault(pod.owner, f"with hostNetwork, its replicas' ports {lowest} to {highest} lie among the NodePorts")


def _redis_memory(documents: Sequence[Document], settings: Settings) -> Iterator[Fault]:
    for document in of_kind(documents, "ConfigMap"):
        text = (document.get("data") or {}).get("redis.conf")
        if text is None:
            continue
        where = name_of(document)
        said = dict(line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#"))
        for key, value in SAFE.items():
            if said.get(key) != value:
                yield Fault(where, f"{key} is {said.get(key)}, must be {value}")
        memory = int(quantity(said.get("maxmemory", "0").replace("gb", "Gi").replace("mb", "Mi")))
        if not memory:
            yield Fault(where, "maxmemory is not set: a full Redis is killed before it can refuse")
        elif short := shortage(settings, memory):
            yield Fault(where, short)
        for pod in pods(documents):
            if pod.labels.get("app.kubernetes.io/component") == "redis":
                limit = pod.limit("memory")
                if limit is not None and limit < 2 * memory:
                    yield Fault(pod.owner, f"its memory limit {limit} is below twice maxmemory ({memory})")
        yield from _redis_volume(documents, memory)


def _redis_volume(documents: Sequence[Document], memory: int) -> Iterator[Fault]:
    """A log is rewritten when it has doubled: both lie there, and the new one, and what is written meanwhile."""
    for document in of_kind(documents, "StatefulSet"):
        spec = document["spec"]
        if spec["template"]["metadata"]["labels"].get("app.kubernetes.io/component") == "redis":
            for claim in spec.get("volumeClaimTemplates") or ():
                size = claim["spec"]["resources"]["requests"]["storage"]
                if quantity(size) < 4 * memory:
                    yield Fault(name_of(document), f"its volume of {size} is below four times maxmemory ({memory})")
