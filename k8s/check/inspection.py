"""All checks of one overlay that need no API server, under the names the report gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from cluster.state import PROJECT_ROOT
from k8s.check import agreement, limits, references, render, serve, variables
from k8s.check.documents import Document, Fault, parse

SECRETS = render.FOLDER / "secrets.example.yaml"
REQUIREMENTS = PROJECT_ROOT / "requirements.txt"
OVERLAYS = tuple(sorted(path.parent.name for path in (render.FOLDER / "overlays").glob("*/kustomization.yaml")))


def inspect(documents: Sequence[Document]) -> dict[str, list[Fault]]:
    """The faults of one overlay, by check."""
    checks: dict[str, Callable[[], list[Fault]]] = {
        "names, ports, Secrets, volumes": lambda: references.faults(documents, secrets()),
        "requests, limits, images, drain": lambda: limits.faults(documents, ray_version()),
        "environment and settings": lambda: variables.faults(documents),
        "ports, descriptors, memory agree": lambda: agreement.faults(documents),
        "Serve config: schema, keys, options": lambda: serve.faults(documents),
    }
    return {name: check() for name, check in checks.items()}


def drift() -> list[Fault]:
    """Files made from cluster/ that somebody has edited, or not made again."""
    paths = (str(path.relative_to(PROJECT_ROOT)) for path in render.drifted())
    return [Fault(path, "is not what `make k8s-render` makes") for path in paths]


def secrets() -> list[Document]:
    """What k8s/setup.sh brings, by its example."""
    return parse(SECRETS.read_text())


def ray_version() -> str:
    """Ray's version in requirements.txt."""
    pinned = re.search(r"^ray\S*==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert pinned is not None
    return pinned[1]
