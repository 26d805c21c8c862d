"""Questions to the running service over HTTP: is it ready, and how is it doing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

# Never through a proxy: HTTP_PROXY is for the registries, the service is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ready(url: str, timeout_s: float = 1.0) -> bool:
    """Whether GET /readyz answers 200 in time."""
    try:
        with _OPENER.open(f"{url}/readyz", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def status(url: str, timeout_s: float = 1.5) -> dict[str, Any] | None:
    """What GET /v1/status says; None when there is no answer in time or it is not a JSON object."""
    try:
        with _OPENER.open(f"{url}/v1/status", timeout=timeout_s) as answer:
            body = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None
