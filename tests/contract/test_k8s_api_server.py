"""The rendered overlays against a real API server: what it accepts, and each mistake that only it can see."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.embedded.child import ChildFailed
from cluster.embedded.steps import Steps
from cluster.embedded.toolchain import BuildFailed
from k8s.check import programs, trial
from k8s.check.__main__ import rendered
from k8s.check.control_plane import Api, Refused, control_plane
from k8s.check.documents import Document, pods
from k8s.check.inspection import OVERLAYS, inspect, secrets
from tests.conftest import missing
from tests.unit.manifests import container, find, head, stateful

Plant = Callable[[list[Document]], Any]


@pytest.fixture(scope="session")
def steps() -> Steps:
    return Steps(Console(stderr=True))


@pytest.fixture(scope="session")
def folder(steps: Steps) -> Path:
    try:
        return programs.built(steps)
    except BuildFailed as error:
        missing(str(error))


@pytest.fixture(scope="session")
def definition(folder: Path, steps: Steps) -> Path:
    try:
        return programs.crd(steps, None, False, folder).path
    except BuildFailed as error:
        missing(str(error))


@pytest.fixture(scope="session")
def api(folder: Path, definition: Path, steps: Steps) -> Iterator[Api]:
    try:
        with control_plane(folder, steps) as running:
            trial.install(running, definition)
            yield running
    except ChildFailed as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _base(folder: Path) -> list[Document]:
    return rendered(folder, "dev")


@pytest.fixture
def documents(_base: list[Document]) -> list[Document]:
    return copy.deepcopy(_base)


def cluster(documents: list[Document]) -> Document:
    found: Document = find(documents, "RayService")["spec"]["rayClusterConfig"]
    return found


# One document is tried in each case, since the whole overlay takes the API server ten seconds.
MISTAKES: dict[str, tuple[Plant, str, str, str]] = {
    "rayStartParams under another name": (
        lambda all_: cluster(all_)["headGroupSpec"].update(rayStartParam={}),
        "RayService",
        "spillway",
        "rayStartParam: field not declared in schema",
    ),
    "a number where Ray's parameters are text": (
        lambda all_: cluster(all_)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 8}),
        "RayService",
        "spillway",
        "num-cpus: expected string",
    ),
    "a field of no pod, deep inside": (
        lambda all_: head(all_).update(terminationGracePeriod=120),
        "RayService",
        "spillway",
        "terminationGracePeriod: field not declared in schema",
    ),
    "an authentication that does not exist": (
        lambda all_: cluster(all_)["authOptions"].update(mode="tokens"),
        "RayService",
        "spillway",
        'Unsupported value: "tokens"',
    ),
    "another field of no StatefulSet": (
        lambda all_: stateful(all_, "spillway-redis").update(restartpolicy="Always"),
        "StatefulSet",
        "spillway-redis",
        "restartpolicy: field not declared in schema",
    ),
    "a selector that is not its template's": (
        lambda all_: find(all_, "StatefulSet", "spillway-redis")["spec"]["selector"].update(matchLabels={"a": "b"}),
        "StatefulSet",
        "spillway-redis",
        "`selector` does not match template `labels`",
    ),
    "a port beyond all ports": (
        lambda all_: find(all_, "Service")["spec"]["ports"][0].update(port=80000),
        "Service",
        "spillway",
        "must be between 1 and 65535",
    ),
    "a budget with both ends": (
        lambda all_: find(all_, "PodDisruptionBudget", "redis")["spec"].update(maxUnavailable=1),
        "PodDisruptionBudget",
        "redis",
        "minAvailable and maxUnavailable cannot be both set",
    ),
}

POD_MISTAKES: dict[str, tuple[Plant, str]] = {
    "a mount of no volume": (
        lambda all_: container(all_)["volumeMounts"].append({"name": "elsewhere", "mountPath": "/x"}),
        'Not found: "elsewhere"',
    ),
    "a request above its limit": (
        lambda all_: container(all_)["resources"]["requests"].update(cpu="64"),
        "must be less than or equal to cpu limit",
    ),
    "two ports of one name": (
        lambda all_: container(all_)["ports"].append({"name": "serve", "containerPort": 9}),
        'Duplicate value: "serve"',
    ),
    "more than the namespace allows": (
        lambda all_: container(all_)["securityContext"].pop("allowPrivilegeEscalation"),
        'violates PodSecurity "restricted:latest"',
    ),
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_has_no_fault_before_it_meets_a_server(folder: Path, overlay: str) -> None:
    found = inspect(rendered(folder, overlay))
    assert not any(found.values()), found


def test_the_overlay_is_accepted_whole_and_leaves_nothing(api: Api, documents: list[Document]) -> None:
    assert trial.faults(api, documents, secrets()) == []
    assert "No resources found" in api.run("get", "statefulset,service,rayservice,secret", "--namespace", "spillway")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_server_refuses_a_planted_mistake_for_what_it_is(
    api: Api, documents: list[Document], mistake: str
) -> None:
    plant, kind, name, message = MISTAKES[mistake]
    api.apply([find(documents, "Namespace")])
    api.apply([find(documents, kind, name)], dry_run=True)
    plant(documents)
    with pytest.raises(Refused) as refusal:
        api.apply([find(documents, kind, name)], dry_run=True)
    assert message in str(refusal.value)


@pytest.mark.parametrize("mistake", POD_MISTAKES)
def test_what_a_schema_cannot_see_is_refused_in_the_pod_itself(
    api: Api, documents: list[Document], mistake: str
) -> None:
    plant, message = POD_MISTAKES[mistake]
    api.apply([find(documents, "Namespace")])
    plant(documents)
    api.apply([find(documents, "RayService")], dry_run=True)  # RayService's schema has nothing against it
    (pod,) = (pod for pod in pods(documents) if pod.owner == "RayService/spillway head")
    with pytest.raises(Refused) as refusal:
        api.apply([trial.as_pod(pod, "spillway")], dry_run=True)
    assert message in str(refusal.value)


def test_the_definition_can_come_from_a_cluster_and_is_taken_again(
    api: Api, folder: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = programs.crd(steps, None, True, folder)
    assert found.origin == "the cluster that kubectl talks to"
    assert "serverside-applied" in api.apply_file(found.path)


def test_a_definition_that_is_not_there_is_said_by_name(folder: Path, steps: Steps) -> None:
    with pytest.raises(BuildFailed, match="There is no file /nowhere"):
        programs.crd(steps, "/nowhere", False, folder)
