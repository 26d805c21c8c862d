"""Serve's config API on the dashboard: another number of replicas, without a restart of anything."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from loadtests.service import Addresses, ServiceError

APPLICATIONS = "/api/serve/applications/"
CHANGE_S = 120.0
POLL_S = 0.5
APPLICATION, DEPLOYMENT = "spillway", "Edge"


def set_replicas(addresses: Addresses, replicas: int) -> None:
    """Tell Serve the number of replicas and wait until as many run. Raises ServiceError."""
    found = _ask(addresses, "GET")
    _ask(addresses, "PUT", with_replicas(found, replicas))
    deadline = time.monotonic() + CHANGE_S
    while running(_ask(addresses, "GET")) != replicas:
        if time.monotonic() > deadline:
            raise ServiceError(f"Serve did not come to {replicas} replicas within {CHANGE_S:.0f} s")
        time.sleep(POLL_S)


def deploy_beside(addresses: Addresses, name: str, route: str, import_path: str) -> None:
    """Deploy another application beside ours and wait until it runs. Raises ServiceError."""
    found = _ask(addresses, "GET")
    config = with_replicas(found, max(1, running(found)))
    config["applications"].append({"name": name, "route_prefix": route, "import_path": import_path})
    _ask(addresses, "PUT", config)
    deadline = time.monotonic() + CHANGE_S
    while (state := _ask(addresses, "GET").get("applications", {}).get(name, {})).get("status") != "RUNNING":
        if time.monotonic() > deadline or state.get("status") == "DEPLOY_FAILED":
            raise ServiceError(f"Serve did not deploy {import_path}: {state.get('message') or state.get('status')}")
        time.sleep(POLL_S)


def with_replicas(found: dict[str, Any], replicas: int) -> dict[str, Any]:
    """The configuration that is deployed, with another number of replicas; nothing else changes, so nothing restarts.

    Raises ServiceError for an answer without it.
    """
    try:
        application = json.loads(json.dumps(found["applications"][APPLICATION]["deployed_app_config"]))
        deployments = {item["name"]: item for item in application.get("deployments", [])}
    except (KeyError, TypeError) as error:
        raise ServiceError(f"Serve tells no configuration of {APPLICATION}: {error}") from error
    edge = deployments.setdefault(DEPLOYMENT, {"name": DEPLOYMENT})
    edge.pop("autoscaling_config", None)  # Serve takes either a number or a policy
    edge["num_replicas"] = replicas
    application["deployments"] = list(deployments.values())
    config: dict[str, Any] = {"applications": [application]}
    if found.get("proxy_location"):
        config["proxy_location"] = found["proxy_location"]
    http = {name: found.get("http_options", {}).get(name) for name in ("host", "port")}
    if all(http.values()):
        config["http_options"] = http  # they cannot change while Serve runs; told again, as it wants it
    return config


def running(found: dict[str, Any]) -> int:
    """How many replicas run, when none is on its way in or out; else -1."""
    try:
        deployment = found["applications"][APPLICATION]["deployments"][DEPLOYMENT]
        states = [replica["state"] for replica in deployment["replicas"]]
    except (KeyError, TypeError):
        return -1
    settled = deployment.get("status") == "HEALTHY" and set(states) <= {"RUNNING"}
    return len(states) if settled else -1


def _ask(addresses: Addresses, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    if addresses.dashboard_url is None or addresses.token_file is None:
        raise ServiceError("the running service tells no dashboard, so its replicas cannot be changed")
    request = urllib.request.Request(
        addresses.dashboard_url + APPLICATIONS,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {addresses.token_file.read_text().strip()}", "Content-Type": "application/json"},
        method=method,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise ServiceError(f"Serve's config API answered {error.code}: {error.read()[:300].decode()}") from error
    except OSError as error:
        raise ServiceError(f"Serve's config API does not answer: {error}") from error
    found = json.loads(text) if text.strip() else {}
    return found if isinstance(found, dict) else {}
