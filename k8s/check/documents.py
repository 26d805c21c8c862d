"""Manifests as parsed documents: what is in them, and where the pods are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

Document = dict[str, Any]
_SUFFIXES = {
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGT", 1)},
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Pod:
    """A pod that a document will lead to: its template, and what the template belongs to."""

    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]
    claims: tuple[str, ...] = ()
    """Volumes that a StatefulSet adds by its claim templates."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Those that stay."""
        return list(self.spec.get("containers") or ())

    @property
    def every_container(self) -> list[dict[str, Any]]:
        """Those that stay, and those that run first."""
        return [*(self.spec.get("initContainers") or ()), *self.containers]

    @property
    def ports(self) -> dict[str, int]:
        """Container ports by name; one without a name goes by its number."""
        every = [port for container in self.containers for port in container.get("ports") or ()]
        return {port.get("name", str(port["containerPort"])): port["containerPort"] for port in every}

    def limit(self, resource: str) -> Decimal | None:
        """Of the first container; None when it has none."""
        limits = (self.containers[0].get("resources") or {}).get("limits") or {}
        return quantity(limits[resource]) if resource in limits else None


def parse(text: str) -> list[Document]:
    """The documents of a YAML stream, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: Iterable[Document], *kinds: str) -> Iterator[Document]:
    return (document for document in documents if document["kind"] in kinds)


def name_of(document: Document) -> str:
    """For people: `Service/spillway`."""
    return f"{document['kind']}/{document['metadata']['name']}"


def names(documents: Iterable[Document], kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(documents, kind)}


def pods(documents: Iterable[Document]) -> list[Pod]:
    """Every pod template, also those inside a RayService."""
    found = []
    for document in documents:
        owner, spec = name_of(document), document.get("spec") or {}
        if document["kind"] == "RayService":
            cluster = spec["rayClusterConfig"]
            found.append(_pod(f"{owner} head", cluster["headGroupSpec"]["template"]))
            for group in cluster.get("workerGroupSpecs") or ():
                found.append(_pod(f"{owner} group {group['groupName']}", group["template"]))
        elif document["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ())
            found.append(_pod(owner, spec["template"], claims))
        elif document["kind"] == "Pod":
            found.append(_pod(owner, document))
    return found


def quantity(text: str | int) -> Decimal:
    """A Kubernetes quantity as a number: `500m`, `1536Mi`, `2`. Raises `ValueError`."""
    text = str(text)
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix) and text.removesuffix(suffix).replace(".", "", 1).isdigit():
            return Decimal(text.removesuffix(suffix)) * factor
    if not text.replace(".", "", 1).isdigit():
        raise ValueError(f"{text!r} is no quantity that the check knows")
    return Decimal(text)


def _pod(owner: str, template: Document, claims: tuple[str, ...] = ()) -> Pod:
    labels = (template.get("metadata") or {}).get("labels") or {}
    return Pod(owner, labels, template.get("spec") or {}, claims)
