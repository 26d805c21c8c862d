"""The base's manifests as documents, the way kustomize would join them, for tests that plant a mistake in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from k8s.check.documents import Document, parse
from k8s.check.render import FOLDER

BASE = FOLDER / "base"
Plant = Callable[[Any], None]


def base() -> list[Document]:
    """Fresh documents: change them as you like."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    documents = [document for name in kustomization["resources"] for document in parse((BASE / name).read_text())]
    for generated in kustomization["configMapGenerator"]:
        data = {Path(name).name: (BASE / name).read_text() for name in generated["files"]}
        documents.append({"kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data})
    (patch,) = parse((BASE / "serve-config.yaml").read_text())
    service = find(documents, "RayService")
    service["spec"] |= patch["spec"]
    for image in kustomization["images"]:
        for container in head(documents)["containers"]:
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return copy.deepcopy(documents)  # YAML's anchors make one object of two places


def without_mongodb() -> list[Document]:
    """The base after components/external-mongodb, as far as that deletes, and tests and replaces by JSON patch."""
    folder = FOLDER / "components" / "external-mongodb"
    documents = base()
    for patch in yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]:
        document = find(documents, **patch["target"])
        change = yaml.safe_load((folder / patch["path"]).read_text())
        if isinstance(change, dict):
            assert change["$patch"] == "delete"
            documents.remove(document)
            continue
        apply(change, document)
    return documents


def with_workers(documents: list[Document]) -> Document:
    """A group of workers as components/workers makes it of the head; returns its pod's spec."""
    found = add_worker(documents)
    change = yaml.safe_load((FOLDER / "components" / "workers" / "worker.yaml").read_text())
    apply(change, find(documents, "RayService"))
    return found


def apply(change: list[Document], document: Document) -> None:
    """A JSON patch, as far as ours of workers and of MongoDB go: nothing is added to a list."""
    for step in change:
        *way, last = [part.replace("~1", "/") for part in step["path"].split("/")[1:]]
        place: Any = document
        for name in way:
            place = place[int(name) if isinstance(place, list) else name]
        at: Any = int(last) if isinstance(place, list) else last
        if step["op"] == "test":
            assert place[at] == step["value"]
        elif step["op"] == "remove":
            del place[at]
        else:
            assert step["op"] == "replace" or (step["op"] == "add" and isinstance(place, dict))
            place[at] = step["value"]


def find(documents: list[Document], kind: str, name: str = "spillway") -> Document:
    """The one of this kind and name."""
    (found,) = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def head(documents: list[Document]) -> Document:
    """The spec of the head's pod."""
    spec: Document = find(documents, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    return spec


def container(documents: list[Document]) -> Document:
    """The head's container."""
    found: Document = head(documents)["containers"][0]
    return found


def add_worker(documents: list[Document]) -> Document:
    """A group of workers as components/worker-template makes it, a copy of the head; returns its pod's spec."""
    cluster = find(documents, "RayService")["spec"]["rayClusterConfig"]
    template: Document = copy.deepcopy(cluster["headGroupSpec"]["template"])
    cluster["workerGroupSpecs"] = [{"groupName": "edge", "rayStartParams": {}, "template": template}]
    found: Document = template["spec"]
    return found


def stateful(documents: list[Document], name: str) -> Document:
    """The pod's spec of a StatefulSet."""
    spec: Document = find(documents, "StatefulSet", name)["spec"]["template"]["spec"]
    return spec


def set_variable(documents: list[Document], name: str, value: str) -> None:
    """In the head's environment, in place of one of that name."""
    entries = container(documents)["env"]
    given = {"name": name, "value": value}
    entries[:] = [given if entry["name"] == name else entry for entry in entries]
    if given not in entries:
        entries.append(given)


def unset_variable(documents: list[Document], name: str) -> None:
    """In the head's environment."""
    entries = container(documents)["env"]
    entries[:] = [entry for entry in entries if entry["name"] != name]


def edit_serve(documents: list[Document], change: Plant) -> None:
    """Changes the parsed Serve config in place."""
    spec = find(documents, "RayService")["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    change(config)
    spec["serveConfigV2"] = yaml.safe_dump(config)
