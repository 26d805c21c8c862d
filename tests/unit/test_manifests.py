"""The manifests' cross-checks: nothing wrong with ours, and each kind of mistake is found for what it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from k8s.check import __main__ as check
from k8s.check import render
from k8s.check.documents import Document, Fault
from k8s.check.inspection import OVERLAYS, drift, inspect, ray_version
from k8s.check.serve import config_faults
from tests.unit.manifests import (
    add_worker,
    base,
    container,
    edit_serve,
    find,
    head,
    set_variable,
    stateful,
    unset_variable,
    with_workers,
    without_mongodb,
)

Plant = Callable[[list[Document]], Any]
NAMES = "names, ports, Secrets, volumes"
LIMITS = "requests, limits, images, drain"
VARIABLES = "environment and settings"
AGREEMENT = "ports, descriptors, memory agree"
SERVE = "Serve config: schema, keys, options"


def parameters(documents: list[Document]) -> Document:
    found: Document = find(documents, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]
    return found


def edge(config: Document) -> Document:
    found: Document = config["applications"][0]["deployments"][0]
    return found


def redis_conf(documents: list[Document], old: str, new: str) -> None:
    data = find(documents, "ConfigMap", "spillway-redis")["data"]
    assert old in data["redis.conf"]
    data["redis.conf"] = data["redis.conf"].replace(old, new)


MISTAKES: dict[str, tuple[Plant, str, str]] = {
    "a Service that names no port of its pods": (
        lambda all_: find(all_, "Service", "spillway-direct")["spec"]["ports"][0].update(targetPort="dirct"),
        NAMES,
        "Service/spillway-direct: RayService/spillway head has no port dirct",
    ),
    "a Service that selects nothing": (
        lambda all_: find(all_, "Service")["spec"]["selector"].update({"app.kubernetes.io/component": "haed"}),
        NAMES,
        "Service/spillway: its selector {'app.kubernetes.io/component': 'haed'} matches no pod",
    ),
    "a Secret that nobody makes": (
        lambda all_: container(all_)["env"][0]["valueFrom"]["secretKeyRef"].update(name="spillway-rediss"),
        NAMES,
        "Secret spillway-rediss does not exist",
    ),
    "a key that the Secret does not have": (
        lambda all_: container(all_)["env"][1]["valueFrom"]["secretKeyRef"].update(key="url"),
        NAMES,
        "Secret spillway-mongodb has no key url, only password, uri, username",
    ),
    "a ConfigMap under another name": (
        lambda all_: find(all_, "ConfigMap", "spillway-haproxy")["metadata"].update(name="spillway-haproxy-x1"),
        NAMES,
        "ConfigMap spillway-haproxy does not exist",
    ),
    "a mount of no volume": (
        lambda all_: container(all_)["volumeMounts"][0].update(name="temp"),
        NAMES,
        "mounts a volume temp that it does not have",
    ),
    "an account that is not there": (
        lambda all_: head(all_).update(serviceAccountName="default"),
        NAMES,
        "ServiceAccount default does not exist",
    ),
    "a policy for nobody": (
        lambda all_: find(all_, "NetworkPolicy", "redis")["spec"]["podSelector"].update(matchLabels={"tier": "rds"}),
        NAMES,
        "NetworkPolicy/redis: its podSelector matches no pod",
    ),
    "a policy that lets nobody in": (
        lambda all_: find(all_, "NetworkPolicy", "redis")["spec"]["ingress"][0].update(
            {"from": [{"podSelector": {"matchLabels": {"tier": "rai"}}}]}
        ),
        NAMES,
        "NetworkPolicy/redis: its peer {'matchLabels': {'tier': 'rai'}} matches no pod",
    ),
    "a budget for nobody": (
        lambda all_: find(all_, "PodDisruptionBudget", "redis")["spec"]["selector"].update(matchLabels={"tier": "x"}),
        NAMES,
        "PodDisruptionBudget/redis: its selector matches no pod",
    ),
    "Services that become settings": (
        lambda all_: head(all_).pop("enableServiceLinks"),
        NAMES,
        "enableServiceLinks must be false",
    ),
    "a request above its limit": (
        lambda all_: container(all_)["resources"]["requests"].update(memory="9Gi"),
        LIMITS,
        "requests 9Gi of memory, above its limit of 8Gi",
    ),
    "a container without a limit": (
        lambda all_: stateful(all_, "spillway-redis")["containers"][0]["resources"]["limits"].pop("memory"),
        LIMITS,
        "container redis: has no limit of memory",
    ),
    "an image that moves": (
        lambda all_: container(all_).update(image="spillway:latest"),
        LIMITS,
        "image spillway:latest is not pinned",
    ),
    "an image without a version": (
        lambda all_: stateful(all_, "spillway-mongodb")["initContainers"][0].update(image="registry:5000/mongo"),
        LIMITS,
        "image registry:5000/mongo is not pinned",
    ),
    "a setting that the drain does not know": (
        lambda all_: edit_serve(all_, lambda config: config["applications"][0].update(args={"drain_timeout_s": 600})),
        AGREEMENT,
        "RayService/spillway: args of serveConfigV2 are settings that neither the drain",
    ),
    "a grace period shorter than a drain": (
        lambda all_: head(all_).update(terminationGracePeriodSeconds=90),
        LIMITS,
        "terminationGracePeriodSeconds is 90, its end may take 95 s",
    ),
    "a drain longer than the grace period": (
        lambda all_: set_variable(all_, "SPILLWAY_DRAIN_TIMEOUT_S", "300"),
        LIMITS,
        "terminationGracePeriodSeconds is 120, its end may take 335 s",
    ),
    "a drain of Ray's after ours": (
        lambda all_: set_variable(all_, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "30"),
        LIMITS,
        "RayService/spillway head: terminationGracePeriodSeconds is 120, its end may take 125 s",
    ),
    "a drain of Ray's that nobody has counted": (
        lambda all_: unset_variable(all_, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"),
        LIMITS,
        "RayService/spillway head: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S is None, must be whole seconds",
    ),
    "no drain": (
        lambda all_: container(all_).pop("lifecycle"),
        LIMITS,
        "RayService/spillway head: preStop must be: python -m cluster drain",
    ),
    "a worker that drains": (
        lambda all_: add_worker(all_),
        LIMITS,
        "RayService/spillway group edge: preStop must be: sh -c 'for _ in $(seq 85); do grep",
    ),
    "a worker that does not wait for the drain": (
        lambda all_: add_worker(all_)["containers"][0].pop("lifecycle"),
        LIMITS,
        "RayService/spillway group edge: preStop must be: sh -c 'for _ in $(seq 85); do grep",
    ),
    "a worker that waits for a shorter drain": (
        lambda all_: (set_variable(all_, "SPILLWAY_DRAIN_TIMEOUT_S", "300"), with_workers(all_)),
        LIMITS,
        "RayService/spillway group edge: preStop must be: sh -c 'for _ in $(seq 325); do grep",
    ),
    "a worker killed while it waits": (
        lambda all_: with_workers(all_).update(terminationGracePeriodSeconds=120),
        LIMITS,
        "RayService/spillway group edge: terminationGracePeriodSeconds is 120, its end may take 125 s",
    ),
    "a head that waits for Serve": (
        lambda all_: container(all_).update(readinessProbe={"httpGet": {"path": "/-/healthz", "port": "serve"}}),
        LIMITS,
        "RayService/spillway head: must have no readinessProbe",
    ),
    "a worker that is asked with wget": (
        lambda all_: add_worker(all_),
        LIMITS,
        "RayService/spillway group edge: needs a readinessProbe",
    ),
    "a worker that is asked on another port": (
        lambda all_: add_worker(all_)["containers"][0].update(readinessProbe={"httpGet": {"port": "direct"}}),
        LIMITS,
        "RayService/spillway group edge: needs a readinessProbe",
    ),
    "root": (
        lambda all_: stateful(all_, "spillway-redis")["securityContext"].pop("runAsNonRoot"),
        LIMITS,
        "StatefulSet/spillway-redis: securityContext.runAsNonRoot is not true",
    ),
    "a Ray that the image does not hold": (
        lambda all_: find(all_, "RayService")["spec"]["rayClusterConfig"].update(rayVersion="2.59.0"),
        LIMITS,
        "rayVersion is 2.59.0",
    ),
    "a setting that is none": (
        lambda all_: set_variable(all_, "SPILLWAY_DRAIN_TIMEOUT", "60"),
        VARIABLES,
        "nobody reads the variable SPILLWAY_DRAIN_TIMEOUT",
    ),
    "a variable that Serve does not read": (
        lambda all_: set_variable(all_, "RAY_SERVE_HAPROXY_MAX_CONN", "100"),
        VARIABLES,
        "nobody reads the variable RAY_SERVE_HAPROXY_MAX_CONN",
    ),
    "a value that a setting refuses": (
        lambda all_: set_variable(all_, "SPILLWAY_DRAIN_TIMEOUT_S", "a minute"),
        VARIABLES,
        "drain_timeout_s: Input should be a valid number",
    ),
    "more connections than descriptors": (
        lambda all_: set_variable(all_, "RAY_START_ULIMIT_OPEN_FILES", "20000"),
        AGREEMENT,
        "20000 connections of HAProxy do not fit RAY_START_ULIMIT_OPEN_FILES=20000",
    ),
    "a Ray tuned otherwise": (
        lambda all_: set_variable(all_, "RAY_worker_niceness", "15"),
        AGREEMENT,
        "RAY_worker_niceness is '15', cluster/ray_environment.py has '0'",
    ),
    "a front door on another port": (
        lambda all_: edit_serve(all_, lambda config: config["http_options"].update(port=8001)),
        AGREEMENT,
        "its port serve is 8000, serveConfigV2 says 8001",
    ),
    "a front door on loopback": (
        lambda all_: edit_serve(all_, lambda config: config["http_options"].update(host="127.0.0.1")),
        AGREEMENT,
        "http_options.host of serveConfigV2 must be 0.0.0.0",
    ),
    "a direct port on another port": (
        lambda all_: set_variable(all_, "SPILLWAY_DIRECT_PORT", "8081"),
        AGREEMENT,
        "its port direct is 8080, SPILLWAY_DIRECT_PORT says 8081",
    ),
    "metrics on the direct port": (
        lambda all_: parameters(all_).pop("metrics-export-port"),
        AGREEMENT,
        "its port metrics is 44217, metrics-export-port says 8080",
    ),
    "a head without CPUs and without workers": (
        lambda all_: parameters(all_).update({"num-cpus": "0"}),
        AGREEMENT,
        "num-cpus must be '8'",
    ),
    "the host's network with the cluster's names": (
        lambda all_: head(all_).update(hostNetwork=True),
        AGREEMENT,
        "needs dnsPolicy ClusterFirstWithHostNet",
    ),
    "the host's network among the NodePorts": (
        lambda all_: head(all_).update(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
        AGREEMENT,
        "ports 30000 to 31000 lie among the NodePorts",
    ),
    "a Redis that forgets": (
        lambda all_: redis_conf(all_, "noeviction", "allkeys-lru"),
        AGREEMENT,
        "maxmemory-policy is allkeys-lru, must be noeviction",
    ),
    "a Redis that is full before the bound": (
        lambda all_: redis_conf(all_, "maxmemory 1gb", "maxmemory 512mb"),
        AGREEMENT,
        "maxmemory is 512 MiB, and the bounds of the settings may need 881 MiB",
    ),
    "a Redis without a bound": (
        lambda all_: redis_conf(all_, "maxmemory 1gb\n", ""),
        AGREEMENT,
        "maxmemory is not set",
    ),
    "a Redis killed for its memory": (
        lambda all_: redis_conf(all_, "maxmemory 1gb", "maxmemory 2gb"),
        AGREEMENT,
        "its memory limit 2147483648 is below twice maxmemory",
    ),
    "a Redis whose disk is full before its memory": (
        lambda all_: find(all_, "StatefulSet", "spillway-redis")["spec"]["volumeClaimTemplates"][0]["spec"][
            "resources"
        ]["requests"].update(storage="2Gi"),
        AGREEMENT,
        "StatefulSet/spillway-redis: its volume of 2Gi is below four times maxmemory (1073741824)",
    ),
    "a key that Serve ignores": (
        lambda all_: edit_serve(all_, lambda config: edge(config).update(max_ongoing_request=5)),
        SERVE,
        "Serve ignores the key applications[0].deployments[0].max_ongoing_request",
    ),
    "a value that Serve refuses": (
        lambda all_: edit_serve(all_, lambda config: edge(config).update(num_replicas=-1)),
        SERVE,
        "applications.0.deployments.0.num_replicas",
    ),
    "an option that is none": (
        lambda all_: edit_serve(all_, lambda config: config["applications"][0].update(args={"bufers": 2})),
        SERVE,
        "bufers: no option is called so",
    ),
    "an option out of bounds": (
        lambda all_: edit_serve(all_, lambda config: config["applications"][0].update(args={"buffers": 0})),
        SERVE,
        "buffers: Input should be greater than or equal to 1",
    ),
    "a deployment that the application does not have": (
        lambda all_: edit_serve(all_, lambda config: edge(config).update(name="Ingress")),
        SERVE,
        "deployments are ['Ingress'], the application has ['Edge']",
    ),
}


def test_the_manifests_have_no_fault() -> None:
    assert inspect(base()) == {NAMES: [], LIMITS: [], VARIABLES: [], AGREEMENT: [], SERVE: []}
    assert OVERLAYS == ("dev", "external-mongodb", "one-node", "workers", "workers-large")


def test_without_the_bundled_mongodb_nothing_names_it_and_the_service_may_reach_another() -> None:
    documents = without_mongodb()
    assert [fault for faults in inspect(documents).values() for fault in faults] == []
    assert not [document for document in documents if "mongodb" in document["metadata"]["name"]]
    egress = find(documents, "NetworkPolicy", "ray")["spec"]["egress"]
    assert {"ports": [{"port": 27017}]} in egress
    assert len(egress) == len(find(base(), "NetworkPolicy", "ray")["spec"]["egress"])


def test_a_worker_waits_for_the_drain_of_the_head_and_is_given_the_time_for_it() -> None:
    documents = base()
    with_workers(documents)
    assert inspect(documents)[LIMITS] == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found_for_what_it_is(mistake: str) -> None:
    plant, check, message = MISTAKES[mistake]
    documents = base()
    plant(documents)
    found = inspect(documents)
    assert any(message in str(fault) for fault in found[check]), found


def test_made_files_are_what_cluster_makes_them() -> None:
    assert drift() == []


def test_an_edited_made_file_has_drifted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "serve.yaml"
    changed.write_text(render.SOURCE.read_text().replace("num_replicas: 1", "num_replicas: 2"))
    monkeypatch.setattr(render, "SOURCE", changed)
    assert "k8s/base/serve-config.yaml" in {fault.where for fault in drift()}


def test_the_serve_config_that_serve_run_takes_has_no_fault() -> None:
    assert config_faults(render.SOURCE.read_text()) == []


def test_rays_version_is_the_pinned_one() -> None:
    assert ray_version().count(".") == 2


def test_the_report_names_each_fault_once_with_its_overlays(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Console(record=True, width=200, file=io.StringIO())
    monkeypatch.setattr(check, "out", page)
    fault = Fault("Service/spillway", "has [no] port")
    none: dict[str, list[Fault]] = {overlay: [] for overlay in OVERLAYS}
    assert check.show({"names": none | {"dev": [fault], "workers": [fault]}})
    text = page.export_text()
    assert text.count("Service/spillway: has [no] port") == 1
    assert "dev, workers: names" in text
    assert not check.show({"names": none})
