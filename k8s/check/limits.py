"""What a pod may take, when it is ready, how it ends: requests, limits, images, probes, drain, confinement. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.settings import Settings
from k8s.check.documents import Document, Fault, Pod, of_kind, pods, quantity
from k8s.check.variables import settings_of

AFTER_DRAIN_S = 30.0
"""What ends a drain after `drain_timeout_s`: the last answers (5 s and 5 s), joining Ray, Ray's own end."""
DRAIN = ["python", "-m", "cluster", "drain"]


def faults(documents: Sequence[Document], ray_version: str) -> list[Fault]:
    """`ray_version`: the one in requirements.txt, which the image holds."""
    found = [fault for pod in pods(documents) for fault in (*_pod(pod), *_drain(pod), *_readiness(pod))]
    for service in of_kind(documents, "RayService"):
        said = service["spec"]["rayClusterConfig"].get("rayVersion")
        if said != ray_version:
            found.append(Fault("RayService", f"rayVersion is {said}, requirements.txt has {ray_version}"))
    return found


def longest_drain_s(settings: Settings) -> float:
    """The longest `python -m cluster drain` may take, with what follows it."""
    return settings.drain_timeout_s + settings.mongodb_timeout_s + AFTER_DRAIN_S


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
    for container in pod.containers:
        hook = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}
        if not pod.owner.startswith("RayService/"):
            continue
        if pod.owner.endswith(" head") != (hook.get("command") == DRAIN):
            # Drained is the whole service, so only the pod that it cannot do without may ask for it.
            yield Fault(pod.owner, f"preStop of the head, and of no worker, must be: {' '.join(DRAIN)}")
        settings = settings_of(pod)
        if hook and isinstance(settings, Settings):
            grace = pod.spec.get("terminationGracePeriodSeconds", 30)
            if grace < longest_drain_s(settings):
                needed = f"{longest_drain_s(settings):g} s"
                yield Fault(pod.owner, f"terminationGracePeriodSeconds is {grace}, a drain may take {needed}")


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
