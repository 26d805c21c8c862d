"""Hosts: the names under which this service may be asked."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address

from starlette.requests import Request

from serve_app.errors import Problem
from serve_app.parameters import headers_of

_REMEMBERED = 128  # callers may send any name


class Hosts:
    """Addresses, localhost, and the names in the setting `allowed_hosts`.

    A site may let its name lead to this machine once its page is loaded (DNS rebinding). To the browser the page then
    asks its own site, `Origin` and all; only the name in `Host` tells. An address or localhost is no such name.
    """

    def __init__(self, listens_on: str, allowed: str) -> None:
        """`allowed`: names or patterns (`fnmatch`), separated by commas. Without any, a service that listens on more
        than loopback takes every name: it is asked under names that it does not know."""
        patterns = [pattern.strip().lower() for pattern in allowed.split(",") if pattern.strip()]
        self._patterns = patterns if patterns or _is_local(listens_on) else ["*"]
        self._is_ours = lru_cache(_REMEMBERED)(self._known)

    def refuse_others(self, request: Request) -> None:
        """Raises `Problem` unknown-host. A request without `Host` is no browser's."""
        host = headers_of(request).get(b"host") or b"localhost"
        if not self._is_ours(host):
            raise Problem(
                "unknown-host",
                f"It was asked as {host[:100].decode('latin-1')}, which any site could make the name of this machine. "
                "Ask localhost or an address, or put the name into the setting allowed_hosts (SPILLWAY_ALLOWED_HOSTS).",
                "Host",
            )

    def _known(self, host: bytes) -> bool:
        text = host.decode("latin-1").lower()
        name = text[1:].partition("]")[0] if text[:1] == "[" else text.partition(":")[0].rstrip(".")
        return (
            name == "localhost"
            or name.endswith(".localhost")
            or _is_address(name)
            or any(fnmatchcase(name, pattern) for pattern in self._patterns)
        )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    return ip_address(host).is_loopback if _is_address(host) else host == "localhost"
