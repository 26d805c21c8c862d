"""What Kubernetes itself says to an overlay: all of it applied, and each pod that would come of it tried on its own."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k8s.check.control_plane import Api, Refused
from k8s.check.documents import Document, Fault, Pod, name_of, names, of_kind, pods

ESTABLISHED_S = 60


def install(api: Api, definition: Path) -> None:
    """Makes the API server know RayService, and returns when it does. Raises `Refused`."""
    api.apply_file(definition)
    deadline = time.monotonic() + ESTABLISHED_S
    while True:
        try:
            api.run("get", "rayservices.ray.io", "--all-namespaces")
            return
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def faults(api: Api, documents: Sequence[Document], given: Sequence[Document] = ()) -> list[Fault]:
    """What the API server refuses; everything is taken away again, so that overlays do not meet."""
    (namespace,) = names(documents, "Namespace")
    others = [document for document in documents if document["kind"] != "Namespace"]
    secrets = [{**document, "metadata": {**document["metadata"], "namespace": namespace}} for document in given]
    found = []
    try:
        # One after the other, or the first refusal would hide the next.
        for document in [*of_kind(documents, "Namespace"), *secrets, *others]:
            found += _applied(api, name_of(document), document)
        for pod in pods(documents):
            # RayService's schema declares a pod's fields, but only a Pod is checked as one: names, mounts, quantities,
            # and the security level of the namespace.
            found += _applied(api, f"{pod.owner} as a Pod", as_pod(pod, namespace), dry_run=True)
    finally:
        leaving = [f"{document['kind'].lower()}/{document['metadata']['name']}" for document in [*secrets, *others]]
        api.run("delete", "--namespace", namespace, "--ignore-not-found", "--wait=false", *leaving)
    return found


def as_pod(pod: Pod, namespace: str) -> Document:
    """The pod alone. Volumes that a StatefulSet would claim are empty here."""
    name = re.sub(r"[^a-z0-9]+", "-", pod.owner.lower())
    volumes = [*(pod.spec.get("volumes") or ()), *({"name": claim, "emptyDir": {}} for claim in pod.claims)]
    metadata = {"name": name, "namespace": namespace, "labels": pod.labels}
    spec: dict[str, Any] = {**pod.spec, "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _applied(api: Api, where: str, document: Document, *, dry_run: bool = False) -> list[Fault]:
    try:
        api.apply([document], dry_run=dry_run)
    except Refused as error:
        return [Fault(where, str(error))]
    return []
