"""The Serve config, cluster/serve.yaml: its `args` are settings, which go before the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cluster import config_file

SERVE_CONFIG = Path(__file__).with_name("serve.yaml")
BUILDER = "serve_app.app:build"
OF_A_RUN = ("redis_url", "mongodb_uri", "direct_port")
"""Settings that `up` decides, having read `args`: the witness may stand before MongoDB, and a port may be taken."""


def args() -> dict[str, Any]:
    """The settings in `args`, for whoever is not started by Serve. Raises `ValueError`, which repeats no value."""
    try:
        found = _args(config_file.read(str(SERVE_CONFIG)))
    except ValueError as error:
        raise ValueError(f"{SERVE_CONFIG} cannot be used: {error}") from None
    return dict(found)


def for_a_run(text: str, host: str, port: int) -> dict[str, Any]:
    """The file with the front door's address put in, and what is `OF_A_RUN` left to the environment."""
    config: dict[str, Any] = yaml.safe_load(text)
    config["http_options"] = {**(config.get("http_options") or {}), "host": host, "port": port}
    found = _args(config)
    for name in OF_A_RUN:
        found.pop(name, None)
    return config


def _args(config: dict[str, Any]) -> dict[Any, Any]:
    """Those of our application. Raises `ValueError`."""
    applications = config.get("applications") or []
    ours = [one for one in applications if isinstance(one, dict) and one.get("import_path") == BUILDER]
    found = (ours[0].get("args") if ours else None) or {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError("its args must be of the form `name: value`")
    return found
