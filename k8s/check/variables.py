"""The environment of a pod: who reads each variable, and what settings it makes. Pure."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cluster.ray_environment import tuning
from cluster.settings import CONFIG_FILE_VARIABLE, ENV_PREFIX, Settings, SettingsError, load
from k8s.check.documents import Document, Fault, Pod, pods

OPEN_FILES = "RAY_START_ULIMIT_OPEN_FILES"
OF_THE_OPERATOR = {OPEN_FILES}
RAY_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""Seconds for which `ray start --block` drains its node after SIGTERM; 30 unless it is set."""
OF_THE_IMAGES = {"HOME", "REDISCLI_AUTH", "MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD", "MEMBER"}
_SERVE_CONSTANTS = ("serve/_private/constants.py", "serve/_private/constants_utils.py")


def settings_of(pod: Pod) -> Settings | Fault:
    """The settings as the pod's environment makes them; what comes from a Secret keeps its default."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    chosen = {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environment(pod).items()
        if name.startswith(ENV_PREFIX) and value is not None
    }
    try:
        return load(**defaults | {name: value for name, value in chosen.items() if name in defaults})
    except SettingsError as error:
        return Fault(pod.owner, " ".join(str(error).split()))


def environment(pod: Pod) -> dict[str, Any]:
    """Variables of the pod's first container; None for those whose value comes from elsewhere."""
    return {entry["name"]: entry.get("value") for entry in pod.containers[0].get("env") or ()}


def faults(documents: Sequence[Document]) -> list[Fault]:
    """Variables that nobody reads, and values that the settings refuse."""
    found: list[Fault] = []
    for pod in pods(documents):
        found += _names(pod)
        settings = settings_of(pod)
        if isinstance(settings, Fault):
            found.append(settings)
    return found


def _names(pod: Pod) -> Iterator[Fault]:
    for container in pod.every_container:
        for entry in container.get("env") or ():
            if not _is_known(entry["name"]):
                yield Fault(pod.owner, f"nobody reads the variable {entry['name']}")


def _is_known(name: str) -> bool:
    if name.startswith(ENV_PREFIX):
        return name == CONFIG_FILE_VARIABLE or name.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
    if name.startswith("RAY_SERVE_"):
        return name in _serve_variables()
    return name in tuning(1_000_000, 1) or name in OF_THE_OPERATOR | OF_THE_IMAGES | {RAY_DRAIN}


@cache
def _serve_variables() -> frozenset[str]:
    """Variables that Ray Serve reads, by the text of its source: importing it takes seconds and reads them."""
    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.submodule_search_locations
    root = Path(next(iter(package.submodule_search_locations)))
    text = "".join((root / name).read_text() for name in _SERVE_CONSTANTS if (root / name).exists())
    return frozenset(re.findall(r"RAY_SERVE_[A-Z0-9_]+", text))
