"""What a pod may take, when it is ready, how it ends: requests, limits, images, probes, drain, confinement. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.settings import Settings
from k8s.check.documents import Document, Fault, Pod, of_kind, pods, quantity
from k8s.check.variables import RAY_DRAIN, environment, settings_of

DRAIN = ["python", "-m", "cluster", "drain"]
BESIDE_DRAIN_S = 20.0
"""Its own beside `drain_timeout_s` and `mongodb_timeout_s`: joining Ray (10 s), the last answers (5 s and 5 s)."""
ACTORS = "grep -qsE '^ray::(BufferActor|MongoWriter)' /proc/[0-9]*/cmdline"
"""Is one of our actors in this pod? The head's drain ends them when it has poured."""
RAYS_END_S = 10.0
"""Ray ends its processes one by one, with a second or two for each."""


def faults(documents: Sequence[Document], ray_version: str) -> list[Fault]:
    """`ray_version`: the one in requirements.txt, which the image holds."""
    found = [fault for pod in pods(documents) for fault in (*_pod(pod), *_drain(pod), *_readiness(pod))]
    for service in of_kind(documents, "RayService"):
        said = service["spec"]["rayClusterConfig"].get("rayVersion")
        if said != ray_version:
            found.append(Fault("RayService", f"rayVersion is {said}, requirements.txt has {ray_version}"))
    return found


def longest_drain_s(settings: Settings) -> float:
    """The longest `python -m cluster drain` may take."""
    return settings.drain_timeout_s + settings.mongodb_timeout_s + BESIDE_DRAIN_S


def wait_for_drain(settings: Settings) -> list[str]:
    """The hook with which a worker waits for the head's drain."""
    longest_s = math.ceil(longest_drain_s(settings))
    return ["sh", "-c", f"for _ in $(seq {longest_s}); do {ACTORS} || exit 0; sleep 1; done"]


def _pod(pod: Pod) -> Iterator[Fault]:
    if not (pod.spec.get("securityContext") or {}).get("runAsNonRoot"):
        yield Fault(pod.owner, "securityContext.runAsNonRoot is not true")
    for container in pod.every_container:
        where = f"{pod.owner} container {container['name']}"
        yield from _image(where, str(container.get("image", "")))
        yield from _resources(where, container.get("resources") or {})
        context = container.get("securityContext") or {}
        if context.get("allowPrivilegeEscalation") is not False or not context.get("readOnlyRootFilesystem"):
            yield Fault(where, "needs allowPrivilegeEscalation: false and readOnlyRootFilesystem: true")


def _image(where: str, image: str) -> Iterator[Fault]:
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield Fault(where, f"image {image or '(none)'} is not pinned to a version")


def _resources(where: str, resources: dict[str, Any]) -> Iterator[Fault]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name in ("cpu", "memory"):
        if name not in requests or name not in limits:
            yield Fault(where, f"has no {'request' if name not in requests else 'limit'} of {name}")
        elif quantity(requests[name]) > quantity(limits[name]):
            yield Fault(where, f"requests {requests[name]} of {name}, above its limit of {limits[name]}")


def _drain(pod: Pod) -> Iterator[Fault]:
    """Drained is the whole service, so the head alone asks for it; what is drained may be on workers, so they wait."""
    settings = settings_of(pod)
    if not pod.owner.startswith("RayService/") or not isinstance(settings, Settings):
        return
    hook = ((pod.containers[0].get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}
    wanted = DRAIN if pod.owner.endswith(" head") else wait_for_drain(settings)
    if hook.get("command") != wanted:
        yield Fault(pod.owner, f"preStop must be: {shlex.join(wanted)}")
    rays_drain_s = str(environment(pod).get(RAY_DRAIN))
    if not rays_drain_s.isdigit():
        yield Fault(pod.owner, f"{RAY_DRAIN} is {rays_drain_s}, must be whole seconds")
        return
    grace_s = pod.spec.get("terminationGracePeriodSeconds", 30)
    needed_s = longest_drain_s(settings) + int(rays_drain_s) + RAYS_END_S
    if grace_s < needed_s:
        yield Fault(pod.owner, f"terminationGracePeriodSeconds is {grace_s}, its end may take {needed_s:g} s")


def _readiness(pod: Pod) -> Iterator[Fault]:
    """The operator's own asks a head over HTTP, and a worker with a program that our image does not have."""
    if not pod.owner.startswith("RayService/"):
        return
    probe = pod.containers[0].get("readinessProbe") or {}
    if pod.owner.endswith(" head"):
        if probe:
            yield Fault(pod.owner, "must have no readinessProbe: Serve gets its configuration when the pod is ready")
    elif (probe.get("httpGet") or {}).get("port") not in ("serve", pod.ports.get("serve", "serve")):
        yield Fault(pod.owner, "needs a readinessProbe with httpGet on its port serve: the operator's calls wget")
