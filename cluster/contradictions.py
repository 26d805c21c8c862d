"""Contradictions: settings that are each in their range and wrong together, or wrong in a way no range tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any

# MongoDB's own names, and paths of ours: the routes refuse them, so no caller could read what /api/data writes there.
_NOT_SERVED = re.compile(r"(?:(?i:admin|local|config)|receipts|status|dead-letters)\.|[^.]+\.system\.|.*\.\.|.*\.$")
_SCHEMES = {"redis_url": ("redis", "rediss", "unix"), "mongodb_uri": ("mongodb", "mongodb+srv")}


def contradictions(settings: Any) -> Iterator[tuple[str, str]]:
    """The setting at fault and what it must be, for each fault in a `cluster.settings.Settings`; never its value."""
    if settings.writer_lanes >= settings.rate_limit_per_s:
        yield "writer_lanes", "must be below rate_limit_per_s"
    if settings.write_concern.isdecimal() and int(settings.write_concern) == 0:
        yield "write_concern", "must not be 0: it asks for no report, and only a report takes a write out of the log"
    if settings.quota_caller_header.lower() == "x-forwarded-for":
        yield "quota_caller_header", "the front door replaces X-Forwarded-For; take another, as X-Real-IP"
    try:
        _ = [ip_network(part.strip()) for part in settings.trusted_proxies.split(",") if part.strip()]
    except ValueError:
        yield "trusted_proxies", "must be addresses or networks such as 10.0.0.0/8, with commas between"
    for name, schemes in _SCHEMES.items():
        if getattr(settings, name).partition("://")[0].lower() not in schemes:
            yield name, f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    database = settings.data_namespace.partition(".")[0]
    if not any(fnmatchcase(database, pattern.strip()) for pattern in settings.databases.split(",")):
        yield "data_namespace", "must name a database that `databases` allows, because /api/data writes there"
    if _NOT_SERVED.match(settings.data_namespace):
        yield "data_namespace", "must be one that /v1/{database}/{collection} takes: no local.x, x.system.y, x.y..z"
    if settings.operation_bytes:
        yield from _too_dear(settings)


def _too_dear(settings: Any) -> Iterator[tuple[str, str]]:
    """Every lane's command is kept back for a crash, and one more has to fit beside them (docs/guarantees.md)."""
    most_bytes = settings.rate_limit_per_s // (settings.writer_lanes + 1) * settings.operation_bytes
    for name, size, at_most in (
        ("batch_max_bytes", settings.batch_max_bytes, most_bytes),
        ("max_document_bytes", settings.max_document_bytes, settings.batch_max_bytes),
    ):
        if size > at_most:
            yield name, f"with operation_bytes at most {at_most}, or fewer writer_lanes"
